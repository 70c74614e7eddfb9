"""Training a proxy on annotations: one loop for labels and spans."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from typing_extensions import TypedDict

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.examples import Example
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.tokenization import WindowSplitter
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train.losses import Feature, Totals, loss_of
from langchain_falconer.train.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

    from langchain_falconer.model.network import QueryHeadModel, QueryHeads
    from langchain_falconer.train.frozen import LowerLayers

_EXAMPLES_SEEN = 2_240  # by a pretrained network; twice as many are as good on eight sets, and take twice as long
_PART_TOKENS = 2_048
"""Padded tokens that are computed at once: memory is bounded however long the texts of a batch are."""
_PASSAGES = 6
"""Passages of one text in an epoch."""
_EMPTY_PASSAGES = 2
"""Passages of a long text in an epoch that hold no span, at least, where there are such."""


class TrainFacts(TypedDict):
    """The course of a training as JSON data; see :class:`TrainResult`."""

    loss: list[float]
    seconds: float
    steps: int
    examples: int
    selected_after: list[float]
    planned: list[float]


@dataclass(frozen=True)
class TrainResult:
    """The course of a training.

    After self-training, ``loss`` is of the second network, all else of both.

    Attributes:
        loss: Mean loss of each epoch.
        seconds: Duration.
        steps: Optimiser steps.
        examples: Annotated examples.
        selected_after: The share of the steps after which the selected checkpoint was made, for each network.
        planned: The share of its steps that the limit of time left room for, for each network; 0 where there was no
            time for a second one.
    """

    loss: tuple[float, ...]
    seconds: float
    steps: int
    examples: int
    selected_after: tuple[float, ...] = (1.0,)
    planned: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, facts: TrainFacts) -> TrainResult:
        """Read the result from the manifest of a proxy."""
        return cls(
            tuple(facts["loss"]),
            facts["seconds"],
            facts["steps"],
            facts["examples"],
            tuple(facts["selected_after"]),
            tuple(facts["planned"]),
        )

    def to_dict(self) -> TrainFacts:
        """Return the result as JSON data."""
        return {
            "loss": [round(x, 4) for x in self.loss],
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            "examples": self.examples,
            "selected_after": list(self.selected_after),
            "planned": [round(x, 3) for x in self.planned],
        }

    def followed_by(self, later: TrainResult) -> TrainResult:
        """Return the result of this training followed by another."""
        return replace(
            later,
            seconds=self.seconds + later.seconds,
            steps=self.steps + later.steps,
            selected_after=self.selected_after + later.selected_after,
            planned=self.planned + later.planned,
        )


class Regularizer(Protocol):
    """A term that is added to the loss of each batch."""

    def loss(self, batch: Sequence[Feature], inputs: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean of the term over texts, given their inputs and their token and label scores."""
        ...


@dataclass(frozen=True)
class TrainingSet:
    """A training set with the regularizers of its loss.

    Attributes:
        new: Features of each annotation; an epoch holds them all, but of a long text only some, other ones each time.
        resampled: Pools of more features; an epoch holds a new sample of each, no larger than the number of new ones.
        regularizers: Terms added to the loss.
        is_pretrained: Whether the network was pretrained to follow questions.
    """

    new: Sequence[Sequence[Feature]]
    resampled: Sequence[Sequence[Feature]] = ()
    regularizers: Sequence[Regularizer] = ()
    is_pretrained: bool = False

    def epoch(self, rng: random.Random) -> list[Feature]:
        """Return the features of an epoch."""
        new = [item for features in self.new for item in _passages(features, rng)]
        return [*new, *(item for pool, n in self._shares() for item in rng.sample(pool, n))]

    @property
    def size(self) -> int:
        """Number of features in an epoch."""
        return self._n_new + sum(n for _, n in self._shares())

    @property
    def _n_new(self) -> int:
        return sum(min(len(features), _PASSAGES) for features in self.new)

    def _shares(self) -> list[tuple[Sequence[Feature], int]]:
        return [(pool, min(self._n_new, len(pool))) for pool in self.resampled]

    def steps(self, settings: TrainSettings) -> int:
        """Return the number of batches in the whole training."""
        epochs = settings.epochs or default_epochs(self.size, is_pretrained=self.is_pretrained)
        return max(1, round(epochs * math.ceil(self.size / settings.batch_size)))


