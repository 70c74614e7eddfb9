"""Continual learning: earlier tasks are rehearsed while the network learns a new one."""

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
from langchain_falconer.train.loop import scores_of
from langchain_falconer.train.losses import Feature

if TYPE_CHECKING:
    from torch import Tensor, nn

Step = LabelStep | SpanStep
_DISTILLATION_WEIGHT = 0.3  # at 1 the new task scores a point less


@dataclass(frozen=True)
class PreviousTask:
    """A plan learned earlier, and the data to rehearse it.

    Attributes:
        plan: The plan.
        annotations: Annotations that are trained on again.
        unlabelled: Texts on which the answers of the network are to stay the same. Default none.
    """

    plan: Plan
    annotations: Sequence[Annotation]
    unlabelled: Sequence[str] = ()


@dataclass(frozen=True)
class Previous:
    """A trained proxy to continue from, with tasks that the new proxy must not forget.

    Attributes:
        proxy: Training starts from its network; its base is recorded as that of the new proxy.
        tasks: Earlier tasks, rehearsed while the new one is learned.
    """

    proxy: Proxy
    tasks: Sequence[PreviousTask] = ()


def joint_index(plan: Plan, memory: Sequence[TaskHead]) -> HeadIndex:
    """Return the index of a new plan, followed by those of all earlier tasks."""
    return HeadIndex.of([*plan.ordered, *(step for i, old in enumerate(memory) for step in _steps(old.plan, i))])


def rehearsal_examples(memory: Sequence[TaskHead], tasks: Sequence[PreviousTask], passage_chars: int) -> list[Example]:
    """Return the annotated examples of earlier tasks."""
    known = {task.plan.fingerprint: task for task in tasks}
    return [
        Example(e.text, _prefixed(e.labels, i), _prefixed(e.spans, i), _prefixed(e.scores, i))
        for i, old in enumerate(memory)
        if (task := known.get(old.plan.fingerprint))
        for e in examples_of(task.plan, task.annotations, passage_chars)
    ]


