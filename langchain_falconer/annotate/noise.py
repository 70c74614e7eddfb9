"""Likely wrong annotations: confident learning over the out-of-fold scores of a proxy.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", JAIR 70: an answer is
suspect where a model that did not learn from it gives another answer at least the probability that it gives that
answer, on average, where the annotator gave it. Averages in place of a fixed threshold allow for a model that is over-
or underconfident in a class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from langchain_falconer.annotate.annotation_files import write_annotations
from langchain_falconer.annotate.view import Annotation
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import Answers, FrozenModel, JsonObject, LabelValue, Span


class Suspect(FrozenModel):
    """An annotation that is likely wrong.

    Attributes:
        text: The text.
        step: Id of the step.
        answer: The annotator's answer; of a span step the quote, or ``""`` for a span that it lacks.
        suggestion: The proxy's answer; of a span step the quote, or ``""`` for no span there.
        score: Probability of the suggestion by a proxy that did not learn from the text, in [0, 1].
        reason: Why it is suspect, in words.
    """

    text: str
    step: str
    answer: str
    suggestion: str
    score: float
    reason: str


def likely_errors(plan: Plan, annotations: Sequence[Annotation], predicted: Sequence[Answers]) -> list[Suspect]:
    """Rank the annotations that are likely wrong, the likeliest first; those that a person corrected are none.

    Args:
        plan: The plan; steps about spans of others are left out.
        annotations: The annotations.
        predicted: Answers about the same texts, without conditions, of a proxy that did not learn from them.

    Raises:
        ValueError: The numbers of annotations and predictions differ.
    """
    pairs = list(zip(annotations, predicted, strict=True))
    suspects: list[Suspect] = []
    for step in plan.top_level:
        both = [(a, p) for a, p in pairs if step.id in a.answers and step.id in p]
        suspects += _label_suspects(step, both) if isinstance(step, LabelStep) else _span_suspects(step, both)
    return sorted(suspects, key=lambda suspect: -suspect.score)


_Pairs = Sequence[tuple[Annotation, Answers]]


def _label_suspects(step: LabelStep, pairs: _Pairs) -> Iterator[Suspect]:
    labels = [(a, a.answers.labels[step.id].value, p.labels[step.id]) for a, p in pairs]
    thresholds = _means((_key(value), label.score if label.value == value else 0.0) for _, value, label in labels)
    for annotation, value, label in labels:
        threshold = thresholds.get(_key(label.value))
        is_open = step.id not in annotation.corrected and label.value != value
        if is_open and threshold is not None and label.score >= threshold:
            other = _key(label.value)
            yield Suspect(
                text=annotation.text,
                step=step.id,
                answer=_key(value),
                suggestion=other,
                score=round(label.score, 4),
                reason=(
                    f"a proxy that did not learn from this text answers {other} with a probability of "
                    f"{label.score:.2f}; where {other} is the answer, it gives that {threshold:.2f} on average"
                ),
            )


def _span_suspects(step: SpanStep, pairs: _Pairs) -> Iterator[Suspect]:
    """Yield spans that the annotator may have missed, and spans that may be none.

    Each span is a decision: yes for the spans of the annotator, no for those that the proxy alone finds.
    """
    scores = [score for a, p in pairs for score in _span_scores(a.answers.spans[step.id], p.spans[step.id])]
    present = sum(scores) / len(scores) if scores else 1.0
    for annotation, answers in pairs:
        if step.id in annotation.corrected:
            continue
        own = annotation.answers.spans[step.id]
        for span in answers.spans[step.id]:
            if not any(_overlap(span, other) for other in own) and span.score >= present:
                reason = (
                    f"a proxy that did not learn from this text finds '{span.text}' with a probability of "
                    f"{span.score:.2f}; spans of the annotator have {present:.2f} on average"
                )
                yield _span_suspect(annotation.text, step.id, "", span.text, span.score, reason)
        absent = answers.none_prob.get(step.id, 0.0)
        for span in own if absent >= present else ():
            if not any(_overlap(span, other) for other in answers.spans[step.id]):
                reason = (
                    f"a proxy that did not learn from this text finds nothing where '{span.text}' stands, with a "
                    f"probability of {absent:.2f}"
                )
                yield _span_suspect(annotation.text, step.id, span.text, "", absent, reason)


def _span_suspect(text: str, step: str, answer: str, suggestion: str, score: float, reason: str) -> Suspect:
    return Suspect(text=text, step=step, answer=answer, suggestion=suggestion, score=round(score, 4), reason=reason)


def _span_scores(own: Iterable[Span], found: Iterable[Span]) -> list[float]:
    """Return the proxy's probability of each of the annotator's spans; 0 where it finds none at its offsets."""
    by_place = {(span.start, span.end): span.score for span in found}
    return [by_place.get((span.start, span.end), 0.0) for span in own]


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _means(scored: Iterable[tuple[str, float]]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for key, score in scored:
        groups[key].append(score)
    return {key: sum(scores) / len(scores) for key, scores in groups.items()}


def _key(value: LabelValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else ", ".join(sorted(value)) or "none"


def write_review(
    path: Path, plan: Plan, uniform: Sequence[Annotation], others: Sequence[Annotation], suspects: Sequence[Suspect]
) -> None:
    """Write annotations for a person to check, who corrects rows and deletes those that were not looked at.

    What is left is a file of corrections. Rows of uniformly drawn texts say so: they alone tell how often the annotator
    is right. The other rows are suspects, with the reasons.

    Args:
        path: The file (JSON lines).
        plan: The plan.
        uniform: Annotations of uniformly drawn texts.
        others: Annotations among which the other suspects are.
        suspects: What is likely wrong.

    Raises:
        AnnotationError: The file cannot be written.
    """
    reasons: dict[str, list[str]] = defaultdict(list)
    for suspect in suspects:
        reasons[suspect.text].append(f"{suspect.step}: {suspect.reason}")
    by_text = {annotation.text: annotation for annotation in others}
    drawn = {annotation.text for annotation in uniform}
    picked = [by_text[text] for text in reasons if text in by_text and text not in drawn]
    extras: list[JsonObject] = [{"uniform": True} for _ in uniform]
    extras += [{"why": list(reasons[annotation.text])} for annotation in picked]
    write_annotations(path, plan, [*uniform, *picked], extras)
