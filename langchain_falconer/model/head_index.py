"""Where each step's answers lie among the proxy's heads: the one place that maps steps to rows of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_falconer.plan import LabelStep, Plan, SpanStep

_MARKED = "the marked words"


@dataclass(frozen=True)
class HeadIndex:
    """Steps and the heads they own.

    ``span_row[id]`` is a span step's row among the span heads; ``label_rows[id]`` the slice of a label step's rows
    among the label heads (one row for yes/no, one an option otherwise). ``asked_texts`` repeats, for each label row,
    the instruction that it answers.
    """

    steps: tuple[LabelStep | SpanStep, ...]
    span_row: dict[str, int]
    label_rows: dict[str, slice]
    span_texts: tuple[str, ...]
    label_texts: tuple[str, ...]
    asked_texts: tuple[str, ...]

    @classmethod
    def of(cls, steps: Plan | Sequence[LabelStep | SpanStep]) -> HeadIndex:
        """The index of a plan or of loose steps, in their order."""
        ordered = steps.ordered if isinstance(steps, Plan) else tuple(steps)
        span_row: dict[str, int] = {}
        label_rows: dict[str, slice] = {}
        span_texts: list[str] = []
        label_texts: list[str] = []
        asked_texts: list[str] = []
        for step in ordered:
            if isinstance(step, SpanStep):
                span_row[step.id] = len(span_texts)
                span_texts.append(_asked(step))
            else:
                texts = _label_texts(step)
                label_rows[step.id] = slice(len(label_texts), len(label_texts) + len(texts))
                label_texts += texts
                asked_texts += [_asked(step)] * len(texts)
        return cls(ordered, span_row, label_rows, tuple(span_texts), tuple(label_texts), tuple(asked_texts))


def _asked(step: LabelStep | SpanStep) -> str:
    return step.instruction.replace("{span}", _MARKED)


def _label_texts(step: LabelStep) -> list[str]:
    if step.labels is None:
        return [_asked(step)]
    return [f"{o.name}: {o.description}" if o.description else o.name for o in step.labels]
