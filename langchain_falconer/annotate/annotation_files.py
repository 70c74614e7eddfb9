"""Files of annotations by people: read, validate, store and write JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

from langchain_falconer.annotate.annotation_tools import annotation_row, read_tool_row
from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer, json_lines, replacing_text, text_key
from langchain_falconer.annotate.view import CORRECTIONS, HUMAN, UNIFORM_CORRECTIONS, Annotation, can_answer
from langchain_falconer.errors import AnnotationError
from langchain_falconer.plan import LabelStep, Plan, SpanStep, holds
from langchain_falconer.records import Answers, JsonObject, Label, Span


def read_annotations(path: Path, plan: Plan, *, shared_only: bool = False) -> list[Annotation]:
    """Read a person's annotations and validate them against a plan.

    Each line is ``{"text", "labels": {step: value}, "spans": {step: [[start, end], ..]}}``. Corrected result rows can
    be read too: a label may be ``{"value": ..}`` and a span ``{"start", "end", "text", "labels", "spans"}`` (with the
    answers of ``of`` steps); other keys are ignored. A label that is absent or null was not annotated. The same holds
    for a span step that is null, or absent from a row without "spans"; absent from a row with "spans", it has no spans
    if its ``where`` holds there.

    Exports of doccano (JSON Lines) and Label Studio (JSON, JSON-MIN) are read too, see :func:`annotation_row`.

    Args:
        path: JSON lines or an array, in UTF-8, gzipped if the name ends in ``.gz``.
        plan: The plan that the annotations answer.
        shared_only: Ignore steps of the file that the plan lacks, which are an error otherwise, and treat a step of
            the plan that no row names as not annotated.

    Returns:
        One annotation per text, in the order of the file; rows with the same text are merged.

    Raises:
        AnnotationError: The file cannot be read, or a row does not fit the plan; has ``path``, ``row`` and ``step``.
    """
    annotations: dict[str, Annotation] = {}
    first_rows: dict[str, int] = {}
    lines = _with_tool_rows(list(json_lines(path)), plan, path)
    shared = frozenset(name for _, data in lines for name in _step_names(data)) if shared_only else None
    for row, data in lines:
        parser = _RowParser(plan, path, row, shared)
        annotation = parser.parse(data)
        text = annotation.text
        if text in annotations:
            annotation = parser.merge(annotations[text], annotation, first_rows[text])
        first_rows.setdefault(text, row)
        annotations[text] = annotation
    if not annotations:
        raise AnnotationError(
            f'{path} holds no annotations; write lines like {{"text": …, "labels": {{…}}, "spans": {{…}}}}', path=path
        )
    return list(annotations.values())


def _with_tool_rows(lines: list[tuple[int, Any]], plan: Plan, path: Path) -> list[tuple[int, Any]]:
    """Return lines with the rows of annotation tools in our own format."""
    tool_rows = {row: tool_row for row, data in lines if (tool_row := read_tool_row(data)) is not None}
    named = {name for tool_row in tool_rows.values() for name in tool_row.names()}
    converted = []
    for row, data in lines:
        try:
            converted.append((row, annotation_row(plan, tool_rows[row], named) if row in tool_rows else data))
        except ValueError as error:
            raise AnnotationError(f"{path}, line {row}: {error}", path=path, row=row) from error
    return converted


def _step_names(data: Any) -> Iterator[str]:
    """Yield the steps that a row, or an entry for a span, names."""
    for key in ("labels", "spans") if isinstance(data, dict) else ():
        by_step = data.get(key)
        if isinstance(by_step, dict):
            yield from by_step
            for entries in by_step.values():
                for entry in entries if isinstance(entries, list) else ():
                    yield from _step_names(entry)


@dataclass(frozen=True, slots=True)
class _RowParser:
    """A parser of one line under a plan; with ``shared`` (the steps that the file names) it ignores other steps."""

    plan: Plan
    path: Path
    row: int
    shared: frozenset[str] | None

    def _fail(self, fault: str, step: str | None = None) -> AnnotationError:
        subject = f"step '{step}'" if step else ""
        message = f"{self.path}, line {self.row}: {subject}{fault}"
        return AnnotationError(message, path=self.path, row=self.row, step=step)

    def parse(self, data: Any) -> Annotation:
        if not isinstance(data, dict) or not isinstance(data.get("text"), str):
            raise self._fail('the row has no "text"; write {"text": "…", "labels": {…}, "spans": {…}}')
        return Annotation(data["text"], self._answers(data, data["text"], None, Answers(), None), HUMAN)

    def merge(self, old: Annotation, new: Annotation, old_row: int) -> Annotation:
        one, other = old.answers, new.answers
        for before, after in ((one.labels, other.labels), (one.spans, other.spans)):
            if clash := [step_id for step_id in after if step_id in before and before[step_id] != after[step_id]]:
                fault = f" has another answer for the same text in {self.path}, line {old_row}; keep one"
                raise self._fail(fault, clash[0])
        return Annotation(old.text, Answers({**one.labels, **other.labels}, {**one.spans, **other.spans}), HUMAN)

    def _answers(self, data: Mapping[str, Any], text: str, of: str | None, outer: Answers, at: Span | None) -> Answers:
        """Read the answers of a row about its text, or of an entry of span step ``of`` about the span ``at``."""
        values, entries = self._by_step(data, "labels"), self._by_step(data, "spans")
        for name in values or ():
            self._check_step(name, of, LabelStep)
        for name in entries or ():
            self._check_step(name, of, SpanStep)
        labels = {name: self._label(name, value) for name, value in (values or {}).items() if value is not None}
        spans: dict[str, tuple[Span, ...]] = {}
        for step in self.plan.children(of) if of else self.plan.top_level:
            here = Answers(labels, spans)
            is_shared = self.shared is None or step.id in self.shared
            if isinstance(step, LabelStep) or entries is None or not is_shared:
                continue
            if step.id in entries:
                if entries[step.id] is not None:
                    spans[step.id] = self._spans(step.id, entries[step.id], text, here if at is None else outer)
                continue
            inner = None if at is None else replace(at, labels=labels, spans=spans)
            if holds(self.plan, step.where, here if at is None else outer, inner):
                spans[step.id] = ()
        return Answers(labels, spans)

    def _by_step(self, data: Mapping[str, Any], key: str) -> dict[str, Any] | None:
        value = data.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._fail(f'"{key}" is not an object; write {{"{key}": {{"step": answer}}}}')
        if value and self.shared is not None:
            ids = {step.id for step in self.plan.steps}
            return {name: answer for name, answer in value.items() if name in ids}
        return value

    def _check_step(self, name: str, of: str | None, kind: type[LabelStep] | type[SpanStep]) -> None:
        ids = [step.id for step in self.plan.steps]
        if name not in ids:
            raise self._fail(f" is not in the plan; its steps are {', '.join(map(repr, ids))}", name)
        step = self.plan[name]
        if not isinstance(step, kind):
            key = "labels" if isinstance(step, LabelStep) else "spans"
            raise self._fail(f' is a {step.op} step; put its answer under "{key}"', name)
        if step.of != of:
            place = f"inside the spans of '{step.of}'" if step.of else "on the row itself"
            raise self._fail(f" is answered in the wrong place; put its answer {place}", name)

    def _label(self, name: str, data: Any) -> Label:
        step = self.plan[name]
        assert isinstance(step, LabelStep)
        value: Any = data.get("value") if isinstance(data, dict) else data
        if not can_answer(step, value):
            options = "true or false" if step.kind == "yes_no" else ", ".join(map(repr, step.names[:8]))
            many = "a list of " if step.kind == "multi" else ""
            raise self._fail(f" cannot answer {_truncated(value)}; it answers {many}{options}", name)
        return Label(value)

    def _spans(self, name: str, data: Any, text: str, outer: Answers) -> tuple[Span, ...]:
        if not isinstance(data, list):
            raise self._fail(f": {_truncated(data)} is not a list of spans; write [[start, end], ..]", name)
        spans = sorted((self._span(name, entry, text, outer) for entry in data), key=lambda span: span.start)
        for one, other in pairwise(spans):
            if other.start < one.end:
                pair = f"[{one.start}, {one.end}] and [{other.start}, {other.end}]"
                raise self._fail(f": spans {pair} overlap; keep one", name)
        return tuple(spans)

    def _span(self, name: str, entry: Any, text: str, outer: Answers) -> Span:
        pair = [entry.get("start"), entry.get("end")] if isinstance(entry, dict) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(offset) is int for offset in pair)):
            raise self._fail(f": {_truncated(entry)} is not a span; write [start, end]", name)
        start, end = pair
        if not 0 <= start < end <= len(text):
            hint = f"offsets count its {len(text)} characters (code points) from 0, the end excluded"
            raise self._fail(f": [{start}, {end}] is not a span of this text; {hint}", name)
        span = Span.at(text, start, end)
        if isinstance(entry, list):
            return span
        if entry.get("text", span.text) != span.text:
            fault = f": the text has {_truncated(span.text)} at [{start}, {end}], not {_truncated(entry['text'])}"
            raise self._fail(f"{fault}; count offsets in code points", name)
        inner = self._answers(entry, text, name, outer, span)
        return replace(span, labels=inner.labels, spans=inner.spans)


def _truncated(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def write_annotations(
    path: Path, plan: Plan, annotations: Iterable[Annotation], extras: Iterable[JsonObject] = ()
) -> int:
    """Write annotations in the format of :func:`read_annotations`, without failures.

    The file holds the texts. It appears only once it is complete, gzipped if its name ends in ``.gz``.

    Args:
        path: The file.
        plan: The plan.
        annotations: The annotations.
        extras: Further keys of each row, which :func:`read_annotations` ignores.

    Returns:
        Number of annotations.
    """
    count = 0
    with replacing_text(path) as file:
        for count, (annotation, extra) in enumerate(zip(annotations, chain(extras, repeat({}))), 1):  # noqa: B007, B905
            row = {"text": annotation.text, **_row(plan, annotation.answers, None), **extra}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _row(plan: Plan, answers: Answers | Span, of: str | None) -> dict[str, Any]:
    steps = plan.children(of) if of else plan.top_level
    row: dict[str, Any] = {}
    if answers.labels:
        row["labels"] = {s.id: answers.labels[s.id].value for s in steps if s.id in answers.labels}
    if answers.spans:
        by_step = {s.id: answers.spans.get(s.id) for s in steps if isinstance(s, SpanStep)}
        # null means "not annotated", absence would mean "no spans"
        row["spans"] = {k: None if v is None else [_entry(plan, span, k) for span in v] for k, v in by_step.items()}
    return row


def _entry(plan: Plan, span: Span, step_id: str) -> Any:
    inner = _row(plan, span, step_id)
    return {"start": span.start, "end": span.end, "text": span.text, **inner} if inner else [span.start, span.end]


def store_annotations(
    store: AnnotationStore, plan: Plan, annotations: Iterable[Annotation], source: str = HUMAN
) -> None:
    """Write a person's annotations to the store; they replace earlier answers of ``source`` about these texts."""
    rows: dict[str, dict[Key, StoredAnswer]] = {step.fingerprint: {} for step in plan.steps}
    texts = []
    for annotation in annotations:
        texts.append(text_key(annotation.text)[0])
        _collect(plan, annotation.text, annotation.answers, None, rows)
    store.replace(source, rows, texts)


