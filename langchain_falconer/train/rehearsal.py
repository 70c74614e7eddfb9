"""Tasks learnt one after another by the same network, the old ones kept by replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.model.examples import Example, examples_of
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.proxy import Proxy
from langchain_falconer.model.sessions import HeadWeights
from langchain_falconer.model.task_heads import WEIGHT_NAMES, TaskHead
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.train.loop import Feature, autocast

if TYPE_CHECKING:
    from torch import Tensor

Step = LabelStep | SpanStep
_HOLD = 0.3  # weight of staying where one was; at 1 the new task is learnt a point less well


@dataclass(frozen=True)
class PreviousTask:
    """A plan learnt earlier, with annotations to rehearse it by, and more texts to go on answering as before."""

    plan: Plan
    annotations: Sequence[Annotation]
    unlabelled: Sequence[str] = ()


@dataclass(frozen=True)
class Previous:
    """A trained proxy to continue from, with tasks that the new proxy must not forget.

    Attributes:
        proxy: Training starts from its network; its base is recorded as that of the new proxy.
        tasks: Tasks that it knows, rehearsed while the new one is learnt.
    """

    proxy: Proxy
    tasks: Sequence[PreviousTask] = ()


def joined(plan: Plan, memory: Sequence[TaskHead]) -> HeadIndex:
    """The layout of a new plan with all remembered ones behind it."""
    return HeadIndex.of([*plan.ordered, *(step for i, old in enumerate(memory) for step in _steps(old.plan, i))])


def rehearsed(memory: Sequence[TaskHead], past: Sequence[PreviousTask], passage_chars: int) -> list[Example]:
    """The examples that there are of remembered plans."""
    known = {p.plan.fingerprint: p for p in past}
    return [
        Example(e.text, _marked(e.labels, i), _marked(e.spans, i), _marked(e.scores, i))
        for i, old in enumerate(memory)
        if (one := known.get(old.plan.fingerprint))
        for e in examples_of(one.plan, one.annotations, passage_chars)
    ]


class DistillationLoss:
    """Holds the scores of slots to what a network says of the same texts.

    With a network from before a lesson, and the slots that it remembers, it keeps what it knew (learning without
    forgetting, Li and Hoiem, arXiv 1606.09282). With one that learnt the lesson already, it teaches another what it
    thinks of texts that nobody labelled (self-training; noisy student, Xie et al., arXiv 1911.04252).

    Args:
        model: The network; it is not changed.
        memory: The plans and slots that are held, in the order of :func:`joined`.
        behind: The plan whose slots stand before those in the network that is trained, if one does.
    """

    def __init__(self, model: Any, memory: Sequence[TaskHead], behind: Plan | None = None) -> None:
        import torch

        self._model = model
        prefetch = HeadIndex.of(behind.ordered if behind else ())
        self._first = len(prefetch.span_row), len(prefetch.label_texts)
        self._layout = HeadIndex.of([step for i, old in enumerate(memory) for step in _steps(old.plan, i)])
        arrays = [old.slots.arrays() for old in memory]
        self._weights = [torch.from_numpy(np.concatenate([a[name] for a in arrays])) for name in WEIGHT_NAMES]
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def loss(self, batch: Sequence[Feature], tokens: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor]) -> Tensor:
        """The Kullback-Leibler divergence from what the held slots say to what those in training do, weighted.

        Summed over steps and, of span steps, over words; averaged over texts.
        """
        import torch

        first_span, first = self._first
        last = first + len(self._layout.label_texts)
        now = self._of_words(batch, scores[0], first_span), scores[1][:, first:last]
        told = self._told(batch, tokens)
        before = torch.cat([span for span, _ in told]), torch.stack([label for _, label in told])
        drift = _divergence(now[0], before[0]).sum()
        for step in self._layout.steps:
            if isinstance(step, LabelStep):
                rows = self._layout.label_rows[step.id]
                mine, old = now[1][:, rows], before[1][:, rows]
                if step.kind != "choice":  # each option is a choice of its own: between itself and nothing
                    mine, old = (torch.stack([x, torch.zeros_like(x)], -1) for x in (mine, old))
                drift = drift + _divergence(mine, old).sum()
        return _HOLD * drift / len(batch)

    def _told(self, batch: Sequence[Feature], tokens: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The scores of each item's words, and of its text, as they were; computed once."""
        import torch

        new = [i for i, item in enumerate(batch) if id(item) not in self._before]
        if new:
            with torch.no_grad(), autocast():
                span_scores, label_scores = self._model(*(t[new] for t in tokens), *self._weights)
            for row, i in enumerate(new):
                words = self._of_words(batch[i : i + 1], span_scores[row : row + 1].float(), 0)
                self._before[id(batch[i])] = words, label_scores[row].float()
        return [self._before[id(item)] for item in batch]

    def _of_words(self, batch: Sequence[Feature], span_scores: Tensor, first: int) -> Tensor:
        """The scores of span slots from ``first`` on for the words of a batch, (words, steps, 3)."""
        import torch

        rows = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(item.window.words) for item in batch]))
        words = torch.from_numpy(np.concatenate([item.window.words for item in batch]))
        steps = len(self._layout.span_row)
        return span_scores[rows, words, 3 * first : 3 * (first + steps)].reshape(len(words), steps, 3)


