"""Texts to token windows: ids for the encoder, character offsets and word starts for the decoder."""

from __future__ import annotations

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


class Tokenizer:
    """Text to token ids with character offsets: a fast tokenizer, and the id that fills up batches.

    It is kept as ``tokenizer.json`` alone and read without transformers.
    """

    def __init__(self, backend: Any, pad_id: int) -> None:
        self.backend = backend
        self.pad_id = pad_id

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

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        self.backend.no_truncation()
        self.backend.enable_padding(pad_id=self.pad_id)
        self.backend.save(str(folder / _FILE))
        self.backend.no_padding()


class Windows:
    """Cuts texts into windows that the encoder can see whole: nothing is ever truncated.

    A text longer than ``max_tokens`` is read in several windows that overlap by 64 tokens.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._backend = tokenizer.backend
        self._max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> list[Window]:
        """The windows of every text, in order of text and position."""
        windows: list[Window] = []
        # Set each time: the tokenizer is shared with others, who may want windows of another size.
        self._backend.no_padding()
        self._backend.enable_truncation(self._max_tokens, stride=min(_OVERLAP, self._max_tokens // 4))
        for i, encoding in enumerate(self._backend.encode_batch(list(texts))):
            windows += [_window(i, texts[i], part) for part in (encoding, *encoding.overflowing)]
        return windows


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