def _collect(
    plan: Plan, text: str, answers: Answers | Span, at: tuple[int, int] | None, rows: dict[str, dict[Key, StoredAnswer]]
) -> None:
    key = text_key(text, at)
    for name, label in answers.labels.items():
        rows[plan[name].fingerprint][key] = StoredAnswer(label.value)
    for name, spans in answers.spans.items():
        rows[plan[name].fingerprint][key] = StoredAnswer([[span.start, span.end] for span in spans])
        for span in spans:
            _collect(plan, text, span, (span.start, span.end), rows)


def read_corrections(path: Path, plan: Plan) -> tuple[list[Annotation], list[Annotation]]:
    """Read a person's corrections: annotations, of single steps too, in the format of :func:`read_annotations`.

    A row with ``"uniform": true`` is of a text that was drawn uniformly, whatever the person changed in it.

    Returns:
        The corrections of uniformly drawn texts, and all others.

    Raises:
        AnnotationError: As of :func:`read_annotations`.
    """
    uniform = {
        data.get("text") for _, data in json_lines(path) if isinstance(data, dict) and data.get("uniform") is True
    }
    corrections = read_annotations(path, plan)
    return [c for c in corrections if c.text in uniform], [c for c in corrections if c.text not in uniform]


def store_corrections(store: AnnotationStore, plan: Plan, path: Path) -> int:
    """Write a person's corrections to the store, where they stand in for the answers of every LLM.

    Each replaces an earlier correction of the same step and text; corrections of other steps stay.

    Returns:
        Number of texts.

    Raises:
        AnnotationError: As of :func:`read_annotations`.
    """
    uniform, others = read_corrections(path, plan)
    for source, corrections in ((UNIFORM_CORRECTIONS, uniform), (CORRECTIONS, others)):
        rows: dict[str, dict[Key, StoredAnswer]] = {step.fingerprint: {} for step in plan.steps}
        for correction in corrections:
            _collect(plan, correction.text, correction.answers, None, rows)
        for step, answers in rows.items():
            texts = [key[0] for key in answers]
            for name in (UNIFORM_CORRECTIONS, CORRECTIONS):
                store.replace(name, {step: answers if name == source else {}}, texts)
    return len(uniform) + len(others)


def remove_corrections(store: AnnotationStore, plan: Plan, texts: Iterable[str]) -> None:
    """Take back a person's corrections of these texts: the answers that they stood in for count again."""
    keys = [text_key(text)[0] for text in texts]
    for source in (UNIFORM_CORRECTIONS, CORRECTIONS):
        store.replace(source, {step.fingerprint: {} for step in plan.steps}, keys)
