"""Linear probing: the label heads that training starts from, fitted to the annotations on the untrained network.

A network whose head is fitted first is distorted less by fine-tuning, and keeps more of what it knows (LP-FT, Kumar et
al., arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from langchain_falconer.model.network import pooled
from langchain_falconer.model.sessions import LABEL_SCALE, HeadWeights
from langchain_falconer.plan import LabelStep
from langchain_falconer.train.losses import Feature, soft_target

if TYPE_CHECKING:
    from langchain_falconer.model.head_index import HeadIndex
    from langchain_falconer.model.network import QueryHeadModel
    from langchain_falconer.train.frozen import LowerLayers

_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights of the squared distance to the head made from words, in units of one text's loss."""
_BIAS_PENALTY = 0.01  # relative: how common an option is says nothing of how its words were understood
_FOLDS = 5
_MIN_TEXTS = 20  # fewer cannot tell one penalty from another
_MAX_TEXTS = 1_000
_ITERATIONS = 50
_BATCH = 16


@dataclass(frozen=True)
class Probe:
    """The head of a label step, fitted to texts whose vectors stay as they are.

    Attributes:
        weight: What is added to the weights (options, d) made from words.
        bias: What is added to the biases (options,).
        penalty: The penalty that cross-validation chose.
        loss: Its cross-validated mean loss; that of the head made from words alone where it is lower.
    """

    weight: Tensor
    bias: Tensor
    penalty: float | None
    loss: float


class Vectors:
    """The pooled states of texts in the untrained network, each computed once.

    Args:
        model: The network before training, where it is trained.
        lower: Computes its inputs.
    """

    def __init__(self, model: QueryHeadModel, lower: LowerLayers) -> None:
        self._model = model
        self._lower = lower
        self._vectors: dict[int, tuple[Feature, Tensor]] = {}  # by id; the feature is held so that its id stays its own

    def __call__(self, features: Sequence[Feature]) -> Tensor:
        """Return unit vectors (n, d) on the CPU."""
        new = sorted((f for f in features if id(f) not in self._vectors), key=lambda f: len(f.window.ids))
        for at in range(0, len(new), _BATCH):
            batch = new[at : at + _BATCH]
            vectors = pooled(*self._lower.states_of(self._model, [item.window for item in batch])).cpu()
            self._vectors.update((id(item), (item, vector)) for item, vector in zip(batch, vectors, strict=True))
        return torch.stack([self._vectors[id(f)][1] for f in features])


def probe_heads(
    index: HeadIndex, features: Sequence[Feature], vectors: Vectors, words: HeadWeights, seed: int
) -> dict[str, Probe]:
    """Fit the head of each label step that enough texts annotate.

    Args:
        index: The steps.
        features: The texts.
        vectors: Their vectors.
        words: The heads made from words.
        seed: Seed of the folds.
    """
    probes = {}
    for step in index.steps:
        own = [f for f in features if step.id in f.example.labels][:_MAX_TEXTS]
        if isinstance(step, LabelStep) and len(own) >= _MIN_TEXTS:
            targets = [soft_target(step, f.example.labels[step.id], f.example.scores.get(step.id, 1.0)) for f in own]
            rows = index.label_rows[step.id]
            head = torch.from_numpy(words.label_weight[rows]), torch.from_numpy(words.label_bias[rows])
            data = _Data(vectors(own), torch.tensor(targets), head, is_choice=step.kind == "choice")
            probes[step.id] = _cross_validated(data, seed)
    return probes


@dataclass(frozen=True)
class _Data:
    """Vectors (n, d) and targets (n, options) of texts, and the head made from words."""

    vectors: Tensor
    targets: Tensor
    words: tuple[Tensor, Tensor]
    is_choice: bool

    def take(self, rows: np.ndarray) -> _Data:
        at = torch.from_numpy(rows)
        return _Data(self.vectors[at], self.targets[at], self.words, self.is_choice)

    def loss(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the summed loss of a correction of the head made from words."""
        scores = LABEL_SCALE * self.vectors @ (self.words[0] + weight).T + self.words[1] + bias
        if self.is_choice:
            return functional.cross_entropy(scores, self.targets, reduction="sum")
        return functional.binary_cross_entropy_with_logits(scores, self.targets, reduction="sum")


def _cross_validated(data: _Data, seed: int) -> Probe:
    """Choose the penalty by cross-validation, or the head made from words, and fit the head with it."""
    n = len(data.vectors)
    fold = np.random.default_rng(seed).permutation(n) % _FOLDS
    nothing = torch.zeros_like(data.words[0]), torch.zeros_like(data.words[1])
    losses: dict[float | None, float] = {None: float(data.loss(*nothing)) / n}
    parts = [(data.take(np.flatnonzero(fold != i)), data.take(np.flatnonzero(fold == i))) for i in range(_FOLDS)]
    for penalty in _PENALTIES:
        losses[penalty] = sum(float(held_out.loss(*_fitted(rest, penalty))) for rest, held_out in parts) / n
    best = min(losses, key=lambda penalty: losses[penalty])
    return Probe(*(nothing if best is None else _fitted(data, best)), best, losses[best])


def _fitted(data: _Data, penalty: float) -> tuple[Tensor, Tensor]:
    weight = torch.zeros_like(data.words[0], requires_grad=True)
    bias = torch.zeros_like(data.words[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        distance = (LABEL_SCALE * weight).square().sum() + _BIAS_PENALTY * bias.square().sum()
        loss = data.loss(weight, bias) + penalty * distance
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
