"""The loss of a batch: cross-entropy of each step on the texts that annotate it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langchain_falconer.model.examples import Example
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.tokenization import Window
from langchain_falconer.plan import LabelStep
from langchain_falconer.records import LabelValue

if TYPE_CHECKING:
    from torch import Tensor

_IGNORE = -100


@dataclass(frozen=True)
class Feature:
    """One pass of the encoder, with the example that it belongs to."""

    window: Window
    example: Example


@dataclass(frozen=True)
class Totals:
    """What the sums of a batch are divided by: a batch that is computed in parts is averaged as a whole.

    Attributes:
        words: Words of texts with an annotated span step.
        texts: Texts that annotate a label step, by its id.
    """

    words: int
    texts: Counter[str]

    @classmethod
    def of(cls, batch: Sequence[Feature]) -> Totals:
        """Count a batch."""
        words = sum(len(item.window.words) for item in batch if item.example.spans)
        return cls(words, Counter(step for item in batch for step in item.example.labels))


def loss_of(
    span_scores: Tensor,
    label_scores: Tensor,
    index: HeadIndex,
    batch: Sequence[Feature],
    totals: Totals | None = None,
) -> Tensor:
    """Return the sum over steps of each step's mean loss on the texts that annotate it.

    Args:
        span_scores: Token scores (B, T, 3S).
        label_scores: Label scores (B, L).
        index: The steps.
        batch: The texts, in the order of the scores.
        totals: Of the whole batch, where ``batch`` is a part of it; the losses of the parts add up to that of the
            whole. Default those of ``batch``.
    """
    from torch.nn import functional

    totals = totals or Totals.of(batch)
    losses = []
    if index.span_row and totals.words:
        scores = span_scores.reshape(*span_scores.shape[:2], -1, 3)
        targets = _span_targets(index, batch, scores.shape[1]).to(scores.device).flatten()
        # Summed over steps, averaged over words: a step weighs the same however many steps the plan has.
        summed = functional.cross_entropy(scores.flatten(0, 2), targets, ignore_index=_IGNORE, reduction="sum")
        losses.append(summed / totals.words)
    losses += [
        loss / totals.texts[s.id]
        for s in index.steps
        if isinstance(s, LabelStep) and (loss := _label_loss(s, label_scores, index, batch)) is not None
    ]
    return sum(losses) if losses else span_scores.sum() * 0.0  # type: ignore[return-value]


def _span_targets(index: HeadIndex, batch: Sequence[Feature], width: int) -> Tensor:
    import torch

    targets = np.full((len(batch), width, len(index.span_row)), _IGNORE, np.int64)
    for row, item in enumerate(batch):
        window = item.window
        for step_id, spans in item.example.spans.items():
            head = index.span_row[step_id]
            targets[row, window.words, head] = window.states(spans)
    return torch.from_numpy(targets)


def _label_loss(step: LabelStep, scores: Tensor, index: HeadIndex, batch: Sequence[Feature]) -> Tensor | None:
    """Return the loss of a label step, summed over the texts that annotate it; None where none does."""
    import torch
    from torch.nn import functional

    examples = [(i, item.example) for i, item in enumerate(batch) if step.id in item.example.labels]
    if not examples:
        return None
    logits = scores[[i for i, _ in examples], index.label_rows[step.id]]
    targets = torch.tensor([soft_target(step, e.labels[step.id], e.scores.get(step.id, 1.0)) for _, e in examples])
    targets = targets.to(logits.device)
    if step.kind == "choice":
        return functional.cross_entropy(logits, targets, reduction="sum")
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def soft_target(step: LabelStep, value: LabelValue, score: float) -> list[float]:
    """Return the probability of each option where ``value`` is right with probability ``score``."""
    if step.kind == "yes_no":
        return [score if value else 1.0 - score]
    if step.kind == "choice":
        rest = (1.0 - score) / max(1, len(step.names) - 1)
        return [score if name == value else rest for name in step.names]
    assert isinstance(value, tuple)
    return [score if name in value else 0.0 for name in step.names]
