"""Texts that come again: each is computed once, and its answer shared."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_MOST_TEXTS = 2**14
_MOST_CHARS = 1_024
_OF_ROW = ("id", "text", "metadata")


class SharedAnswer:
    """What is said about a text, whatever row it stands in: told once, read by all rows that hold the text.

    Kept as JSON in UTF-8, a few hundred bytes: the line of a finished row, or what was told.
    """

    __slots__ = ("_line",)

    def __init__(self, line: str | None = None) -> None:
        self._line = None if line is None else _packed(line)

    def tell(self, answers: Mapping[str, Any]) -> None:
        """Keep the answers about the text, or its error."""
        told = {key: value for key, value in answers.items() if key not in _OF_ROW}
        self._line = _packed(json.dumps(told, ensure_ascii=False))

    def read(self) -> dict[str, Any]:
        """What was told, as the part of a result row that is the text's."""
        assert self._line is not None, "rows are put together once their answers are there"
        return {key: value for key, value in json.loads(self._line).items() if key not in _OF_ROW}


class AnswerCache:
    """The answers of the texts that came last: at most 16,384, none longer than 1,024 characters, so memory is flat."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, SharedAnswer] = OrderedDict()

    def find(self, text: str) -> SharedAnswer | None:
        """The answer of the same text, if it is remembered."""
        key = _key(text)
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def keep(self, text: str, answer: SharedAnswer) -> None:
        """Remember the answer of a text, at the cost of the one that was not met for longest."""
        if len(text) <= _MOST_CHARS:
            self._answers[_key(text)] = answer
            if len(self._answers) > _MOST_TEXTS:
                self._answers.popitem(last=False)


def _packed(line: str) -> bytes:
    # A string with one emoji takes four bytes a character.
    return line.encode("utf-8", "surrogatepass")


def _key(text: str) -> bytes:
    # A digest that cannot be forged: two hostile texts must never share an answer.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
