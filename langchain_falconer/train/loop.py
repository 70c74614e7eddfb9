"""Training a proxy on annotations: one loop for labels and spans."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.examples import Example
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.tokenization import Window, WindowSplitter, pad
from langchain_falconer.plan import LabelStep
from langchain_falconer.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

    from langchain_falconer.model.network import QueryHeadModel, QueryHeads

_IGNORE = -100
_EXAMPLES_SEEN = 2_240  # by a pretrained network; twice as many are as good on eight sets, and take twice as long
_OUTSIDE, _BEGIN, _INSIDE = range(3)


@dataclass(frozen=True)
class Feature:
    """One pass of the encoder, with the example that it belongs to."""

    window: Window
    example: Example


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
    """

    loss: tuple[float, ...]
    seconds: float
    steps: int
    examples: int
    selected_after: tuple[float, ...] = (1.0,)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {
            "loss": [round(x, 4) for x in self.loss],
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            "examples": self.examples,
            "selected_after": list(self.selected_after),
        }

    def followed_by(self, later: TrainResult) -> TrainResult:
        """Return the result of this training followed by another."""
        return replace(
            later,
            seconds=self.seconds + later.seconds,
            steps=self.steps + later.steps,
            selected_after=self.selected_after + later.selected_after,
        )


class Regularizer(Protocol):
    """A term that is added to the loss of each batch."""

    def loss(self, batch: Sequence[Feature], tokens: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor]) -> Tensor:
        """Return the term for a batch, given its ``input_ids, attention_mask`` and its token and label scores."""
        ...


@dataclass(frozen=True)
class TrainingSet:
    """A training set with the regularizers of its loss.

    Attributes:
        new: Features that every epoch holds.
        resampled: Pools of more features; an epoch holds a new sample of each, no larger than ``new``.
        regularizers: Terms added to the loss.
        is_pretrained: Whether the network was pretrained to follow questions.
    """

    new: Sequence[Feature]
    resampled: Sequence[Sequence[Feature]] = ()
    regularizers: Sequence[Regularizer] = ()
    is_pretrained: bool = False

    def epoch(self, rng: random.Random) -> list[Feature]:
        """Return the features of an epoch."""
        return [*self.new, *(item for pool, n in self._shares() for item in rng.sample(pool, n))]

    def _shares(self) -> list[tuple[Sequence[Feature], int]]:
        return [(pool, min(len(self.new), len(pool))) for pool in self.resampled]

    def steps(self, settings: TrainSettings) -> int:
        """Return the number of batches in the whole training."""
        size = len(self.new) + sum(n for _, n in self._shares())
        epochs = settings.epochs or default_epochs(size, is_pretrained=self.is_pretrained)
        return max(1, round(epochs * math.ceil(size / settings.batch_size)))


def fit(
    model: QueryHeadModel,
    heads: QueryHeads,
    index: HeadIndex,
    dataset: TrainingSet,
    pad_id: int,
    settings: TrainSettings,
    on_step: Callable[[float], None],
) -> TrainResult:
    """Train encoder and heads in place (bf16 autocast where the CPU has it, fused AdamW, word embeddings frozen).

    ``on_step(loss)`` is called after every step. Same seed, machine and threads: same weights.

    Raises:
        ProxyError: There is no feature, or the loss is not a number.
    """
    import torch

    if not dataset.new:
        raise ProxyError("there is nothing to train on: no annotation answers a step of the plan")
    began = time.monotonic()
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    total = dataset.steps(settings)
    optimizer, schedule = _optimizer(model, heads, settings, total)
    losses: list[float] = []
    model.train()
    step = 0
    while step < total:
        epoch_losses = []
        for batch in _batches(dataset.epoch(rng), settings.batch_size, rng):
            loss = _step(model, heads, index, batch, pad_id, optimizer, dataset.regularizers)
            schedule.step()
            epoch_losses.append(loss)
            step += 1
            on_step(loss)
            if step >= total:
                break
        losses.append(float(np.mean(epoch_losses)))
    model.eval()
    if not math.isfinite(losses[-1]):
        raise ProxyError("training diverged (the loss is not a number); train again with a lower learning_rate")
    return TrainResult(tuple(losses), time.monotonic() - began, total, len(dataset.new))


def features_of(windows: WindowSplitter, examples: Sequence[Example]) -> list[Feature]:
    """Return the features of examples: one each, or several where a text is longer than the encoder's input."""
    return [Feature(w, examples[w.text]) for w in windows([e.text for e in examples])]


def default_epochs(n: int, *, is_pretrained: bool = False) -> float:
    """Return the number of epochs for ``n`` annotations: ten for 500, more for fewer, three for thousands.

    A pretrained network needs 2,240 examples at most, repeated ones included: four and a half epochs of 500.
    """
    passes = 10 * math.sqrt(500 / n)
    return float(min(30.0, max(3.0, min(passes, _EXAMPLES_SEEN / n) if is_pretrained else passes)))


