"""Splitting of long documents into passages at paragraphs, sentences, lines or words; only blanks are dropped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.errors import CorpusError

_PAUSE = re.compile(r"\s+|(?<=[。！？])")  # CJK sentences end without a blank
_SENTENCE_END = re.compile(r"[.!?…。！？]['\"”’»)\]]{0,3}$")
_PARAGRAPH, _SENTENCE, _LINE, _WORD = range(4)
_REPORT_EVERY = 500


def split_passages(text: str, max_chars: int = 1200) -> list[tuple[int, int]]:
    """Split a text into passages.

    Passages do not overlap and cover every character that is not a blank. A text of at most ``max_chars`` is one
    passage, whole. A longer one is cut at paragraphs, else sentences, lines, words, else between characters (with
    their combining marks where possible), each time nearest to the point that would make the remaining passages
    equally long. The time is linear in the length of the text.

    Args:
        text: The text.
        max_chars: Maximum length of a passage in characters. Default 1,200.

    Returns:
        Code-point offsets (start, end) in order.

    Raises:
        CorpusError: ``max_chars`` is below 1.
    """
    if max_chars < 1:
        raise CorpusError(f"max_chars is {max_chars}; set it to at least 1")
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
    """Extend passages to the left so that neighbours overlap.

    A passage starts at a sentence, if one starts between half and the whole of ``reach`` before it, else at a word.
    Words on both sides of a cut, together at most half of ``reach`` long, therefore lie whole in the later passage.

    Args:
        text: The text.
        passages: Offsets from :func:`split_passages`.
        reach: Maximum extension in characters.

    Returns:
        Offsets with the same ends; the first passage is unchanged.
    """
    later = [(_extended_start(text, before, start, reach), end) for (before, _), (start, end) in pairwise(passages)]
    return [*passages[:1], *later]


class Passages:
    """The passages of a corpus, counted while they are iterated.

    Args:
        corpus: The documents and unreadable rows.
        max_chars: Maximum length of a passage in characters.
        on_document: Receives the number of rows, every 500 of them.

    Attributes:
        documents: Number of rows, unreadable ones included.
        bad_rows: Number of unreadable rows.
        passages: Number of passages.
        chars: Total length of the passages in characters.
        longest: Length of the longest document in characters.
    """

    def __init__(
        self,
        corpus: Iterable[Document | BadRow],
        max_chars: int,
        on_document: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._corpus = corpus
        self._max_chars = max_chars
        self._on_document = on_document
        self.documents = self.bad_rows = self.passages = self.chars = self.longest = 0

    def __iter__(self) -> Iterator[str]:
        for row in self._corpus:
            self.documents += 1
            if self.documents % _REPORT_EVERY == 0:
                self._on_document(self.documents)
            if isinstance(row, BadRow):
                self.bad_rows += 1
                continue
            self.longest = max(self.longest, len(row.text))
            for start, end in split_passages(row.text, self._max_chars):
                self.passages += 1
                self.chars += end - start
                yield row.text[start:end]


def _extended_start(text: str, previous: int, start: int, reach: int) -> int:
    """Return an earlier start of a passage; ``previous`` is the start of the passage before it."""
    if start - reach <= previous:
        return previous
    candidates = []
    for pause in _PAUSE.finditer(text, start - reach, start):
        offset = pause.end()
        if offset < start and not is_joined(text, offset):
            is_far = offset <= start - reach / 2
            is_sentence = is_far and _rank(text, pause.start(), pause.group()) in (_PARAGRAPH, _SENTENCE)
            candidates.append((not is_sentence, offset))
    if candidates:
        return min(candidates)[1]
    return next((offset for offset in range(start - reach, start) if not is_joined(text, offset)), start)


def _cut(text: str, start: int, end: int, max_chars: int) -> int:
    """Return the best end of the passage that starts at ``start``, where the text up to ``end`` exceeds one passage."""
    length = end - start
    ideal = start - (-length // -(-length // max_chars))  # two ceilings: the length of equally long passages
    minimum = max(1, max_chars // 4)  # each cut advances by this much, hence linear time and no tiny last passage
    low, high = start + minimum, start + min(max_chars, length - minimum)
    pauses = (
        (_rank(text, pause.start(), pause.group()), abs(pause.start() - ideal), pause.start())
        for pause in _PAUSE.finditer(text, low, high + 1)
        if pause.start() <= high and not is_joined(text, pause.end())
    )
    best = min(pauses, default=None)
    if best:
        return best[2]
    between = (*range(min(ideal, high), low - 1, -1), *range(ideal + 1, high + 1))
    return next((offset for offset in between if not is_joined(text, offset)), min(ideal, high))


def _rank(text: str, offset: int, blanks: str) -> int:
    """Return the rank of a pause at ``offset``; lower ranks are better cuts."""
    if blanks.count("\n") > 1 or "\u2029" in blanks:
        return _PARAGRAPH
    if not blanks or _SENTENCE_END.search(text[max(0, offset - 4) : offset]):
        return _SENTENCE
    return _LINE if "\n" in blanks else _WORD


def is_joined(text: str, offset: int) -> bool:
    """Return whether the character at ``offset`` belongs to the one before it: an approximation of UAX 29."""
    if not 0 < offset < len(text):
        return False
    before, current = text[offset - 1], text[offset]
    return (
        unicodedata.category(current) in ("Mn", "Mc", "Me")
        or current in "\u200d\u200c"
        or before == "\u200d"
        or "\U0001f3fb" <= current <= "\U0001f3ff"  # skin tones
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= current <= "\udfff")
    )


def _skip_blanks(text: str, offset: int) -> int:
    while offset < len(text) and text[offset].isspace():
        offset += 1
    return offset


def _back_over_blanks(text: str, offset: int) -> int:
    while text[offset - 1].isspace():
        offset -= 1
    return offset
