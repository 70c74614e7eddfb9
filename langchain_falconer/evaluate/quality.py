"""How well a proxy does what the annotator did, step by step of a plan, on texts it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.errors import AnnotationError
from langchain_falconer.evaluate.intervals import Proportion
from langchain_falconer.evaluate.metrics import (
    F1Scores,
    LabelScores,
    label_classes,
    label_scores,
    share_by_text,
    span_scores,
)
from langchain_falconer.records import Answers, FrozenModel, LabelValue, Span

if TYPE_CHECKING:
    from langchain_falconer.plan import LabelStep, Plan, SpanStep


class StepQuality(FrozenModel):
    """How well one step does.

    Attributes:
        op: ``get_label`` or ``get_span``.
        n: texts with an answer of the annotator.
        decisions: answers compared; more than ``n`` only for ``of`` steps, which answer for each span.
        metric: what ``score`` is: ``F1`` (spans at exactly their offsets; the labels of a multi-label step) or
            ``accuracy``.
        score: the headline.
        agreement: share of decisions where proxy and annotator give the very same answer: the same label, the same
            set of labels, the same set of spans.
        details: all scores.
    """

    op: Literal["get_label", "get_span"]
    n: int
    decisions: int
    metric: str
    score: Proportion
    agreement: Proportion
    details: LabelScores | F1Scores


class Quality(FrozenModel):
    """How well a plan's steps do, by step id; ``agreement`` is over all decisions (text by step, nested ones too).

    ``unmeasured`` are the steps to which the annotator gave no answer on these texts, so that nothing is known.
    """

    steps: Mapping[str, StepQuality]
    agreement: Proportion
    unmeasured: tuple[str, ...] = ()


def evaluate_plan(plan: Plan, gold: Sequence[Answers], predicted: Sequence[Answers], *, level: float = 0.95) -> Quality:
    """Compare a proxy's answers with the annotator's.

    A step counts on a text where the annotator answered it. What the proxy leaves out there is wrong. A step asked
    ``of`` spans is compared on the annotator's spans, each with the proxy's span at the same offsets; where the proxy
    missed the span, it missed the answer too.

    Args:
        plan: what was asked.
        gold: the annotator's answers about each text.
        predicted: the proxy's raw answers about the same texts, ``where`` not applied.
        level: confidence level of the interval of the overall agreement.

    Raises:
        ValueError: if the two are not equally long.
        AnnotationError: if the annotator answered no step on any text.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold answers, but {len(predicted)} predicted ones; give one for each text")
    texts = [_Case(i, g, p) for i, (g, p) in enumerate(zip(gold, predicted, strict=True))]
    cases = {step.id: _cases(plan, step, texts) for step in plan.ordered}
    measured = {step_id: _measure(plan[step_id], found) for step_id, found in cases.items() if found}
    if not measured:
        raise AnnotationError("no held-out text has an answer to any step, so quality is unknown; annotate more texts")
    return Quality(
        steps={step_id: step.quality for step_id, step in measured.items()},
        agreement=share_by_text(
            [same for step in measured.values() for same in step.same],
            [text for step in measured.values() for text in step.texts],
            level,
        ),
        unmeasured=tuple(step_id for step_id in cases if step_id not in measured),
    )


def score_by_text(plan: Plan, gold: Sequence[Answers], predicted: Sequence[Answers]) -> NDArray[np.float64]:
    """What each text says about the mean of the steps' scores, to compare two proxies on the same texts.

    A step's score is the accuracy of its labels, or the F1 of its spans or of its sets of labels; what it is about is
    as in :func:`evaluate_plan`. A text's value is that score plus the text's influence on it (the infinitesimal
    jackknife; Efron, 1982), so that the values' mean is the score, and the standard error of their mean is its own.

    Args:
        plan: what was asked.
        gold: the annotator's answers about each text.
        predicted: a proxy's raw answers about the same texts, ``where`` not applied.

    Returns:
        The values, shape (n,); all 1 where there is nothing to answer and nothing was answered.
    """
    texts = [_Case(i, g, p) for i, (g, p) in enumerate(zip(gold, predicted, strict=True))]
    measured = ((step.id, _cases(plan, step, texts)) for step in plan.ordered)
    values = [_influenced(step_id, cases, len(texts)) for step_id, cases in measured if cases]
    return np.mean(values, axis=0) if values else np.ones(len(texts))