def _divergence(now: Tensor, before: Tensor) -> Tensor:
    """Of scores as they stand in the last dimension, for all else."""
    from torch.nn import functional

    pair = (now.log_softmax(-1), before.log_softmax(-1))
    return functional.kl_div(*pair, reduction="none", log_target=True).sum(-1)


def start_from(memory: Sequence[TaskHead], layout: HeadIndex, slots: Any, made: HeadWeights) -> None:
    """Set the corrections of remembered slots so that training starts from what they were, not from their words.

    ``slots`` is the :class:`QueryHeads` of ``layout``, ``made`` what its words make.
    """
    import torch

    for i, old in enumerate(memory):
        spans, labels = _rows(layout, [s.id for s in _steps(old.plan, i)])
        tokens = [3 * row + state for row in spans for state in range(3)]
        now = made.take(spans, labels)
        with torch.no_grad():
            for corrections, rows, name in (
                (slots.span_shift, tokens, "span_weight"),
                (slots.span_bias, tokens, "span_bias"),
                (slots.label_shift, labels, "label_weight"),
                (slots.label_bias, labels, "label_bias"),
            ):
                corrections[rows] = torch.from_numpy(getattr(old.slots, name) - getattr(now, name))


def parted(
    plan: Plan, memory: Sequence[TaskHead], layout: HeadIndex, weights: HeadWeights
) -> tuple[HeadWeights, tuple[TaskHead, ...]]:
    """The slots of the new plan, and the remembered plans with theirs."""
    own = weights.take(*_rows(layout, [s.id for s in plan.ordered]))
    kept = tuple(
        TaskHead(old.plan, weights.take(*_rows(layout, [s.id for s in _steps(old.plan, i)])))
        for i, old in enumerate(memory)
    )
    return own, kept


def _steps(plan: Plan, index: int) -> list[Step]:
    """The steps of a remembered plan under ids that no plan can give, so that no two steps share one."""
    return [step.model_copy(update={"id": f"{index}.{step.id}"}) for step in plan.ordered]


def _marked(answers: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {f"{index}.{name}": value for name, value in answers.items()}


def _rows(layout: HeadIndex, ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """The span rows and label rows of steps."""
    spans = [layout.span_row[i] for i in ids if i in layout.span_row]
    labels = [
        row
        for i in ids
        if i in layout.label_rows
        for row in range(layout.label_rows[i].start, layout.label_rows[i].stop)
    ]
    return spans, labels