class DistillationLoss:
    """The divergence of a network's scores from those of a teacher network on the same texts.

    With the network before training as teacher, earlier tasks are retained (learning without forgetting, Li and
    Hoiem, arXiv 1606.09282). With a network trained on the same annotations, its answers to unlabelled texts are
    learned (self-training; noisy student, Xie et al., arXiv 1911.04252).

    Args:
        model: The teacher, or the part of it above frozen layers; it is not changed.
        memory: The plans that it answers, with their heads, in the order of :func:`joint_index`.
        after: The plan whose heads come before those in the network that is trained, if any.
    """

    def __init__(self, model: nn.Module, memory: Sequence[TaskHead], after: Plan | None = None) -> None:
        import torch

        self._model = model
        preceding = HeadIndex.of(after.ordered if after else ())
        self._first = len(preceding.span_row), len(preceding.label_texts)
        self._index = HeadIndex.of([step for i, old in enumerate(memory) for step in _steps(old.plan, i)])
        arrays = [old.weights.arrays() for old in memory]
        self._weights = [torch.from_numpy(np.concatenate([a[name] for a in arrays])) for name in WEIGHT_NAMES]
        self._teacher_scores: dict[int, tuple[Tensor, Tensor]] = {}

    def loss(self, batch: Sequence[Feature], inputs: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor]) -> Tensor:
        """Return the weighted Kullback-Leibler divergence of the scores from those of the teacher.

        Summed over steps and, of span steps, over words; averaged over texts.
        """
        import torch

        first_span, first = self._first
        last = first + len(self._index.label_texts)
        now = self._of_words(batch, scores[0], first_span), scores[1][:, first:last]
        teacher = self._scores_of_teacher(batch, inputs)
        before = torch.cat([span for span, _ in teacher]), torch.stack([label for _, label in teacher])
        drift = _divergence(now[0], before[0]).sum()
        for step in self._index.steps:
            if isinstance(step, LabelStep):
                rows = self._index.label_rows[step.id]
                new_scores, old_scores = now[1][:, rows], before[1][:, rows]
                if step.kind != "choice":  # each option is a binary choice of its own
                    new_scores, old_scores = (
                        torch.stack([x, torch.zeros_like(x)], -1) for x in (new_scores, old_scores)
                    )
                drift = drift + _divergence(new_scores, old_scores).sum()
        return _DISTILLATION_WEIGHT * drift / len(batch)

    def _scores_of_teacher(
        self, batch: Sequence[Feature], inputs: tuple[Tensor, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the teacher's scores of each feature's words, and of its text; each is computed once."""
        import torch

        new = [i for i, item in enumerate(batch) if id(item) not in self._teacher_scores]
        if new:
            weights = [w.to(inputs[0].device) for w in self._weights]
            with torch.no_grad():
                span_scores, label_scores = scores_of(self._model, (inputs[0][new], inputs[1][new]), weights)
            for row, i in enumerate(new):
                words = self._of_words(batch[i : i + 1], span_scores[row : row + 1], 0)
                self._teacher_scores[id(batch[i])] = words, label_scores[row].clone()
        return [self._teacher_scores[id(item)] for item in batch]

    def _of_words(self, batch: Sequence[Feature], span_scores: Tensor, first: int) -> Tensor:
        """Return the scores of span heads from ``first`` on for the words of a batch, (words, steps, 3)."""
        import torch

        rows = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(item.window.words) for item in batch]))
        words = torch.from_numpy(np.concatenate([item.window.words for item in batch]))
        steps = len(self._index.span_row)
        return span_scores[rows, words, 3 * first : 3 * (first + steps)].reshape(len(words), steps, 3)


def _divergence(now: Tensor, before: Tensor) -> Tensor:
    """Return the divergence over the last dimension, one for each row of the others."""
    from torch.nn import functional

    pair = (now.log_softmax(-1), before.log_softmax(-1))
    return functional.kl_div(*pair, reduction="none", log_target=True).sum(-1)


def restore_heads(memory: Sequence[TaskHead], index: HeadIndex, heads: Any, generated: HeadWeights) -> None:
    """Set the corrections of earlier heads so that training starts from their learned weights, not from their words.

    ``heads`` is the :class:`QueryHeads` of ``index``, ``generated`` the weights generated from its words.
    """
    import torch

    for i, old in enumerate(memory):
        spans, labels = _rows(index, [s.id for s in _steps(old.plan, i)])
        tokens = [3 * row + state for row in spans for state in range(3)]
        now = generated.take(spans, labels)
        with torch.no_grad():
            for corrections, rows, name in (
                (heads.span_shift, tokens, "span_weight"),
                (heads.span_bias, tokens, "span_bias"),
                (heads.label_shift, labels, "label_weight"),
                (heads.label_bias, labels, "label_bias"),
            ):
                corrections[rows] = torch.from_numpy(getattr(old.weights, name) - getattr(now, name))


def split_heads(
    plan: Plan, memory: Sequence[TaskHead], index: HeadIndex, weights: HeadWeights
) -> tuple[HeadWeights, tuple[TaskHead, ...]]:
    """Return the heads of the new plan, and the earlier tasks with theirs."""
    own = weights.take(*_rows(index, [s.id for s in plan.ordered]))
    retained = tuple(
        TaskHead(old.plan, weights.take(*_rows(index, [s.id for s in _steps(old.plan, i)])))
        for i, old in enumerate(memory)
    )
    return own, retained


def _steps(plan: Plan, index: int) -> list[Step]:
    """Return the steps of an earlier plan under ids that no plan can give, so that no two steps share one."""
    return [step.model_copy(update={"id": f"{index}.{step.id}"}) for step in plan.ordered]


def _prefixed(answers: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {f"{index}.{name}": value for name, value in answers.items()}


def _rows(index: HeadIndex, ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the span rows and label rows of steps."""
    spans = [index.span_row[i] for i in ids if i in index.span_row]
    labels = [
        row for i in ids if i in index.label_rows for row in range(index.label_rows[i].start, index.label_rows[i].stop)
    ]
    return spans, labels
