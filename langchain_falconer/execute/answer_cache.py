"""A cache of answers by text, so that a repeated text is computed once."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_MAX_TEXTS = 2**14
_MAX_CHARS = 1_024
_MAX_LINE = 2_048
_ROW_FIELDS = ("id", "text", "metadata")


class SharedAnswer:
    """The answers about a text, computed once and read by every row that holds the text.

    Stored as JSON in UTF-8, a few hundred bytes.
    """

    __slots__ = ("_line",)

    def __init__(self, line: str | None = None) -> None:
        """Take the line of a finished row; None if the answers are still to be computed."""
        if line is not None and len(line) > _MAX_LINE:  # it holds a long text, or many columns
            line = json.dumps(_without_row_fields(json.loads(line)), ensure_ascii=False)
        self._line = None if line is None else _encode(line)

    def store(self, answers: Mapping[str, Any]) -> None:
        """Store the answers about the text, or its error."""
        self._line = _encode(json.dumps(_without_row_fields(answers), ensure_ascii=False))

    def read(self) -> dict[str, Any]:
        """Return the part of a result row that depends on the text only."""
        if self._line is None:
            raise RuntimeError("the answers of a shard are read before they are stored")
        return _without_row_fields(json.loads(self._line))


class AnswerCache:
    """An LRU cache of answers: at most 16,384 texts, none longer than 1,024 characters, so memory is bounded."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, SharedAnswer] = OrderedDict()

    def get(self, text: str) -> SharedAnswer | None:
        """Return the answer of the same text; None if it is not in the cache."""
        key = _key(text)
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def put(self, text: str, answer: SharedAnswer) -> None:
        """Add the answer of a text; the least recently used one is evicted if the cache is full."""
        if len(text) <= _MAX_CHARS:
            self._answers[_key(text)] = answer
            if len(self._answers) > _MAX_TEXTS:
                self._answers.popitem(last=False)


def _without_row_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _ROW_FIELDS}


def _encode(line: str) -> bytes:
    # A string with one emoji takes four bytes per character.
    return line.encode("utf-8", "surrogatepass")


def _key(text: str) -> bytes:
    # A digest that cannot be forged: two hostile texts must never share an answer.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
