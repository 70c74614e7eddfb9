"""Index of query heads: the one place that maps steps to rows of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_falconer.plan import LabelStep, Plan, SpanStep

_SPAN_PLACEHOLDER_TEXT = "the marked words"


@dataclass(frozen=True)
class HeadIndex:
    """Steps and the rows of their query heads.

    Attributes:
        steps: The steps, in order.
        span_row: The row of a span step among the S span heads, by step id.
        label_rows: The slice of a label step's rows among the L label heads, by step id: one row for yes/no, else one
            per option.
        span_texts: The question of each span head, length S.
        label_texts: The option (for yes/no, the question) of each label head, length L.
        question_texts: The question that each label head answers, length L.
    """

    steps: tuple[LabelStep | SpanStep, ...]
    span_row: dict[str, int]
    label_rows: dict[str, slice]
    span_texts: tuple[str, ...]
    label_texts: tuple[str, ...]
    question_texts: tuple[str, ...]

    @classmethod
    def of(cls, steps: Plan | Sequence[LabelStep | SpanStep]) -> HeadIndex:
        """Index the heads of a plan, or of separate steps in their order."""
        ordered = steps.ordered if isinstance(steps, Plan) else tuple(steps)
        span_row: dict[str, int] = {}
        label_rows: dict[str, slice] = {}
        span_texts: list[str] = []
        label_texts: list[str] = []
        question_texts: list[str] = []
        for step in ordered:
            if isinstance(step, SpanStep):
                span_row[step.id] = len(span_texts)
                span_texts.append(_question(step))
            else:
                texts = _label_texts(step)
                label_rows[step.id] = slice(len(label_texts), len(label_texts) + len(texts))
                label_texts += texts
                question_texts += [_question(step)] * len(texts)
        return cls(ordered, span_row, label_rows, tuple(span_texts), tuple(label_texts), tuple(question_texts))


def _question(step: LabelStep | SpanStep) -> str:
    return step.instruction.replace("{span}", _SPAN_PLACEHOLDER_TEXT)


def _label_texts(step: LabelStep) -> list[str]:
    if step.labels is None:
        return [_question(step)]
    return [f"{o.name}: {o.description}" if o.description else o.name for o in step.labels]
