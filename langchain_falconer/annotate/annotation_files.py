"""A person's own annotations: JSON lines that can be read, checked, stored and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer, json_lines, replacing_text, text_key
from langchain_falconer.annotate.view import HUMAN, Annotation, can_answer
from langchain_falconer.errors import AnnotationError
from langchain_falconer.plan import LabelStep, Plan, SpanStep, holds
from langchain_falconer.records import Answers, Label, Span


def read_annotations(path: Path, plan: Plan, *, shared_only: bool = False) -> list[Annotation]:
    """A person's annotations, checked against a plan.

    Each line is ``{"text", "labels": {step: value}, "spans": {step: [[start, end], ..]}}``. Result rows can be fed
    back, corrected: a label may be ``{"value": ..}`` and a span ``{"start", "end", "text", "labels", "spans"}`` (where
    the answers of ``of`` steps go); other keys are ignored. A label that is absent or null was not annotated. So was
    a span step that is null, or absent from a row without "spans"; absent from a row that has "spans" it found
    nothing, if its ``where`` holds there.

    Args:
        path: JSON lines in UTF-8, gzipped if the name ends in ``.gz``.
        plan: says which steps there are, and what they can answer.
        shared_only: leave aside the file's steps that the plan lacks, which are an error otherwise, and take a step of
            the plan that no row names as not annotated.

    Returns:
        One annotation a text, in the file's order; rows with the same text are put together.

    Raises:
        AnnotationError: names line, step and fix.
    """
    annotations: dict[str, Annotation] = {}
    lines: dict[str, str] = {}
    rows = list(json_lines(path))
    shared = frozenset(name for _, row in rows for name in _named(row)) if shared_only else None
    for where, row in rows:
        annotation = _Row(plan, where, shared).read(row)
        text = annotation.text
        if text in annotations:
            annotation = _merged(annotations[text], annotation, lines[text], where)
        lines.setdefault(text, where)
        annotations[text] = annotation
    if not annotations:
        raise AnnotationError(
            f'{path} holds no annotations; write lines like {{"text": …, "labels": {{…}}, "spans": {{…}}}}'
        )
    return list(annotations.values())


def _merged(old: Annotation, new: Annotation, old_where: str, where: str) -> Annotation:
    one, other = old.answers, new.answers
    for known, given in ((one.labels, other.labels), (one.spans, other.spans)):
        if clash := [step_id for step_id in given if step_id in known and known[step_id] != given[step_id]]:
            raise AnnotationError(
                f"{where}: step '{clash[0]}' is answered otherwise for the same text in {old_where}; keep one"
            )
    return Annotation(old.text, Answers({**one.labels, **other.labels}, {**one.spans, **other.spans}), HUMAN)


def _named(given: Any) -> Iterator[str]:
    """The steps that a row, or an entry for a span, names."""
    for key in ("labels", "spans") if isinstance(given, dict) else ():
        named = given.get(key)
        if isinstance(named, dict):
            yield from named
            for entries in named.values():
                for entry in entries if isinstance(entries, list) else ():
                    yield from _named(entry)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file, to be read under a plan."""

    plan: Plan
    where: str
    shared: frozenset[str] | None
    """Where only the steps count that plan and file share: those that the file names."""

    def _fail(self, fault: str) -> AnnotationError:
        return AnnotationError(f"{self.where}: {fault}")

    def read(self, row: Any) -> Annotation:
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise self._fail('the row has no "text"; write {"text": "…", "labels": {…}, "spans": {…}}')
        return Annotation(row["text"], self._answers(row, row["text"], None, Answers(), None), HUMAN)

    def _answers(self, given: Mapping[str, Any], text: str, of: str | None, outer: Answers, at: Span | None) -> Answers:
        """What a row says about its text, or an entry of span step ``of`` about the span ``at``."""
        values, found = self._object(given, "labels"), self._object(given, "spans")
        for name in values or ():
            self._check_step(name, of, LabelStep)
        for name in found or ():
            self._check_step(name, of, SpanStep)
        labels = {name: self._label(name, value) for name, value in (values or {}).items() if value is not None}
        spans: dict[str, tuple[Span, ...]] = {}
        for step in self.plan.children(of) if of else self.plan.top_level:
            here = Answers(labels, spans)
            if isinstance(step, LabelStep) or found is None or (self.shared is not None and step.id not in self.shared):
                continue
            if step.id in found:
                if found[step.id] is not None:
                    spans[step.id] = self._spans(step.id, found[step.id], text, here if at is None else outer)
                continue
            inner = None if at is None else replace(at, labels=labels, spans=spans)
            if holds(self.plan, step.where, here if at is None else outer, inner):
                spans[step.id] = ()
        return Answers(labels, spans)

    def _object(self, given: Mapping[str, Any], key: str) -> dict[str, Any] | None:
        value = given.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._fail(f'"{key}" is no object; write {{"{key}": {{"step": answer}}}}')
        if value and self.shared is not None:
            ids = {step.id for step in self.plan.steps}
            return {name: answer for name, answer in value.items() if name in ids}
        return value

    def _check_step(self, name: str, of: str | None, kind: type[LabelStep] | type[SpanStep]) -> None:
        ids = [step.id for step in self.plan.steps]
        if name not in ids:
            raise self._fail(f"the plan has no step '{name}'; its steps are {', '.join(map(repr, ids))}")
        step = self.plan[name]
        if not isinstance(step, kind):
            raise self._fail(f"step '{name}' is a {step.op} step; put its answer under \"{_GOES[step.op]}\"")
        if step.of != of:
            place = f"inside the spans of '{step.of}'" if step.of else "on the row itself"
            raise self._fail(f"step '{name}' is answered elsewhere; put its answer {place}")

    def _label(self, name: str, given: Any) -> Label:
        step = self.plan[name]
        assert isinstance(step, LabelStep)
        value: Any = given.get("value") if isinstance(given, dict) else given
        if not can_answer(step, value):
            able = "true or false" if step.kind == "yes_no" else ", ".join(map(repr, step.names[:8]))
            many = "a list of " if step.kind == "multi" else ""
            raise self._fail(f"step '{name}' cannot answer {_brief(value)}; it answers {many}{able}")
        return Label(value)

    def _spans(self, name: str, given: Any, text: str, outer: Answers) -> tuple[Span, ...]:
        if not isinstance(given, list):
            raise self._fail(f"step '{name}': {_brief(given)} is no list of spans; write [[start, end], ..]")
        spans = sorted((self._span(name, entry, text, outer) for entry in given), key=lambda span: span.start)
        for one, other in pairwise(spans):
            if other.start < one.end:
                raise self._fail(
                    f"step '{name}': spans [{one.start}, {one.end}] and [{other.start}, {other.end}] overlap; keep one"
                )
        return tuple(spans)

    def _span(self, name: str, entry: Any, text: str, outer: Answers) -> Span:
        pair = [entry.get("start"), entry.get("end")] if isinstance(entry, dict) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(offset) is int for offset in pair)):
            raise self._fail(f"step '{name}': {_brief(entry)} is no span; write [start, end]")
        start, end = pair
        if not 0 <= start < end <= len(text):
            raise self._fail(
                f"step '{name}': [{start}, {end}] is no span of this text; "
                f"offsets count its {len(text)} characters (code points) from 0, the end excluded"
            )
        span = Span.at(text, start, end)
        if isinstance(entry, list):
            return span
        if entry.get("text", span.text) != span.text:
            raise self._fail(
                f"step '{name}': the text holds {_brief(span.text)} at [{start}, {end}], not {_brief(entry['text'])}; "
                "count offsets in code points"
            )
        inner = self._answers(entry, text, name, outer, span)
        return replace(span, labels=inner.labels, spans=inner.spans)


