"""Answers about a text: labels with a score, spans at their exact offsets, and the result row made of them.

All of them are immutable and hashable: mappings are stored as ``frozendict``, lists as tuples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from frozendict import frozendict
from pydantic import BaseModel, ConfigDict, JsonValue
from typing_extensions import NotRequired, TypedDict

JsonObject = dict[str, JsonValue]
"""A JSON object of any shape; one whose shape is fixed has a class or a ``TypedDict`` of its own."""
LabelValue = bool | str | tuple[str, ...]
"""A truth value, one label, or the labels of a multi-label step."""


class LabelData(TypedDict):
    """A label in a result row."""

    value: bool | str | list[str]
    score: float


class SpanData(TypedDict):
    """A span in a result row; answers of ``of`` steps are nested in it."""

    start: int
    end: int
    text: str
    score: float
    labels: NotRequired[dict[str, LabelData]]
    spans: NotRequired[dict[str, list[SpanData]]]


class ResultRow(TypedDict):
    """A result row as JSON data; one that failed has ``id`` and ``error``; one without a text these and metadata."""

    id: str
    text: NotRequired[str]
    labels: NotRequired[dict[str, LabelData]]
    spans: NotRequired[dict[str, list[SpanData]]]
    match: NotRequired[bool]
    decided_by: NotRequired[dict[str, str]]
    metadata: NotRequired[JsonObject]
    error: NotRequired[str]


class FrozenModel(BaseModel):
    """Base of settings, and of results that travel from a stage to report, JSON and agents: frozen and hashable.

    The JSON of results may hold computed fields, so that unknown ones are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    def __hash__(self) -> int:  # that of pydantic fails where a field is a mapping
        return hash(self.model_dump_json())


@dataclass(frozen=True, slots=True)
class Label:
    """The answer to a ``get_label`` step.

    Attributes:
        value: The answer.
        score: Confidence in ``value``, in [0, 1]: a probability where the proxy was calibrated on held-out annotations,
            else the raw score of its network; 1 where an LLM or a person answered without one.
    """

    value: LabelValue
    score: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.value, list):
            object.__setattr__(self, "value", tuple(self.value))

    def to_dict(self) -> LabelData:
        """Return the label as in a result row; scores carry four decimals."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"value": value, "score": round(self.score, 4)}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text.

    Attributes:
        start: Offset of the first character, in Python code points.
        end: Offset behind the last character.
        text: ``text[start:end]`` of the whole text.
        score: Confidence in the span, in [0, 1]; see :class:`Label`.
        labels: Labels of the steps that are asked ``of`` this span, by step id.
        spans: Spans inside this one, by step id.
    """

    start: int
    end: int
    text: str
    score: float = 1.0
    labels: Mapping[str, Label] = field(default_factory=frozendict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=frozendict)

    def __post_init__(self) -> None:
        _freeze(self)

    @classmethod
    def at(cls, text: str, start: int, end: int, score: float = 1.0) -> Span:
        """Make the span of ``text`` at these offsets. Raises ``ValueError`` if they lie outside it or are empty."""
        if not 0 <= start < end <= len(text):
            raise ValueError(f"[{start}, {end}] is not a span of a text of {len(text)} characters")
        return cls(start, end, text[start:end], score)

    def to_dict(self) -> SpanData:
        """Return the span as in a result row; answers of ``of`` steps are nested in it."""
        data: SpanData = {"start": self.start, "end": self.end, "text": self.text, "score": round(self.score, 4)}
        if self.labels:
            data["labels"] = _labels_to_dict(self.labels)
        if self.spans:
            data["spans"] = _spans_to_dict(self.spans)
        return data


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers about one text, by step id. A step that was not run is absent.

    Attributes:
        labels: Labels by step id.
        spans: Spans by step id, sorted and without overlaps.
        none_prob: The proxy's probability that a span step has no further span, by step id; empty for answers of an LLM
            or a person. A measure of doubt, not an answer: it is ignored by ``==``.
    """

    labels: Mapping[str, Label] = field(default_factory=frozendict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=frozendict)
    none_prob: Mapping[str, float] = field(default_factory=frozendict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _freeze(self)
        if not isinstance(self.none_prob, frozendict):
            object.__setattr__(self, "none_prob", frozendict(self.none_prob))

    def __contains__(self, step_id: object) -> bool:
        return step_id in self.labels or step_id in self.spans

    def to_dict(self) -> JsonObject:
        """Return ``labels`` and ``spans`` as in a result row."""
        return {"labels": _labels_to_dict(self.labels), "spans": _spans_to_dict(self.spans)}  # type: ignore[dict-item]


@dataclass(frozen=True, slots=True)
class Record:
    """One result row.

    Attributes:
        id: Id of the text.
        text: The text.
        labels: Labels by step id; steps that were not run are absent.
        spans: Spans by step id; steps that were not run are absent.
        match: Whether the text satisfies the plan.
        decided_by: ``proxy``, ``llm`` or ``human``, by step id.
    """

    id: str
    text: str
    labels: Mapping[str, Label] = field(default_factory=frozendict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=frozendict)
    match: bool = False
    decided_by: Mapping[str, str] = field(default_factory=frozendict)

    def __post_init__(self) -> None:
        _freeze(self)
        if not isinstance(self.decided_by, frozendict):
            object.__setattr__(self, "decided_by", frozendict(self.decided_by))

    def to_dict(self) -> ResultRow:
        """Return the row as JSON data, in the documented shape of a result row."""
        return {
            "id": self.id,
            "text": self.text,
            "labels": _labels_to_dict(self.labels),
            "spans": _spans_to_dict(self.spans),
            "match": self.match,
            "decided_by": dict(self.decided_by),
        }


def _freeze(answers: Span | Answers | Record) -> None:
    if not isinstance(answers.labels, frozendict):
        object.__setattr__(answers, "labels", frozendict(answers.labels))
    if not isinstance(answers.spans, frozendict):
        spans = {step: tuple(step_spans) for step, step_spans in answers.spans.items()}
        object.__setattr__(answers, "spans", frozendict(spans))


def _labels_to_dict(labels: Mapping[str, Label]) -> dict[str, LabelData]:
    return {step: label.to_dict() for step, label in labels.items()}


def _spans_to_dict(spans: Mapping[str, tuple[Span, ...]]) -> dict[str, list[SpanData]]:
    return {step: [span.to_dict() for span in step_spans] for step, step_spans in spans.items()}
