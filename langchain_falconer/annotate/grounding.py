"""Grounding: exact offsets of verbatim quotes. A quote that the text does not contain is rejected, never shifted."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from langchain_falconer.corpus import is_joined
from langchain_falconer.records import FrozenModel, Span

# Scripts without spaces between words: every position in them may be a word boundary.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


@dataclass(frozen=True, slots=True)
class Grounding:
    """Quotes located in a text.

    Attributes:
        spans: Spans of the quotes, sorted by offset, without overlap.
        rejected: Quotes without an occurrence.
    """

    spans: tuple[Span, ...]
    rejected: tuple[str, ...]


class UnplacedQuote(FrozenModel):
    """A quote that an LLM gave as a span and that has no place in its text.

    Attributes:
        text: The text.
        step: Id of the step.
        quote: The quote, as the LLM wrote it.
        reason: Why it has no place, in words.
    """

    text: str
    step: str
    quote: str
    reason: str

    @classmethod
    def of(cls, text: str, step: str, quote: str) -> UnplacedQuote:
        """Return a rejected quote with its reason."""
        needle = quote.strip()
        if not needle:
            reason = "it is empty"
        elif needle in text:
            reason = "the text has it less often than it was quoted, or only as a part of a number"
        elif "".join(needle.casefold().split()) in "".join(text.casefold().split()):
            reason = "the text has it in other letters or with other spaces"
        else:
            reason = "the text does not have it"
        return cls(text=text, step=step, quote=quote, reason=reason)


def ground(text: str, quotes: Sequence[str]) -> Grounding:
    """Find each quote in the text, character by character.

    Quotes are expected in order of appearance: each takes the leftmost free occurrence at or after the end of the
    previous one, else the leftmost free one anywhere; occurrences at word boundaries come before those inside a word.
    An occurrence that would cut a number ("$99" in "$999") does not count. White space around a quote is dropped.

    Args:
        text: The text.
        quotes: Pieces of it, as the LLM wrote them.

    Returns:
        The spans, in Python code points, and the rejected quotes (blank, not verbatim, or quoted more often than they
        occur).
    """
    occupied = bytearray(len(text))
    occurrences: dict[str, _Occurrences] = {}
    spans: list[Span] = []
    rejected: list[str] = []
    cursor = 0
    for quote in quotes:
        needle = quote.strip()
        if needle not in occurrences:
            occurrences[needle] = _Occurrences(text, needle)
        start = occurrences[needle].occupy(occupied, cursor)
        if start is None:
            rejected.append(quote)
            continue
        cursor = start + len(needle)
        spans.append(Span.at(text, start, cursor))
    return Grounding(tuple(sorted(spans, key=lambda span: span.start)), tuple(rejected))


class _Occurrences:
    """The free occurrences of one quote: at word boundaries, and inside words."""

    def __init__(self, text: str, needle: str) -> None:
        self._size = len(needle)
        bounded: list[int] = []
        inside: list[int] = []
        for start in _find_all(text, needle):
            end = start + len(needle)
            if not (_cuts_number(text, start) or _cuts_number(text, end)):
                (inside if _cuts_word(text, start) or _cuts_word(text, end) else bounded).append(start)
        self._ranks = [bounded, inside]

    def occupy(self, occupied: bytearray, cursor: int) -> int | None:
        """Occupy the best free occurrence and return its start."""
        for rank, starts in enumerate(self._ranks):
            onward = range(bisect_left(starts, cursor), len(starts))
            at = next((starts[i] for i in onward if self._is_free(occupied, starts[i])), None)
            if at is None:
                # Occupied positions never become free: drop them, so that many repeats of a quote stay cheap.
                self._ranks[rank] = [s for s in starts if self._is_free(occupied, s)]
                at = next(iter(self._ranks[rank]), None)
            if at is not None:
                occupied[at : at + self._size] = b"\x01" * self._size
                return at
        return None

    def _is_free(self, occupied: bytearray, start: int) -> bool:
        return occupied.find(1, start, start + self._size) < 0


def _find_all(text: str, needle: str) -> Iterator[int]:
    at = text.find(needle) if needle else -1
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)


def _cuts_word(text: str, at: int) -> bool:
    """Return whether a cut before ``text[at]`` divides a word or a composed character."""
    if not 0 < at < len(text):
        return False
    return is_joined(text, at) or (_in_word(text[at - 1]) and _in_word(text[at]))


def _in_word(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char == "_"
    if unicodedata.category(char)[0] == "M":
        return True
    return char.isalnum() and not unicodedata.name(char, "").startswith(_UNSPACED)


def _cuts_number(text: str, at: int) -> bool:
    """Return whether a cut before ``text[at]`` divides a number, its decimals and thousands included."""
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    if left.isdecimal():
        return right.isdecimal() or _continues_number(text, at)
    return right.isdecimal() and at > 1 and text[at - 2].isdecimal() and _continues_number(text, at - 1)


def _continues_number(text: str, mark: int) -> bool:
    """Return whether the mark after a digit is part of the number: a point before a digit, a comma before three."""
    following = text[mark + 1 : mark + 5]
    if text[mark] == ".":
        return following[:1].isdecimal()
    return text[mark] == "," and following[:3].isdecimal() and len(following[:3]) == 3 and not following[3:].isdecimal()
