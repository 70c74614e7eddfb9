"""Documents, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """A text of a corpus.

    Attributes:
        id: Its id, unique in the corpus.
        text: The text.
        metadata: Plain JSON data: its other columns, or the metadata of a LangChain document.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        id: Its id, or its number where it has none.
        reason: The reason why it cannot be read.
        where: Its position, such as ``"reviews.jsonl line 7"``.
        fix: What to do about it where all rows of the file are concerned; empty where it is about this row alone.
        is_empty: Whether it is a row like the others but without a text, which stops no run.
        metadata: Its other columns, where it is such a row.
    """

    id: str
    reason: str
    where: str
    fix: str = ""
    is_empty: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
