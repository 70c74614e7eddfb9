"""Quality of a proxy: agreement with the annotator, by step of a plan, on texts that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.errors import AnnotationError
from langchain_falconer.evaluate import metrics
from langchain_falconer.evaluate.intervals import Proportion
from langchain_falconer.evaluate.metrics import F1Scores, LabelScores, label_classes, share_by_text
from langchain_falconer.evaluate.mistakes import (
    Mistake,
    Occurrence,
    label_mistakes,
    most_frequent_mistakes,
    span_mistakes,
)
from langchain_falconer.evaluate.reliability import Reliability, reliability
from langchain_falconer.evaluate.slices import Slice, attributes_of, compare_slices
from langchain_falconer.records import Answers, FrozenModel, LabelValue, Span

if TYPE_CHECKING:
    from langchain_falconer.plan import LabelStep, Plan, SpanStep


_MIN_POSITIVES = 10  # below it a label, or spans, cannot be judged


class StepQuality(FrozenModel):
    """Quality of one step.

    Attributes:
        op: ``get_label`` or ``get_span``.
        n: Number of texts with an answer of the annotator.
        decisions: Number of answers compared; more than ``n`` only for ``of`` steps, with an answer per span.
        metric: Metric of ``score``: ``F1`` (of spans at exactly their offsets, or of the labels of a multi-label step)
            or ``accuracy``.
        score: The main score.
        agreement: Share of decisions with exactly the same answer of proxy and annotator: the same label, set of
            labels, or set of spans.
        details: All scores.
        remarks: What is too rare among these texts to be judged, one sentence each.
        reliability: Calibration of the scores; ``None`` without scored answers.
        mistakes: The most frequent mistakes, with quotes where the texts are known.
        slices: Groups of texts, compared with the others: by length, script and label.
    """

    op: Literal["get_label", "get_span"]
    n: int
    decisions: int
    metric: str
    score: Proportion
    agreement: Proportion
    details: LabelScores | F1Scores
    remarks: tuple[str, ...] = ()
    reliability: Reliability | None = None
    mistakes: tuple[Mistake, ...] = ()
    slices: tuple[Slice, ...] = ()


class Quality(FrozenModel):
    """Quality of the steps of a plan.

    Attributes:
        steps: Quality by step id.
        agreement: Share of equal answers over all decisions (every step on every text and span).
        unmeasured: Ids of steps without an answer of the annotator on these texts.
    """

    steps: Mapping[str, StepQuality]
    agreement: Proportion
    unmeasured: tuple[str, ...] = ()

    def without_texts(self) -> Quality:
        """Return the quality without mistakes, which hold words of the texts: for what may leave their home."""
        steps = {step_id: step.model_copy(update={"mistakes": ()}) for step_id, step in self.steps.items()}
        return self.model_copy(update={"steps": steps})


def evaluate_plan(
    plan: Plan,
    gold: Sequence[Answers],
    predicted: Sequence[Answers],
    *,
    level: float = 0.95,
    texts: Sequence[str] | None = None,
) -> Quality:
    """Compare a proxy's answers with the annotator's.

    A step counts on a text where the annotator answered it; a missing answer of the proxy is wrong there. A step about
    the spans of another is compared on the annotator's spans, each with the proxy's span at the same offsets; where the
    proxy missed the span, it missed the answer too.

    Args:
        plan: The plan.
        gold: Annotator's answers about each text.
        predicted: Proxy's raw answers about the same texts, ``where`` not applied.
        level: Confidence level of the interval of the overall agreement.
        texts: The texts, for quotes of mistakes and slices by length and script.

    Raises:
        ValueError: The numbers of texts differ.
        AnnotationError: The annotator answered no step on any text.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold answers, but {len(predicted)} predicted ones; give one for each text")
    whole = [_Case(i, g, p) for i, (g, p) in enumerate(zip(gold, predicted, strict=True))]
    cases = {step.id: _cases(plan, step, whole) for step in plan.ordered}
    measured = {step_id: _measure(plan[step_id], answered, texts) for step_id, answered in cases.items() if answered}
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
    """Compute the contribution of each text to the mean score of the steps, to compare proxies on the same texts.

    A step's score is the accuracy of its labels, or the F1 of its spans or sets of labels, on the texts and spans of
    :func:`evaluate_plan`. A text's value is that score plus the text's influence on it (infinitesimal jackknife; Efron
    1982), so that the mean of the values is the score, and the standard error of the mean is that of the score.

    Args:
        plan: The plan.
        gold: Annotator's answers about each text.
        predicted: Proxy's raw answers about the same texts, ``where`` not applied.

    Returns:
        Values of shape (n,); all 1 where neither side has an answer.
    """
    texts = [_Case(i, g, p) for i, (g, p) in enumerate(zip(gold, predicted, strict=True))]
    measured = ((step.id, _cases(plan, step, texts)) for step in plan.ordered)
    values = [_jackknife_values(step_id, cases, len(texts)) for step_id, cases in measured if cases]
    return np.mean(values, axis=0) if values else np.ones(len(texts))


