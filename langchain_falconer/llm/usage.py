"""Usage of LLM calls, and the account that it is entered in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of LLM calls.

    Attributes:
        calls: Number of calls.
        input_tokens: Number of input tokens.
        output_tokens: Number of output tokens.
        usd: Price in USD; ``None`` if unknown.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum; its price is unknown if that of a side is, unless the side is empty."""
        priced = [u.usd for u in (self, other) if u != Usage()]
        usd = None if not priced or None in priced else sum(p for p in priced if p is not None)
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            usd,
        )


class Meter(Protocol):
    """An account of attempts, which may refuse them; called from several threads."""

    def reserve(self, estimated: Usage) -> None:
        """Enter an attempt, retries included, before it is made; raise :class:`BudgetError` to refuse it."""

    def settle(self, estimated: Usage, used: Usage) -> None:
        """Replace the estimate of an attempt by its real usage, failed attempts included."""


def estimate_tokens(text: str) -> int:
    """Estimate tokens with caution: three UTF-8 bytes per token, so that it holds for scripts other than Latin too."""
    return len(text.encode("utf-8", "surrogatepass")) // 3 + 1
