"""Grounding: from verbatim quotes to exact offsets. A quote that is not there is rejected, never shifted."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from langchain_falconer.records import Span

# Scripts written without spaces: an occurrence inside a run of them is a word as good as any.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Grounding:
    """Where quotes stand in a text: spans sorted by offset, never overlapping, and the quotes that have no place."""

    spans: tuple[Span, ...]
    rejected: tuple[str, ...]


def ground(text: str, quotes: Sequence[str]) -> Grounding:
    """Find each quote in the text, character by character.

    Quotes are expected in order of appearance: each takes the leftmost free occurrence at or after the last one
    found, else the leftmost free one anywhere; occurrences at word boundaries come before those inside a word. An
    occurrence that would cut a number ("$99" in "$999") does not count. White space around a quote is dropped.

    Args:
        text: the text that was quoted.
        quotes: pieces of it, as the LLM wrote them.

    Returns:
        The spans, in Python code points, and the quotes that were rejected (blank, not verbatim, or quoted more
        often than they occur).
    """
    taken = bytearray(len(text))
    places: dict[str, _Places] = {}
    spans: list[Span] = []
    rejected: list[str] = []
    cursor = 0
    for quote in quotes:
        needle = quote.strip()
        if needle not in places:
            places[needle] = _Places(text, needle)
        start = places[needle].take(taken, cursor)
        if start is None:
            rejected.append(quote)
            continue
        cursor = start + len(needle)
        spans.append(Span.at(text, start, cursor))
    return Grounding(tuple(sorted(spans, key=lambda span: span.start)), tuple(rejected))


class _Places:
    """The occurrences of one quote that are still free: at word boundaries, and inside words."""

    def __init__(self, text: str, needle: str) -> None:
        self._size = len(needle)
        bounded: list[int] = []
        inside: list[int] = []
        for start in _occurrences(text, needle):
            end = start + len(needle)
            if not (_cuts_number(text, start) or _cuts_number(text, end)):
                (inside if _cuts_word(text, start) or _cuts_word(text, end) else bounded).append(start)
        self._ranks = [bounded, inside]

    def take(self, taken: bytearray, cursor: int) -> int | None:
        """Occupy the best free occurrence and return its start."""
        for rank, starts in enumerate(self._ranks):
            onward = range(bisect_left(starts, cursor), len(starts))
            at = next((starts[i] for i in onward if self._free(taken, starts[i])), None)
            if at is None:
                # What is taken stays taken: drop it, so that many repeats of a quote stay cheap.
                self._ranks[rank] = [s for s in starts if self._free(taken, s)]
                at = next(iter(self._ranks[rank]), None)
            if at is not None:
                taken[at : at + self._size] = b"\x01" * self._size
                return at
        return None

    def _free(self, taken: bytearray, start: int) -> bool:
        return taken.find(1, start, start + self._size) < 0


def _occurrences(text: str, needle: str) -> Iterator[int]:
    at = text.find(needle) if needle else -1
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)


def _cuts_word(text: str, at: int) -> bool:
    """Whether a cut before ``text[at]`` goes through a word, a composed character or a joined emoji."""
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    if unicodedata.category(right)[0] == "M" or _JOINER in (left, right):
        return True
    return _in_word(left) and _in_word(right)


def _in_word(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char == "_"
    if unicodedata.category(char)[0] == "M":
        return True
    return char.isalnum() and not unicodedata.name(char, "").startswith(_UNSPACED)


def _cuts_number(text: str, at: int) -> bool:
    """Whether a cut before ``text[at]`` goes through a number, its decimals or its thousands included."""
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    if left.isdecimal():
        return right.isdecimal() or _goes_on(text, at)
    return right.isdecimal() and at > 1 and text[at - 2].isdecimal() and _goes_on(text, at - 1)


def _goes_on(text: str, mark: int) -> bool:
    """Whether the mark after a digit belongs to the number: a point before a digit, a comma before three."""
    following = text[mark + 1 : mark + 5]
    if text[mark] == ".":
        return following[:1].isdecimal()
    return text[mark] == "," and following[:3].isdecimal() and len(following[:3]) == 3 and not following[3:].isdecimal()