def _passages(features: Sequence[Feature], rng: random.Random) -> Sequence[Feature]:
    """Return the features of a text, or a sample of those of a long one: with spans first, and a few without."""
    if len(features) <= _PASSAGES:
        return features
    order = rng.sample(features, len(features))
    with_spans = [item for item in order if any(item.example.spans.values())]
    empty = [item for item in order if not any(item.example.spans.values())]
    n_empty = min(len(empty), max(_EMPTY_PASSAGES, _PASSAGES - len(with_spans)))
    return with_spans[: _PASSAGES - n_empty] + empty[:n_empty]


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        model: The network; its lower layers may be frozen.
        heads: The query heads.
        index: Their steps.
        lower: Computes the inputs of the layers that are trained.
    """

    model: QueryHeadModel
    heads: QueryHeads
    index: HeadIndex
    lower: LowerLayers

    @cached_property
    def trained(self) -> nn.Module:
        """The part of the model that is trained."""
        return self.lower.trained_part(self.model)


def fit(
    network: Network,
    dataset: TrainingSet,
    settings: TrainSettings,
    schedule: Schedule,
    on_step: Callable[[float], None],
) -> TrainResult:
    """Train encoder and heads in place (bf16 autocast where it is fast, fused AdamW, word embeddings frozen).

    ``on_step(loss)`` is called after every step. Same seed, machine, threads and number of steps: same weights.

    Raises:
        ProxyError: There is no feature, or the loss is not a number.
    """
    import torch

    if not dataset.size:
        raise ProxyError("there is nothing to train on: no annotation answers a step of the plan")
    began = time.monotonic()
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    optimizer = _optimizer(network, settings)
    losses: list[float] = []
    network.model.train()
    while schedule.done < schedule.total:
        epoch_losses = []
        for batch in _batches(dataset.epoch(rng), settings.batch_size, rng):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate * group["peak"]
            epoch_losses.append(_step(network, batch, optimizer, dataset.regularizers))
            schedule.advance()
            on_step(epoch_losses[-1])
            if schedule.done >= schedule.total:
                break
        losses.append(float(np.mean(epoch_losses)))
    network.model.eval()
    if not math.isfinite(losses[-1]):
        raise ProxyError("training diverged (the loss is not a number); train again with a lower learning_rate")
    examples = sum(map(len, dataset.new))
    return TrainResult(
        tuple(losses), time.monotonic() - began, schedule.done, examples, planned=(schedule.done / schedule.steps,)
    )


def features_of(windows: WindowSplitter, examples: Sequence[Example]) -> list[Feature]:
    """Return the features of examples: one each, or several where a text is longer than the encoder's input."""
    return [Feature(w, examples[w.text]) for w in windows([e.text for e in examples])]


def default_epochs(n: int, *, is_pretrained: bool = False) -> float:
    """Return the number of epochs for ``n`` annotations: ten for 500, more for fewer, three for thousands.

    A pretrained network needs 2,240 examples at most, repeated ones included: four and a half epochs of 500.
    """
    passes = 10 * math.sqrt(500 / n)
    return float(min(30.0, max(3.0, min(passes, _EXAMPLES_SEEN / n) if is_pretrained else passes)))


def _optimizer(network: Network, settings: TrainSettings) -> optim.Optimizer:
    import torch

    from langchain_falconer.train.precision import disable_attention_dropout

    model = network.model
    network.lower.freeze(model)
    disable_attention_dropout(model.encoder)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    maps = [*model.span_map.parameters(), *model.label_map.parameters()]
    groups = [
        {"params": [*encoder, *maps], "peak": settings.learning_rate},
        {"params": list(network.heads.parameters()), "peak": settings.learning_rate * settings.head_factor},
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def _batches(items: Sequence[Feature], size: int, rng: random.Random) -> list[list[Feature]]:
    """Return a shuffled epoch whose batches hold texts of like length: padding costs as much as text."""
    order = list(items)
    rng.shuffle(order)
    chunk = size * 16
    batches = []
    for at in range(0, len(order), chunk):
        pool = sorted(order[at : at + chunk], key=lambda item: len(item.window.ids))
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    rng.shuffle(batches)
    return batches


def _parts(batch: Sequence[Feature]) -> Iterator[Sequence[Feature]]:
    """Yield a batch in parts of at most 2,048 padded tokens, or one text; its texts are sorted by length."""
    first = 0
    for i, item in enumerate(batch):
        if i > first and (i + 1 - first) * len(item.window.ids) > _PART_TOKENS:
            yield batch[first:i]
            first = i
    yield batch[first:]


def _step(
    network: Network, batch: Sequence[Feature], optimizer: optim.Optimizer, regularizers: Sequence[Regularizer]
) -> float:
    import torch

    totals, total_loss = Totals.of(batch), 0.0
    optimizer.zero_grad(set_to_none=True)
    for part in _parts(batch):
        inputs = network.lower.inputs([item.window for item in part])
        scores = scores_of(network.trained, inputs, network.heads.weights(network.model))
        loss = loss_of(*scores, network.index, part, totals)
        for regularizer in regularizers:
            loss = loss + regularizer.loss(part, inputs, scores) * (len(part) / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        total_loss += loss.item()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return total_loss


def scores_of(part: nn.Module, inputs: tuple[Tensor, Tensor], heads: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the float32 token and label scores of the trained part of a network."""
    from langchain_falconer.train.precision import autocast

    with autocast(inputs[0].device, inputs[0].shape[1]):
        span_scores, label_scores = part(*inputs, *heads)
    return span_scores.float(), label_scores.float()
