"""Long documents in passages: offsets that lose no character but blanks, cut where a reader would pause."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from langchain_falconer.errors import CorpusError

_PAUSE = re.compile(r"\s+|(?<=[。！？])")  # CJK sentences end without a blank
_SENTENCE_END = re.compile(r"[.!?…。！？]['\"”’»)\]]{0,3}$")
_PARAGRAPH, _SENTENCE, _LINE, _WORD = range(4)


def split_passages(text: str, max_chars: int = 1200) -> list[tuple[int, int]]:
    """Passages of a text as (start, end) code-point offsets.

    They come in order and do not overlap, cover every character that is not a blank, and none is longer than
    ``max_chars``. A text of at most that length is one passage, whole. A longer one is cut at paragraphs, else
    sentences, lines, words, else between characters (kept with their combining marks where possible), each time
    nearest to what would make the remaining passages equally long. Takes time linear in the text.

    Raises:
        CorpusError: ``max_chars`` is below 1.
    """
    if max_chars < 1:
        raise CorpusError(f"max_chars is {max_chars}; let a passage hold at least 1 character")
    if len(text) <= max_chars:
        return [(0, len(text))]
    end = len(text.rstrip())
    start = _skip_blanks(text, 0)
    passages: list[tuple[int, int]] = []
    while start < end:
        cut = end if end - start <= max_chars else _cut(text, start, end, max_chars)
        passages.append((start, _back_over_blanks(text, cut)))
        start = _skip_blanks(text, cut)
    return passages


def overlapping(text: str, passages: Sequence[tuple[int, int]], reach: int) -> list[tuple[int, int]]:
    """The passages of :func:`split_passages`, each but the first begun up to ``reach`` characters earlier.

    Each begins where a sentence begins, if one does between half and the whole of ``reach`` before, else with a word.
    So words that straddle a cut, together at most half of ``reach`` long, lie whole in the passage after it.
    """
    later = [(_earlier(text, before, start, reach), end) for (before, _), (start, end) in pairwise(passages)]
    return [*passages[:1], *later]


def _earlier(text: str, before: int, start: int, reach: int) -> int:
    """Where to begin instead of at ``start``; ``before`` is where the passage before begins."""
    if start - reach <= before:
        return before
    begins = []
    for found in _PAUSE.finditer(text, start - reach, start):
        place = found.end()
        if place < start and not _joined(text, place):
            far = place <= start - reach / 2
            is_sentence = far and _rank(text, found.start(), found.group()) in (_PARAGRAPH, _SENTENCE)
            begins.append((not is_sentence, place))
    if begins:
        return min(begins)[1]
    return next((place for place in range(start - reach, start) if not _joined(text, place)), start)


def _cut(text: str, start: int, end: int, max_chars: int) -> int:
    """Where the passage from ``start`` ends best, when the text up to ``end`` does not fit into one."""
    left = end - start
    ideal = start - (-left // -(-left // max_chars))  # two ceilings: the length of equally long passages
    least = max(1, max_chars // 4)  # each cut moves on by this much, hence linear time; nor is the last one tiny
    low, high = start + least, start + min(max_chars, left - least)
    pauses = (
        (_rank(text, found.start(), found.group()), abs(found.start() - ideal), found.start())
        for found in _PAUSE.finditer(text, low, high + 1)
        if found.start() <= high and not _joined(text, found.end())
    )
    best = min(pauses, default=None)
    if best:
        return best[2]
    between = (*range(min(ideal, high), low - 1, -1), *range(ideal + 1, high + 1))
    return next((place for place in between if not _joined(text, place)), min(ideal, high))


def _rank(text: str, place: int, blanks: str) -> int:
    if blanks.count("\n") > 1 or "\u2029" in blanks:
        return _PARAGRAPH
    if not blanks or _SENTENCE_END.search(text[max(0, place - 4) : place]):
        return _SENTENCE
    return _LINE if "\n" in blanks else _WORD


def _joined(text: str, place: int) -> bool:
    """Whether the character at ``place`` belongs to the one before it (an approximation of Unicode's UAX 29)."""
    if not 0 < place < len(text):
        return False
    before, here = text[place - 1], text[place]
    return (
        unicodedata.category(here) in ("Mn", "Mc", "Me")
        or here in "\u200d\u200c"
        or before == "\u200d"
        or "\U0001f3fb" <= here <= "\U0001f3ff"  # skin tones
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= here <= "\udfff")
    )


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _back_over_blanks(text: str, place: int) -> int:
    while text[place - 1].isspace():
        place -= 1
    return place
