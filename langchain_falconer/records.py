"""Answers about a text: labels with a score, spans at their exact offsets, and the result row made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LabelValue = bool | str | list[str]


@dataclass(frozen=True, slots=True)
class Label:
    """What a ``get_label`` step answered; ``score`` is the probability of ``value`` in [0, 1]."""

    value: LabelValue
    score: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """The label as in a result row; scores carry four decimals."""
        return {"value": self.value, "score": round(self.score, 4)}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text: ``text[start:end]`` in Python code points, and what ``of`` steps said about it."""

    start: int
    end: int
    text: str
    score: float = 1.0
    labels: Mapping[str, Label] = field(default_factory=dict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    @classmethod
    def at(cls, text: str, start: int, end: int, score: float = 1.0) -> Span:
        """The span of ``text`` at these offsets. Raises ``ValueError`` if they lie outside it or are empty."""
        if not 0 <= start < end <= len(text):
            raise ValueError(f"[{start}, {end}] is no span of a text of {len(text)} characters")
        return cls(start, end, text[start:end], score)

    def to_dict(self) -> dict[str, Any]:
        """The span as in a result row; answers of ``of`` steps are nested in it."""
        data: dict[str, Any] = {"start": self.start, "end": self.end, "text": self.text, "score": round(self.score, 4)}
        if self.labels:
            data["labels"] = {k: v.to_dict() for k, v in self.labels.items()}
        if self.spans:
            data["spans"] = {k: [s.to_dict() for s in v] for k, v in self.spans.items()}
        return data


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers about one text, by step id. A step that was not run is absent.

    ``no_more`` says how sure a proxy is, in [0, 1], that a span step has no further span; what an LLM or a person
    answered has none. It is a measure of doubt, not an answer, so it doesn't tell answers apart.
    """

    labels: Mapping[str, Label] = field(default_factory=dict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    no_more: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)

    def __contains__(self, step_id: object) -> bool:
        return step_id in self.labels or step_id in self.spans


@dataclass(frozen=True, slots=True)
class Record:
    """One result row: a text, its answers, whether the plan found what it is after, and who decided each step."""

    id: str
    text: str
    labels: Mapping[str, Label] = field(default_factory=dict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    match: bool = False
    decided_by: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON data, in the contract's shape."""
        return {
            "id": self.id,
            "text": self.text,
            "labels": {k: v.to_dict() for k, v in self.labels.items()},
            "spans": {k: [s.to_dict() for s in v] for k, v in self.spans.items()},
            "match": self.match,
            "decided_by": dict(self.decided_by),
        }