def _optimizer(model: QueryHeadModel, heads: QueryHeads, settings: TrainSettings, total: int) -> tuple[Any, Any]:
    import torch

    freeze_word_embeddings(model.encoder)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    maps = [*model.span_map.parameters(), *model.label_map.parameters()]
    groups = [
        {"params": [*encoder, *maps], "lr": settings.learning_rate},
        {"params": list(heads.parameters()), "lr": settings.learning_rate * settings.head_factor},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    warmup_steps = max(1, round(settings.warmup * total))

    def rate(step: int) -> float:
        return min((step + 1) / warmup_steps, max(0.0, (total - step) / max(1, total - warmup_steps)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def freeze_word_embeddings(encoder: Any) -> None:
    """Exclude the word embeddings from training: they are half of a small encoder, and rare words would drift."""
    encoder.get_input_embeddings().requires_grad_(False)


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


def _step(
    model: QueryHeadModel,
    heads: QueryHeads,
    index: HeadIndex,
    batch: list[Feature],
    pad_id: int,
    optimizer: Any,
    regularizers: Sequence[Regularizer],
) -> float:
    import torch

    ids, mask = (torch.from_numpy(a) for a in pad([item.window for item in batch], pad_id))
    with autocast():
        span_scores, label_scores = (s.float() for s in model(ids, mask, *heads.weights(model)))
    loss = loss_of(span_scores, label_scores, index, batch)
    for regularizer in regularizers:
        loss = loss + regularizer.loss(batch, (ids, mask), (span_scores, label_scores))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return loss.item()


@contextmanager
def autocast() -> Iterator[None]:
    """Compute in bf16 where the CPU has it, and attention as plain matrix products.

    On a CPU the backward pass of torch's fused attention takes longer than all the rest.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()), sdpa_kernel(SDPBackend.MATH):
        yield


def has_fast_bf16() -> bool:
    """Return whether this CPU multiplies bf16 in hardware."""
    import torch

    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def loss_of(
    span_scores: Tensor, label_scores: Tensor, index: HeadIndex, batch: list[Feature], *, span_weight: float = 1.0
) -> Tensor:
    """Return the sum over steps of each step's loss on the texts that annotate it.

    Words of spans count ``span_weight`` times as much as those outside, of which there are far more.
    """
    from torch.nn import functional

    losses = []
    if index.span_row:
        scores = span_scores.reshape(*span_scores.shape[:2], -1, 3)
        targets = _span_targets(index, batch, scores.shape[1])
        per_token = functional.cross_entropy(
            scores.flatten(0, 2), targets.flatten(), ignore_index=_IGNORE, reduction="none"
        )
        known = (targets != _IGNORE).flatten()
        if known.any():
            # Summed over steps, averaged over words: a step weighs the same however many steps the plan has.
            weighted = per_token * (1 + (span_weight - 1) * (targets.flatten() > _OUTSIDE))
            losses.append(weighted.sum() / (targets != _IGNORE).any(-1).sum())
    losses += [
        loss
        for s in index.steps
        if isinstance(s, LabelStep) and (loss := _label_loss(s, label_scores, index, batch)) is not None
    ]
    return sum(losses) if losses else span_scores.sum() * 0.0  # type: ignore[return-value]


def _span_targets(index: HeadIndex, batch: list[Feature], width: int) -> Tensor:
    import torch

    targets = np.full((len(batch), width, len(index.span_row)), _IGNORE, np.int64)
    for row, item in enumerate(batch):
        window = item.window
        for step_id, spans in item.example.spans.items():
            head = index.span_row[step_id]
            targets[row, window.words, head] = _OUTSIDE
            for start, end in spans:
                inside = window.words[(window.starts < end) & (window.ends > start)]
                targets[row, inside, head] = _INSIDE
                targets[row, inside[:1], head] = _BEGIN
    return torch.from_numpy(targets)


def _label_loss(step: LabelStep, scores: Tensor, index: HeadIndex, batch: list[Feature]) -> Tensor | None:
    import torch
    from torch.nn import functional

    examples = [(i, item.example) for i, item in enumerate(batch) if step.id in item.example.labels]
    if not examples:
        return None
    logits = scores[[i for i, _ in examples], index.label_rows[step.id]]
    targets = torch.tensor([_soft_target(step, e.labels[step.id], e.scores.get(step.id, 1.0)) for _, e in examples])
    if step.kind == "choice":
        return functional.cross_entropy(logits, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def _soft_target(step: LabelStep, value: Any, score: float) -> list[float]:
    """Return the probability of each option where ``value`` is right with probability ``score``."""
    if step.kind == "yes_no":
        return [score if value else 1.0 - score]
    if step.kind == "choice":
        rest = (1.0 - score) / max(1, len(step.names) - 1)
        return [score if name == value else rest for name in step.names]
    return [score if name in value else 0.0 for name in step.names]
