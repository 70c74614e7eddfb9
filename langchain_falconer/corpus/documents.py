"""Documents, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_falconer.errors import CorpusError


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


def listed_texts(texts: Any) -> list[Any]:
    """Return texts that a caller passed as a list. Raises ``CorpusError`` if they are no list, such as one string."""
    if isinstance(texts, str):
        raise CorpusError("texts is one string; pass a list of texts, such as [text]")
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable) or hasattr(texts, "page_content"):
        raise CorpusError(f"texts is {_kind(texts)}; pass a list of strings")
    return list(texts)


def checked_texts(texts: Any) -> list[str]:
    """Return texts as a list. Raises ``CorpusError`` that names the first one that is no string, or cannot be UTF-8."""
    listed = listed_texts(texts)
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            fix = "pass its page_content" if hasattr(text, "page_content") else "pass strings"
            raise CorpusError(f"texts[{number}] is {_kind(text)}, not a string; {fix}", row=number + 1)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                surrogate = f"U+{ord(text[error.start]):04X} at character {error.start}"
                message = f"texts[{number}] has a lone surrogate ({surrogate}); decode the text with errors='replace'"
                raise CorpusError(message, row=number + 1) from error
    return listed


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
