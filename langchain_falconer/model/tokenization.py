"""Texts to token windows: ids for the encoder, character offsets and word starts for the decoder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_OVERLAP = 64
_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Window:
    """One pass of the encoder over (a part of) a text.

    ``words`` are the token positions that start a word, ``starts`` and ``ends`` the words' character offsets.
    """

    text: int
    ids: list[int]
    words: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def seen(self) -> tuple[int, int]:
        """The stretch of the text from its first word to its last."""
        return (int(self.starts[0]), int(self.ends[-1])) if len(self.words) else (0, 0)


class Tokenizer:
    """Text to token ids with character offsets: a fast tokenizer, and the id that fills up batches.

    It is kept as ``tokenizer.json`` alone and read without transformers.
    """

    def __init__(self, backend: Any, pad_id: int) -> None:
        self.backend = backend
        self.pad_id = pad_id
        self._turn = threading.Lock()

    @classmethod
    def read(cls, folder: Path) -> Tokenizer:
        """The tokenizer that :meth:`save` left in a folder. Raises ``ValueError`` or ``OSError`` if it is none."""
        import tokenizers

        # From bytes: tokenizers raises bare Exceptions, which would hide a missing file.
        content = (folder / _FILE).read_bytes()
        try:
            backend = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:
            raise ValueError(f"its {_FILE} is broken ({str(error)[:80]})") from None
        return cls(backend, int((backend.padding or {}).get("pad_id", 0)))

    def encode(self, texts: Sequence[str], max_tokens: int, overlap: int) -> list[Any]:
        """Encodings of at most ``max_tokens``, each with the rest of its text in overflowing ones; from any thread."""
        with self._turn:  # the lengths are set on the tokenizer, which others share who want theirs
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
    """Cuts texts into windows that the encoder can see whole: nothing is ever truncated.

    A text longer than ``max_tokens`` is read in several windows that overlap by 64 tokens; a word that a cut goes
    through belongs to the window that sees it whole.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap = min(_OVERLAP, max_tokens // 4)

    def __call__(self, texts: Sequence[str]) -> list[Window]:
        """The windows of every text, in order of text and position."""
        windows: list[Window] = []
        for i, encoding in enumerate(self._tokenizer.encode(texts, self._max_tokens, self._overlap)):
            parts = [_window(i, texts[i], part) for part in (encoding, *encoding.overflowing)]
            windows += parts if len(parts) == 1 else self._of_whole_words(texts[i], parts)
        return windows

    def _of_whole_words(self, text: str, windows: list[Window]) -> list[Window]:
        """The windows without the pieces of words at their cuts, where the neighbour sees the word whole."""
        last = len(windows) - 1
        return [self._trimmed(text, w, after=i > 0, before=i < last) for i, w in enumerate(windows)]

    def _trimmed(self, text: str, window: Window, *, after: bool, before: bool) -> Window:
        words, starts, ends = window.words, window.starts, window.ends
        first, end = 0, len(words)
        if after and end > 1 and words[1] <= self._overlap and joined(text, int(starts[0])):
            first = 1
        near_end = end - first > 1 and words[-1] >= len(window.ids) - self._overlap
        if before and near_end and joined(text, int(ends[-1])):
            end -= 1
        return Window(window.text, window.ids, words[first:end], starts[first:end], ends[first:end])


def _window(index: int, text: str, encoding: Any) -> Window:
    words: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    previous = -1
    for position, (start, end) in enumerate(encoding.offsets):
        if end <= start:
            continue  # a special token, or one that stands for no character
        while start < end and text[start].isspace():
            start += 1  # sentencepiece counts the space before a word as its own
        if start == end:
            continue
        if words and start < previous:
            ends[-1] = max(ends[-1], end)  # bytes of one character spread over several tokens
        elif words and start == previous and joined(text, start):
            ends[-1] = end
        else:
            words.append(position)
            starts.append(start)
            ends.append(end)
        previous = max(previous, end)
    return Window(index, encoding.ids, np.array(words, np.int64), np.array(starts, np.int64), np.array(ends, np.int64))


def joined(text: str, at: int) -> bool:
    """Whether a word goes on across position ``at``: letters and digits join, except in scripts without spaces."""
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    return left.isalnum() and right.isalnum() and not (_spaceless(left) or _spaceless(right))


def _spaceless(char: str) -> bool:
    code = ord(char)
    return code >= 0x0E00 and (
        0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF
        or 0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or code >= 0x20000
    )  # fmt: skip


def pad(windows: Sequence[Window], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """``input_ids`` and ``attention_mask`` of a batch, (B, T) int64."""
    width = max(len(w.ids) for w in windows)
    ids = np.full((len(windows), width), pad_id, np.int64)
    mask = np.zeros((len(windows), width), np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        mask[row, : len(window.ids)] = 1
    return ids, mask
