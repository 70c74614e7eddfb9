"""What a corpus is made of: documents, rows that cannot be read, and the settings to read them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True)
class Document:
    """One text; ``metadata`` is plain JSON: a LangChain document's own, or the columns source, url and title."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: ``where`` it stands ("reviews.jsonl line 7") and the ``reason``."""

    id: str
    reason: str
    where: str


class CorpusSettings(BaseModel):
    """How to read a corpus.

    Attributes:
        text_column: The column that holds the text; None finds it by its name.
        id_column: The column that holds the id (of LangChain documents: a metadata key); None finds it by its name,
            "" numbers the rows.
        on_bad_row: "fail" raises at the first bad row, "record" gives it as a :class:`BadRow`.
        max_row_bytes: The most that one row may hold, in UTF-8 bytes; a longer one is a bad row, never held whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_column: str | None = None
    id_column: str | None = None
    on_bad_row: Literal["fail", "record"] = "fail"
    max_row_bytes: Annotated[int, Field(ge=1)] = 8 * 2**20
