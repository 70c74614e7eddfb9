"""Warnings about answers that are too rare among the annotations for a proxy to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from langchain_falconer.annotate.view import Annotation
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import Answers, Span

MIN_EXAMPLES = 10
"""Number of annotations from which on an answer is not rare."""
_MAX_NAMES = 3
_ANY_SPAN = "something"


def rare_label_warnings(plan: Plan, annotations: Iterable[Annotation]) -> list[str]:
    """Return a sentence with the fix for each step with an answer that occurs fewer than ten times."""
    totals: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for annotation in annotations:
        for answers in _with_spans(annotation.answers):
            for step_id, names in _answer_names(answers):
                totals[step_id] += 1
                counts.update((step_id, name) for name in names)
    return [
        _sentence(step, totals[step.id], rare)
        for step in plan.ordered
        if (rare := {name: n for name in _possible(step) if (n := counts[step.id, name]) < MIN_EXAMPLES})
    ]


def _with_spans(answers: Answers | Span) -> Iterator[Answers | Span]:
    """Yield the answers about a text, and those about its spans."""
    yield answers
    for spans in answers.spans.values():
        for span in spans:
            yield from _with_spans(span)


def _answer_names(answers: Answers | Span) -> Iterator[tuple[str, Iterable[str]]]:
    for step_id, label in answers.labels.items():
        value = label.value
        names = ["yes" if value else "no"] if isinstance(value, bool) else value
        yield step_id, [names] if isinstance(names, str) else names
    for step_id, spans in answers.spans.items():
        yield step_id, [_ANY_SPAN] if spans else []


def _possible(step: LabelStep | SpanStep) -> Iterable[str]:
    if isinstance(step, SpanStep):
        return (_ANY_SPAN,)
    return step.names or ("yes", "no")


def _sentence(step: LabelStep | SpanStep, total: int, rare: dict[str, int]) -> str:
    rarest = sorted(rare, key=rare.__getitem__)
    listed = ", ".join(f"'{name}' {rare[name]} times" for name in rarest[:_MAX_NAMES])
    others = f", {len(rarest) - _MAX_NAMES} more fewer than {MIN_EXAMPLES} times" if len(rarest) > _MAX_NAMES else ""
    has_threshold = isinstance(step, LabelStep) and step.kind != "choice"
    fix = f", or choose its threshold with --metric {step.id}=f1" if has_threshold else ""
    return (
        f"of {total} answers to step '{step.id}' in the training data, {listed}{others}: too few to learn from; "
        f"annotate more texts{fix}"
    )
