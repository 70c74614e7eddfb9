"""Marking of a span in its text, which makes a question about the span one about the marked text."""

from __future__ import annotations

from dataclasses import dataclass

_OPEN, _CLOSE = "« ", " »"


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with one span marked.

    Attributes:
        text: The original text.
        start: Start of the span, in characters.
        end: End of the span, in characters.
    """

    text: str
    start: int
    end: int

    @property
    def marked(self) -> str:
        """The text with the span between guillemets."""
        return f"{self.text[: self.start]}{_OPEN}{self.text[self.start : self.end]}{_CLOSE}{self.text[self.end :]}"

    def unmap(self, position: int) -> int:
        """Convert an offset in the marked text to one in the original text."""
        if position >= self.end + len(_OPEN):
            return max(self.end, position - len(_OPEN) - len(_CLOSE))
        return min(position, max(self.start, position - len(_OPEN)))

    def map(self, position: int, *, is_end: bool) -> int:
        """Convert an offset in the original text to one in the marked text."""
        after_open = position > self.start or (position == self.start and not is_end)
        after_close = position > self.end or (position == self.end and not is_end)
        return position + len(_OPEN) * after_open + len(_CLOSE) * after_close


def mark(text: str, start: int, end: int) -> str:
    """Return the text with its span ``[start, end)`` marked, as the proxy reads it for steps about the span."""
    return Marked(text, start, end).marked
