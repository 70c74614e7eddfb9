"""Exports of annotation tools (doccano, Label Studio) as annotation rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import JsonObject

_ENTITY = {"start_offset", "end_offset", "label"}
_YES, _NO = {"yes", "true"}, {"no", "false"}


@dataclass(frozen=True)
class ToolRow:
    """What a tool says about a text.

    Attributes:
        text: The text.
        spans: Start, end, label and, where the tool gives it, the text of each span.
        classes: Labels of the whole text, each with the name of the question (empty where the tool has none).
        has_both: Whether the tool asks for spans and labels at once, so that the one may be absent beside the other.
    """

    text: str
    spans: list[tuple[Any, Any, str, str | None]] = field(default_factory=list)
    classes: list[tuple[str, str]] = field(default_factory=list)
    has_both: bool = False

    def names(self) -> Iterator[str]:
        """Yield what is named in it."""
        yield from (_plain(label) for _, _, label, _ in self.spans)
        yield from (_plain(name) for pair in self.classes for name in pair if name)


def read_tool_row(data: Any) -> ToolRow | None:
    """Return a row of an export; None if it is none.

    Known are doccano's JSON Lines (``label`` or ``labels`` with ``[start, end, label]`` or labels of the text;
    ``entities``), and Label Studio's JSON and JSON-MIN. Of several people's annotations the first counts.
    """
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("data"), dict) and isinstance(data.get("annotations"), list):
        return _label_studio(data)
    if not isinstance(data.get("text"), str) or isinstance(data.get("labels"), dict) or "spans" in data:
        return None
    entities = data.get("entities")
    if isinstance(entities, list) and all(isinstance(e, dict) and e.keys() >= _ENTITY for e in entities):
        return ToolRow(data["text"], [(e["start_offset"], e["end_offset"], str(e["label"]), None) for e in entities])
    return _doccano(data) or _label_studio_min(data)


def _doccano(data: Mapping[str, Any]) -> ToolRow | None:
    labels = data.get("label", data.get("labels") or None)
    if not isinstance(labels, list):
        return None
    if all(isinstance(one, list) and len(one) == 3 for one in labels):
        return ToolRow(data["text"], [(start, end, str(label), None) for start, end, label in labels])
    if all(isinstance(one, str) for one in labels):
        return ToolRow(data["text"], classes=[("", one) for one in labels])
    return None


def _label_studio(data: Mapping[str, Any]) -> ToolRow | None:
    texts = [value for value in data["data"].values() if isinstance(value, str)]
    text = data["data"].get("text", texts[0] if len(texts) == 1 else None)
    annotations = [one for one in data["annotations"] if isinstance(one, dict) and not one.get("was_cancelled")]
    if not isinstance(text, str) or not annotations:
        return None
    row = ToolRow(text, has_both=True)
    for result in annotations[0].get("result", []):
        value = result.get("value", {})
        row.spans.extend(_spans([value]))
        row.classes.extend((str(result.get("from_name", "")), str(choice)) for choice in value.get("choices", ()))
    return row


def _label_studio_min(data: Mapping[str, Any]) -> ToolRow | None:
    row = ToolRow(data["text"], has_both=True)
    for name, value in data.items():
        if isinstance(value, list) and all(isinstance(one, dict) for one in value):
            row.spans.extend(_spans(value))
        elif isinstance(value, dict) and isinstance(value.get("choices"), list):
            row.classes.extend((name, str(choice)) for choice in value["choices"])
        elif isinstance(value, str) and name != "text" and "annotator" in data:
            row.classes.append((name, value))
    return row if row.spans or "annotator" in data else None


def _spans(values: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, Any, str, str | None]]:
    for value in values:
        for label in value.get("labels", ()):
            yield value.get("start"), value.get("end"), str(label), value.get("text")


def annotation_row(plan: Plan, row: ToolRow, named: set[str]) -> JsonObject:
    """Return an export's row in the format of :func:`~langchain_falconer.annotate.read_annotations`.

    A label of a span is the id of a step, that of a text the id of a yes/no step or a label of another one, whatever
    their case and punctuation. A step that the file names nowhere (``named``) was not annotated; another one, where it
    is absent, is "no" or empty.

    Raises:
        ValueError: A label belongs to no step of the plan.
    """
    labels: dict[str, Any] = {}
    spans: dict[str, Any] = {}
    has_spans, has_labels = row.has_both or not row.classes, bool(row.classes) or not row.spans
    for step in plan.top_level:
        if isinstance(step, SpanStep):
            spans[step.id] = [] if has_spans and _plain(step.id) in named else None
        elif not has_labels:
            continue
        elif step.kind == "yes_no" and _plain(step.id) in named:
            labels[step.id] = False
        elif step.kind == "multi" and named.intersection(map(_plain, (step.id, *step.names))):
            labels[step.id] = []
    for start, end, label, text in row.spans:
        if (target := next((one for one in spans if _plain(one) == _plain(label)), None)) is None:
            raise ValueError(f"'{label}' is the id of no span step; its span steps are {_listed(spans)}; rename one")
        spans[target].append(_code_points(row.text, start, end, text))
    for question, value in row.classes:
        _add_label(plan, question, value, labels)
    return {"text": row.text, "labels": labels, "spans": spans}


def _add_label(plan: Plan, question: str, value: str, labels: dict[str, Any]) -> None:
    steps = [step for step in plan.top_level if isinstance(step, LabelStep)]
    steps = [step for step in steps if _plain(step.id) == _plain(question)] or steps
    for step in steps:
        name = next((name for name in step.names if _plain(name) == _plain(value)), None)
        if step.kind == "yes_no" and _plain(step.id) == _plain(value):
            labels[step.id] = True
        elif step.kind == "yes_no" and _plain(step.id) == _plain(question) and _plain(value) in _YES | _NO:
            labels[step.id] = _plain(value) in _YES
        elif name is None:
            continue
        elif step.kind == "multi":
            labels[step.id] = [*labels.get(step.id, []), name]
        elif labels.setdefault(step.id, name) != name:
            raise ValueError(f"step '{step.id}' has two labels, '{labels[step.id]}' and '{name}'; keep one")
        return
    raise ValueError(
        f"'{value}' is an answer to no label step; there are {_listed(step.id for step in steps)}; rename it"
    )


def _code_points(text: str, start: Any, end: Any, quote: str | None) -> Any:
    """Return a span; offsets that count UTF-16 units, as in JavaScript, become code points where the quote shows it."""
    if quote is not None and isinstance(start, int) and isinstance(end, int) and text[start:end] != quote:
        units = text.encode("utf-16-le")
        start, end = (len(units[: 2 * at].decode("utf-16-le", "ignore")) for at in (start, end))
    return {"start": start, "end": end, "text": quote} if quote is not None else [start, end]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.lower()).strip()


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
