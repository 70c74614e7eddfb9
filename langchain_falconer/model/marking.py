"""Steps over spans: the span is marked in its text, and the marked text is asked like any other."""

from __future__ import annotations

from dataclasses import dataclass

_OPEN, _CLOSE = "« ", " »"


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with one span marked; ``unmap`` takes offsets in ``marked`` back to the original text."""

    text: str
    start: int
    end: int

    @property
    def marked(self) -> str:
        """The text with the span between guillemets."""
        return f"{self.text[: self.start]}{_OPEN}{self.text[self.start : self.end]}{_CLOSE}{self.text[self.end :]}"

    def unmap(self, position: int) -> int:
        """The offset in the original text of an offset in the marked one."""
        if position >= self.end + len(_OPEN):
            return max(self.end, position - len(_OPEN) - len(_CLOSE))
        return min(position, max(self.start, position - len(_OPEN)))

    def map(self, position: int, *, is_end: bool) -> int:
        """The offset in the marked text of an offset in the original one."""
        after_open = position > self.start or (position == self.start and not is_end)
        after_close = position > self.end or (position == self.end and not is_end)
        return position + len(_OPEN) * after_open + len(_CLOSE) * after_close


def mark(text: str, start: int, end: int) -> str:
    """The text as the proxy reads it when a step asks about its span ``[start, end)``."""
    return Marked(text, start, end).marked
