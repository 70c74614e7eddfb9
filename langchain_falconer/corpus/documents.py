"""Documents, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
