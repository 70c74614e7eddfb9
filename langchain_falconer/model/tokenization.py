"""Tokenization of texts into windows: ids for the encoder, character offsets and word starts for the decoder."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langchain_falconer.model.words import WordBoundaries

OUTSIDE, BEGIN, INSIDE = range(3)
"""States of a word: outside of a span, its first word, another word of it."""
_OVERLAP = 64
_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Window:
    """One pass of the encoder over (a part of) a text.

    Attributes:
        text: Position of the text in its batch.
        ids: Token ids, special tokens included.
        words: Token positions that start a word, (W,).
        starts: Character offsets at which the words start, (W,).
        ends: Character offsets at which the words end, (W,).
    """

    text: int
    ids: list[int]
    words: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def extent(self) -> tuple[int, int]:
        """Start and end of the words in the text."""
        return (int(self.starts[0]), int(self.ends[-1])) if len(self.words) else (0, 0)

    def states(self, spans: Iterable[tuple[int, int]]) -> np.ndarray:
        """Return the state of each word, (W,), for the spans of a question."""
        states = np.full(len(self.words), OUTSIDE, np.int64)
        for start, end in spans:
            inside = np.flatnonzero((self.starts < end) & (self.ends > start))
            states[inside] = INSIDE
            states[inside[:1]] = BEGIN
        return states


class Tokenizer:
    """A fast tokenizer with character offsets, stored as ``tokenizer.json`` and read without transformers.

    Attributes:
        backend: A tokenizer of the ``tokenizers`` library.
        pad_id: Token id that fills up batches.
    """

    def __init__(self, backend: Any, pad_id: int) -> None:
        self.backend = backend
        self.pad_id = pad_id
        self._lock = threading.Lock()

    @classmethod
    def read(cls, folder: Path) -> Tokenizer:
        """Read the tokenizer that :meth:`save` wrote.

        Raises:
            OSError: There is no such file.
            ValueError: The file is broken.
        """
        import tokenizers

        # From bytes: tokenizers raises bare Exceptions, which would hide a missing file.
        content = (folder / _FILE).read_bytes()
        try:
            backend = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:
            raise ValueError(f"its {_FILE} is broken ({str(error)[:80]})") from None
        return cls(backend, int((backend.padding or {}).get("pad_id", 0)))

    def encode(self, texts: Sequence[str], max_tokens: int, overlap: int) -> list[Any]:
        """Encode texts, the tokens beyond ``max_tokens`` as overflowing encodings; thread-safe."""
        with self._lock:  # lengths are state of the tokenizer, which is shared
            self.backend.no_padding()
            self.backend.enable_truncation(max_tokens, stride=overlap)
            encodings: list[Any] = self.backend.encode_batch(list(texts))
            return encodings

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        self.backend.no_truncation()
        self.backend.enable_padding(pad_id=self.pad_id)
        self.backend.save(str(folder / _FILE))
        self.backend.no_padding()


class WindowSplitter:
    """Splits texts into windows that fit one encoder pass: nothing is truncated.

    A text longer than ``max_tokens`` becomes several windows that overlap by 64 tokens; a word at a cut belongs to the
    window that contains all of it.

    Args:
        tokenizer: The tokenizer.
        max_tokens: Tokens of a window, special ones included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap = min(_OVERLAP, max_tokens // 4)

    def __call__(self, texts: Sequence[str]) -> list[Window]:
        """Return the windows of every text, in order of text and position."""
        windows: list[Window] = []
        for i, encoding in enumerate(self._tokenizer.encode(texts, self._max_tokens, self._overlap)):
            boundaries = WordBoundaries(texts[i])
            parts = [_window(i, texts[i], part, boundaries) for part in (encoding, *encoding.overflowing)]
            windows += parts if len(parts) == 1 else self._whole_words(parts, boundaries)
        return windows

    def _whole_words(self, windows: list[Window], boundaries: WordBoundaries) -> list[Window]:
        """Drop the pieces of words at the cuts where the neighbouring window contains the whole word."""
        last = len(windows) - 1
        return [self._trimmed(w, boundaries, after=i > 0, before=i < last) for i, w in enumerate(windows)]

    def _trimmed(self, window: Window, boundaries: WordBoundaries, *, after: bool, before: bool) -> Window:
        words, starts, ends = window.words, window.starts, window.ends
        first, end = 0, len(words)
        if after and end > 1 and words[1] <= self._overlap and boundaries.is_inside(int(starts[0])):
            first = 1
        near_end = end - first > 1 and words[-1] >= len(window.ids) - self._overlap
        if before and near_end and boundaries.is_inside(int(ends[-1])):
            end -= 1
        return Window(window.text, window.ids, words[first:end], starts[first:end], ends[first:end])


def _window(index: int, text: str, encoding: Any, boundaries: WordBoundaries) -> Window:
    words: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    previous = -1
    for position, (start, end) in enumerate(encoding.offsets):
        if end <= start:
            continue  # a special token, or one without characters
        while start < end and text[start].isspace():
            start += 1  # sentencepiece counts the space before a word as its own
        if start == end:
            continue
        if words and start < previous:
            ends[-1] = max(ends[-1], end)  # bytes of one character spread over several tokens
        elif words and start == previous and boundaries.is_inside(start):
            ends[-1] = end
        else:
            words.append(position)
            starts.append(start)
            ends.append(end)
        previous = max(previous, end)
    return Window(index, encoding.ids, np.array(words, np.int64), np.array(starts, np.int64), np.array(ends, np.int64))


def pad(windows: Sequence[Window], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad windows to a batch of ``input_ids`` and ``attention_mask``, (B, T) int64."""
    return pad_ids([w.ids for w in windows], pad_id)


def pad_ids(texts: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad the token ids of texts to a batch of ``input_ids`` and ``attention_mask``, (B, T) int64."""
    width = max(map(len, texts))
    ids = np.full((len(texts), width), pad_id, np.int64)
    mask = np.zeros((len(texts), width), np.int64)
    for row, own in enumerate(texts):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return ids, mask


def length_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Group texts of similar length, by index, into batches of at most ``max_tokens`` padded tokens."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    at = 0
    while at < len(order):
        size = max(1, max_tokens // lengths[order[at]])
        yield order[at : at + size]
        at += size