def _influenced(step_id: str, cases: Sequence[_Case], n: int) -> NDArray[np.float64]:
    right, answers = np.zeros(n), np.zeros(n)
    for case in cases:
        gold, predicted = _both(case, step_id)
        right[case.text] += 2 * len(gold & predicted)
        answers[case.text] += len(gold) + len(predicted)
    if not answers.any():
        return np.ones(n)
    f1 = right.sum() / answers.sum()
    influenced: NDArray[np.float64] = f1 + (right - f1 * answers) / answers.mean()
    return influenced


def _both(case: _Case, step_id: str) -> tuple[frozenset[Any], frozenset[Any]]:
    """What the annotator and the proxy answered, as sets; a single label, or that there is none, is a set of one."""
    if step_id in case.gold.spans:
        return frozenset(_offsets(case.gold.spans[step_id])), frozenset(_spans(case.predicted, step_id) or ())
    gold, predicted = case.gold.labels[step_id].value, _label(case.predicted, step_id)
    if isinstance(gold, tuple):
        return label_classes(gold), label_classes(predicted or ())
    return frozenset({gold}), frozenset({predicted if not isinstance(predicted, tuple) else None})


class _Case(NamedTuple):
    """What may hold answers to a step: a text's, or those inside a span; ``predicted`` is None if that was missed."""

    text: int
    gold: Answers | Span
    predicted: Answers | Span | None


def _cases(plan: Plan, step: LabelStep | SpanStep, texts: list[_Case]) -> list[_Case]:
    """Where the annotator answered the step."""
    if step.of is None:
        around = texts
    else:
        around = [inner for case in _cases(plan, plan[step.of], texts) for inner in _inside(case, step.of)]
    return [case for case in around if step.id in case.gold.labels or step.id in case.gold.spans]


def _inside(case: _Case, step_id: str) -> list[_Case]:
    found = {(s.start, s.end): s for s in case.predicted.spans.get(step_id, ())} if case.predicted else {}
    return [_Case(case.text, s, found.get((s.start, s.end))) for s in case.gold.spans[step_id]]


class _Measured(NamedTuple):
    quality: StepQuality
    same: list[bool]
    texts: list[int]


def _measure(step: LabelStep | SpanStep, cases: list[_Case]) -> _Measured:
    measure = _measure_labels if step.op == "get_label" else _measure_spans
    return measure(step.id, cases, [case.text for case in cases])


def _measure_labels(step_id: str, cases: list[_Case], texts: list[int]) -> _Measured:
    gold = [case.gold.labels[step_id].value for case in cases]
    predicted = [_label(case.predicted, step_id) for case in cases]
    scores = label_scores(gold, predicted, texts)
    quality = StepQuality(
        op="get_label",
        n=scores.accuracy.n,
        decisions=len(cases),
        metric="F1" if scores.micro else "accuracy",
        score=scores.micro.f1 if scores.micro else scores.accuracy,
        agreement=scores.accuracy,
        details=scores,
    )
    same = [p is not None and label_classes(g) == label_classes(p) for g, p in zip(gold, predicted, strict=True)]
    return _Measured(quality, same, texts)


def _measure_spans(step_id: str, cases: list[_Case], texts: list[int]) -> _Measured:
    gold = [_offsets(case.gold.spans[step_id]) for case in cases]
    predicted = [_spans(case.predicted, step_id) for case in cases]
    scores = span_scores(gold, [found or [] for found in predicted], texts)
    same = [found is not None and set(g) == set(found) for g, found in zip(gold, predicted, strict=True)]
    agreement = share_by_text(same, texts)
    quality = StepQuality(
        op="get_span",
        n=agreement.n,
        decisions=len(cases),
        metric="F1",
        score=scores.f1,
        agreement=agreement,
        details=scores,
    )
    return _Measured(quality, same, texts)


def _label(answers: Answers | Span | None, step_id: str) -> LabelValue | None:
    label = answers.labels.get(step_id) if answers else None
    return label.value if label else None


def _spans(answers: Answers | Span | None, step_id: str) -> list[tuple[int, int]] | None:
    return _offsets(answers.spans[step_id]) if answers and step_id in answers.spans else None


def _offsets(spans: Iterable[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in spans]