_GOES = {"get_label": "labels", "get_span": "spans"}


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def write_annotations(path: Path, plan: Plan, annotations: Iterable[Annotation]) -> int:
    """Write annotations so that :func:`read_annotations` gives them back, failures aside; returns their number.

    The file holds the texts. It takes its place only when complete; ``.gz`` at the end of its name means gzip.
    """
    count = 0
    with replacing_text(path) as file:
        for count, annotation in enumerate(annotations, 1):  # noqa: B007
            row = {"text": annotation.text, **_given(plan, annotation.answers, None)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _given(plan: Plan, answers: Answers | Span, of: str | None) -> dict[str, Any]:
    steps = plan.children(of) if of else plan.top_level
    row: dict[str, Any] = {}
    if answers.labels:
        row["labels"] = {s.id: answers.labels[s.id].value for s in steps if s.id in answers.labels}
    if answers.spans:
        found = {s.id: answers.spans.get(s.id) for s in steps if isinstance(s, SpanStep)}
        # null says "not annotated", where absence would say "none found"
        row["spans"] = {k: None if v is None else [_entry(plan, span, k) for span in v] for k, v in found.items()}
    return row


def _entry(plan: Plan, span: Span, step_id: str) -> Any:
    inner = _given(plan, span, step_id)
    return {"start": span.start, "end": span.end, "text": span.text, **inner} if inner else [span.start, span.end]


def store_annotations(
    store: AnnotationStore, plan: Plan, annotations: Iterable[Annotation], source: str = HUMAN
) -> None:
    """Put a person's annotations into the store, in the place of what ``source`` said about these texts before."""
    rows: dict[str, dict[Key, StoredAnswer]] = {step.fingerprint: {} for step in plan.steps}
    texts = []
    for annotation in annotations:
        texts.append(text_key(annotation.text)[0])
        _collect(plan, annotation.text, annotation.answers, None, rows)
    store.replace(source, rows, texts)


def _collect(
    plan: Plan, text: str, given: Answers | Span, at: tuple[int, int] | None, rows: dict[str, dict[Key, StoredAnswer]]
) -> None:
    key = text_key(text, at)
    for name, label in given.labels.items():
        rows[plan[name].fingerprint][key] = StoredAnswer(label.value)
    for name, spans in given.spans.items():
        rows[plan[name].fingerprint][key] = StoredAnswer([[span.start, span.end] for span in spans])
        for span in spans:
            _collect(plan, text, span, (span.start, span.end), rows)
