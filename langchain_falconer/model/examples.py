"""Training examples: annotations split into passages, as in inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import split_passages
from langchain_falconer.model.marking import Marked
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, LabelValue, Span


@dataclass(frozen=True)
class Example:
    """One text with its answers by step id; a step that is absent was not annotated.

    Attributes:
        text: The text.
        labels: Label by label step.
        spans: Spans by span step, as (start, end) character offsets.
        scores: Probability in [0, 1] that a label is right, where its annotator was not certain.
    """

    text: str
    labels: Mapping[str, LabelValue]
    spans: Mapping[str, Sequence[tuple[int, int]]]
    scores: Mapping[str, float] = field(default_factory=dict)


def examples_of(plan: Plan, annotations: Iterable[Annotation], passage_chars: int) -> list[Example]:
    """Convert annotations to examples of one passage each.

    The labels of a long text apply to each of its passages. Each span with answers of ``of`` steps becomes an example
    with that span marked.
    """
    examples: list[Example] = []
    for annotation in annotations:
        for start, end in split_passages(annotation.text, passage_chars):
            passage = annotation.text[start:end]
            _add(examples, passage, annotation.answers, (start, end), lambda p, is_end: p)
            for span in _parents(plan, annotation.answers):
                if start <= span.start and span.end <= end:
                    marked = Marked(passage, span.start - start, span.end - start)
                    _add(examples, marked.marked, span, (start, end), marked.map)
    return examples


def _add(
    examples: list[Example], text: str, answers: Answers | Span, at: tuple[int, int], move: Callable[..., int]
) -> None:
    start, end = at
    labels = {k: v.value for k, v in answers.labels.items()}
    scores = {k: v.score for k, v in answers.labels.items() if v.score < 1}
    spans = {
        k: [
            (move(s.start - start, is_end=False), move(s.end - start, is_end=True))
            for s in own
            if start <= s.start and s.end <= end
        ]
        for k, own in answers.spans.items()
    }
    if labels or spans:
        examples.append(Example(text, labels, spans, scores))


def _parents(plan: Plan, answers: Answers | Span) -> Iterable[Span]:
    for step_id, spans in answers.spans.items():
        if plan.children(step_id):
            for span in spans:
                yield span
                yield from _parents(plan, span)
