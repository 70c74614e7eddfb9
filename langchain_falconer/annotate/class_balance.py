"""Answers that are so rare among the annotations that a proxy hardly learns them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from langchain_falconer.annotate.view import Annotation
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import Answers, Span

MIN_EXAMPLES = 10
_NAMED = 3
_SOMETHING = "something"


def rare_label_warnings(plan: Plan, annotations: Iterable[Annotation]) -> list[str]:
    """A sentence for each step of which some answer was given fewer than ten times, naming the fix."""
    asked: Counter[str] = Counter()
    given: Counter[tuple[str, str]] = Counter()
    for annotation in annotations:
        for answers in _all(annotation.answers):
            for step_id, answer in _told(answers):
                asked[step_id] += 1
                given.update((step_id, name) for name in answer)
    return [
        _sentence(step, asked[step.id], few)
        for step in plan.ordered
        if (few := {name: n for name in _possible(step) if (n := given[step.id, name]) < MIN_EXAMPLES})
    ]


def _all(answers: Answers | Span) -> Iterator[Answers | Span]:
    """The answers about a text, and those about its spans."""
    yield answers
    for spans in answers.spans.values():
        for span in spans:
            yield from _all(span)


def _told(answers: Answers | Span) -> Iterator[tuple[str, Iterable[str]]]:
    for step_id, label in answers.labels.items():
        value = label.value
        names = ["yes" if value else "no"] if isinstance(value, bool) else value
        yield step_id, [names] if isinstance(names, str) else names
    for step_id, spans in answers.spans.items():
        yield step_id, [_SOMETHING] if spans else []


def _possible(step: LabelStep | SpanStep) -> Iterable[str]:
    if isinstance(step, SpanStep):
        return (_SOMETHING,)
    return step.names or ("yes", "no")


def _sentence(step: LabelStep | SpanStep, asked: int, few: dict[str, int]) -> str:
    rarest = sorted(few, key=few.__getitem__)
    named = ", ".join(f"'{name}' {few[name]} times" for name in rarest[:_NAMED])
    others = f", {len(rarest) - _NAMED} more fewer than {MIN_EXAMPLES} times" if len(rarest) > _NAMED else ""
    has_threshold = isinstance(step, LabelStep) and step.kind != "choice"
    fix = f", or choose its threshold with --metric {step.id}=f1" if has_threshold else ""
    return (
        f"of {asked} answers to step '{step.id}' that the proxy learns from, {named}{others}: hardly enough to learn "
        f"from; annotate more texts{fix}"
    )