def agreement_by_text(
    plan: Plan, gold: Sequence[Answers], predicted: Sequence[Answers]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the decisions about each text, and those that are the same: what ``Quality.agreement`` is the share of.

    Args:
        plan: The plan.
        gold: Annotator's answers about each text.
        predicted: Proxy's raw answers about the same texts, ``where`` not applied.

    Returns:
        Equal decisions and decisions, each of shape (texts,).
    """
    texts = [_Case(i, g, p) for i, (g, p) in enumerate(zip(gold, predicted, strict=True))]
    measured = [_measure(step, cases, None) for step in plan.ordered if (cases := _cases(plan, step, texts))]
    equal, decisions = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    for step in measured:
        np.add.at(decisions, step.texts, 1)
        np.add.at(equal, step.texts, np.asarray(step.same, np.int64))
    return equal, decisions


def _jackknife_values(step_id: str, cases: Sequence[_Case], n: int) -> NDArray[np.float64]:
    right, answers = np.zeros(n), np.zeros(n)
    for case in cases:
        gold, predicted = _items(case, step_id)
        right[case.text] += 2 * len(gold & predicted)
        answers[case.text] += len(gold) + len(predicted)
    if not answers.any():
        return np.ones(n)
    f1 = right.sum() / answers.sum()
    values: NDArray[np.float64] = f1 + (right - f1 * answers) / answers.mean()
    return values


def _items(case: _Case, step_id: str) -> tuple[frozenset[Any], frozenset[Any]]:
    """Return the answers of annotator and proxy as sets; a single label, or its absence, is a set of one."""
    if step_id in case.gold.spans:
        return frozenset(_offsets(case.gold, step_id) or ()), frozenset(_offsets(case.predicted, step_id) or ())
    gold, predicted = case.gold.labels[step_id].value, _label(case.predicted, step_id)
    absent = frozenset() if isinstance(gold, tuple) else frozenset({None})
    return label_classes(gold), absent if predicted is None else label_classes(predicted)


class _Case(NamedTuple):
    """Answers of annotator and proxy about a text, by its index, or about a span, which the proxy may have missed."""

    text: int
    gold: Answers | Span
    predicted: Answers | Span | None


def _cases(plan: Plan, step: LabelStep | SpanStep, texts: list[_Case]) -> list[_Case]:
    """Return the cases in which the annotator answered the step."""
    if step.of is None:
        candidates = texts
    else:
        candidates = [inner for case in _cases(plan, plan[step.of], texts) for inner in _inside(case, step.of)]
    return [case for case in candidates if step.id in case.gold.labels or step.id in case.gold.spans]


def _inside(case: _Case, step_id: str) -> list[_Case]:
    by_offsets = {(s.start, s.end): s for s in case.predicted.spans.get(step_id, ())} if case.predicted else {}
    return [_Case(case.text, s, by_offsets.get((s.start, s.end))) for s in case.gold.spans[step_id]]


class _Measured(NamedTuple):
    quality: StepQuality
    same: list[bool]
    texts: list[int]


def _measure(step: LabelStep | SpanStep, cases: list[_Case], texts: Sequence[str] | None) -> _Measured:
    numbers = [case.text for case in cases]
    compared = _compare_labels(step, cases) if step.op == "get_label" else _compare_spans(step, cases)
    agreement = share_by_text(compared.same, numbers)
    f1 = compared.details.f1 if isinstance(compared.details, F1Scores) else None
    if isinstance(compared.details, LabelScores) and compared.details.micro:
        f1 = compared.details.micro.f1
    quality = StepQuality(
        op=step.op,
        n=agreement.n,
        decisions=len(cases),
        metric="F1" if f1 else "accuracy",
        score=f1 or agreement,
        agreement=agreement,
        details=compared.details,
        remarks=_remarks(compared.details),
        reliability=reliability(*zip(*compared.scored, strict=True)) if compared.scored else None,
        mistakes=most_frequent_mistakes(compared.mistakes, texts),
        slices=_slices(compared, numbers, texts),
    )
    return _Measured(quality, compared.same, numbers)


class _Compared(NamedTuple):
    """Answers of both sides: scores, equality, mistakes, (score, is right) of each answer, and labels of the gold."""

    details: LabelScores | F1Scores
    same: list[bool]
    mistakes: list[Occurrence]
    scored: list[tuple[float, bool]]
    labels: list[frozenset[str]]


def _compare_labels(step: LabelStep | SpanStep, cases: list[_Case]) -> _Compared:
    numbers = [case.text for case in cases]
    gold = [case.gold.labels[step.id].value for case in cases]
    answers = [case.predicted.labels.get(step.id) if case.predicted else None for case in cases]
    predicted = [label.value if label else None for label in answers]
    classes = [label_classes(value) for value in gold]
    answered = [None if value is None else label_classes(value) for value in predicted]
    same = [g == p for g, p in zip(classes, answered, strict=True)]
    multi = any(isinstance(value, tuple) for value in (*gold, *predicted))
    return _Compared(
        metrics.label_scores(gold, predicted, numbers),
        same,
        label_mistakes(classes, answered, numbers, multi=multi),
        [(label.score, ok) for label, ok in zip(answers, same, strict=True) if label],
        [] if multi else classes,
    )


def _compare_spans(step: LabelStep | SpanStep, cases: list[_Case]) -> _Compared:
    numbers = [case.text for case in cases]
    gold = [case.gold.spans[step.id] for case in cases]
    answers = [case.predicted.spans.get(step.id) if case.predicted else None for case in cases]
    places = [[(s.start, s.end, s.text) for s in spans] for spans in gold]
    answered = [[(s.start, s.end, s.text) for s in spans or ()] for spans in answers]
    offsets = [[[(start, end) for start, end, _ in spans] for spans in side] for side in (places, answered)]
    right = [set(spans) for spans in offsets[0]]
    return _Compared(
        metrics.span_scores(offsets[0], offsets[1], numbers),
        [a is not None and g == set(p) for g, a, p in zip(right, answers, offsets[1], strict=True)],
        span_mistakes(places, answered, numbers),
        [(s.score, (s.start, s.end) in g) for g, spans in zip(right, answers, strict=True) for s in spans or ()],
        [],
    )


def _remarks(details: LabelScores | F1Scores) -> tuple[str, ...]:
    """Return what is too rare to be judged: labels, or spans, that the annotator gave fewer than ten times."""
    if isinstance(details, F1Scores):
        few = {"": details.support} if details.support < _MIN_POSITIVES else {}
    else:
        few = {name: one.support for name, one in details.classes.items() if one.support < _MIN_POSITIVES}
    if not few:
        return ()
    if "" in few:
        return (f"the annotator found only {few['']} spans in these texts, too few to say anything",)
    counts = ", ".join(f"{name} ({n})" for name, n in sorted(few.items(), key=lambda pair: -pair[1]))
    return (f"too few of these texts have the label to say anything about it: {counts}",)


def _slices(compared: _Compared, numbers: Sequence[int], texts: Sequence[str] | None) -> tuple[Slice, ...]:
    right: dict[int, bool] = {}
    for number, ok in zip(numbers, compared.same, strict=True):
        right[number] = right.get(number, True) and ok
    attributes = attributes_of([texts[number] for number in right]) if texts else {}
    if compared.labels and len(right) == len(numbers):
        attributes["label"] = [", ".join(sorted(labels)) for labels in compared.labels]
    return compare_slices(list(right.values()), attributes)


def _label(answers: Answers | Span | None, step_id: str) -> LabelValue | None:
    label = answers.labels.get(step_id) if answers else None
    return label.value if label else None


def _offsets(answers: Answers | Span | None, step_id: str) -> list[tuple[int, int]] | None:
    if answers is None or step_id not in answers.spans:
        return None
    return [(span.start, span.end) for span in answers.spans[step_id]]
