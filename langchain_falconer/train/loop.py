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
_FILL = 2_240  # examples seen; twice as many are as good on eight sets, and take twice as long
_OUTSIDE, _BEGIN, _INSIDE = range(3)


@dataclass(frozen=True)
class Feature:
    """One pass of the encoder, and what it is to learn there."""

    window: Window
    example: Example


@dataclass(frozen=True)
class TrainResult:
    """What training was like: mean loss an epoch, seconds, steps; ``examples`` are those that were annotated.

    ``selected_after`` is the share of the steps that made the network which is kept; less than 1 where held-out
    annotations spoke against those that followed. Where one network taught another, losses are of the second one, all
    else of both.
    """

    loss: tuple[float, ...]
    seconds: float
    steps: int
    examples: int
    selected_after: tuple[float, ...] = (1.0,)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON data."""
        return {
            "loss": [round(x, 4) for x in self.loss],
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            "examples": self.examples,
            "selected_after": list(self.selected_after),
        }

    def then(self, later: TrainResult) -> TrainResult:
        """Both, one after the other."""
        return replace(
            later,
            seconds=self.seconds + later.seconds,
            steps=self.steps + later.steps,
            selected_after=self.selected_after + later.selected_after,
        )


class Regularizer(Protocol):
    """What some network says of texts, and the one in training is to say too."""

    def loss(self, batch: Sequence[Feature], tokens: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor]) -> Tensor:
        """How far token and label scores are from what is held, on a batch of ``input_ids, attention_mask``."""
        ...


@dataclass(frozen=True)
class TrainingSet:
    """What to learn.

    An epoch holds all ``new`` items, and from each pool in ``again`` as many, drawn afresh. ``taught`` says that the
    network knows how to follow questions.
    """

    new: Sequence[Feature]
    again: Sequence[Sequence[Feature]] = ()
    regularizers: Sequence[Regularizer] = ()
    taught: bool = False

    def epoch(self, rng: random.Random) -> list[Feature]:
        """The items of an epoch."""
        return [*self.new, *(item for pool, n in self._shares() for item in rng.sample(pool, n))]

    def _shares(self) -> list[tuple[Sequence[Feature], int]]:
        return [(pool, min(len(self.new), len(pool))) for pool in self.again]

    def steps(self, settings: TrainSettings) -> int:
        """How many batches it takes."""
        size = len(self.new) + sum(n for _, n in self._shares())
        epochs = settings.epochs or default_epochs(size, taught=self.taught)
        return max(1, round(epochs * math.ceil(size / settings.batch_size)))


def fit(
    model: QueryHeadModel,
    slots: QueryHeads,
    layout: HeadIndex,
    lesson: TrainingSet,
    pad_id: int,
    settings: TrainSettings,
    on_step: Callable[[float], None],
) -> TrainResult:
    """Train encoder and slots in place (bf16 autocast where the CPU has it, fused AdamW, word embeddings frozen).

    ``on_step(loss)`` is called after every step. Same seed, machine and threads: same weights.
    """
    import torch

    if not lesson.new:
        raise ProxyError("there is nothing to train on: no annotation answers a step of the plan")
    began = time.monotonic()
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    total = lesson.steps(settings)
    optimizer, schedule = _optimizer(model, slots, settings, total)
    losses: list[float] = []
    model.train()
    step = 0
    while step < total:
        epoch_losses = []
        for batch in _batches(lesson.epoch(rng), settings.batch_size, rng):
            loss = _step(model, slots, layout, batch, pad_id, optimizer, lesson.regularizers)
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
    return TrainResult(tuple(losses), time.monotonic() - began, total, len(lesson.new))


def items_of(windows: WindowSplitter, examples: Sequence[Example]) -> list[Feature]:
    """Examples as passes of the encoder: one each, but for texts that are longer than what it reads at once."""
    return [Feature(w, examples[w.text]) for w in windows([e.text for e in examples])]


def default_epochs(n: int, *, taught: bool = False) -> float:
    """Passes over ``n`` annotations: ten for 500; more for fewer, down to three for thousands.

    A ``taught`` network has had its fill after some 2,240 examples, however few they are: four and a half for 500.
    """
    passes = 10 * math.sqrt(500 / n)
    return float(min(30.0, max(3.0, min(passes, _FILL / n) if taught else passes)))


def _optimizer(model: QueryHeadModel, slots: QueryHeads, settings: TrainSettings, total: int) -> tuple[Any, Any]:
    import torch

    freeze_words(model.encoder)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    maps = [*model.span_map.parameters(), *model.label_map.parameters()]
    groups = [
        {"params": [*encoder, *maps], "lr": settings.learning_rate},
        {"params": list(slots.parameters()), "lr": settings.learning_rate * settings.head_factor},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    warm = max(1, round(settings.warmup * total))

    def rate(step: int) -> float:
        return min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def freeze_words(encoder: Any) -> None:
    """Leave the word embeddings as they are: half of a small encoder's weights, and rare words keep their places."""
    encoder.get_input_embeddings().requires_grad_(False)


def _batches(items: Sequence[Feature], size: int, rng: random.Random) -> list[list[Feature]]:
    """A shuffled epoch whose batches hold texts of like length: padding costs as much as text."""
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
    slots: QueryHeads,
    layout: HeadIndex,
    batch: list[Feature],
    pad_id: int,
    optimizer: Any,
    regularizers: Sequence[Regularizer],
) -> float:
    import torch

    ids, mask = (torch.from_numpy(a) for a in pad([item.window for item in batch], pad_id))
    with autocast():
        span_scores, label_scores = (s.float() for s in model(ids, mask, *slots.weights(model)))
    loss = loss_of(span_scores, label_scores, layout, batch)
    for hold in regularizers:
        loss = loss + hold.loss(batch, (ids, mask), (span_scores, label_scores))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return loss.item()


@contextmanager
def autocast() -> Iterator[None]:
    """bf16 where the CPU has it, and attention as plain matrix products.

    On a CPU the backward pass of torch's fused attention takes longer than all the rest.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays()), sdpa_kernel(SDPBackend.MATH):
        yield


def bf16_pays() -> bool:
    """Whether this CPU multiplies bf16 in hardware."""
    import torch

    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def loss_of(
    span_scores: Tensor, label_scores: Tensor, layout: HeadIndex, batch: list[Feature], *, span_weight: float = 1.0
) -> Tensor:
    """The sum over steps of each step's loss on the texts that annotate it.

    ZeroShotEncoder of spans count ``span_weight`` times as much as those outside, of which there are far more.
    """
    from torch.nn import functional

    losses = []
    if layout.span_row:
        scores = span_scores.reshape(*span_scores.shape[:2], -1, 3)
        targets = _span_targets(layout, batch, scores.shape[1])
        per_token = functional.cross_entropy(
            scores.flatten(0, 2), targets.flatten(), ignore_index=_IGNORE, reduction="none"
        )
        known = (targets != _IGNORE).flatten()
        if known.any():
            # Summed over steps, averaged over words: a step's pull does not fade as the plan grows.
            weighted = per_token * (1 + (span_weight - 1) * (targets.flatten() > _OUTSIDE))
            losses.append(weighted.sum() / (targets != _IGNORE).any(-1).sum())
    losses += [
        loss
        for s in layout.steps
        if isinstance(s, LabelStep) and (loss := _label_loss(s, label_scores, layout, batch)) is not None
    ]
    return sum(losses) if losses else span_scores.sum() * 0.0  # type: ignore[return-value]


def _span_targets(layout: HeadIndex, batch: list[Feature], width: int) -> Tensor:
    import torch

    targets = np.full((len(batch), width, len(layout.span_row)), _IGNORE, np.int64)
    for row, item in enumerate(batch):
        window = item.window
        for step_id, spans in item.example.spans.items():
            slot = layout.span_row[step_id]
            targets[row, window.words, slot] = _OUTSIDE
            for start, end in spans:
                inside = window.words[(window.starts < end) & (window.ends > start)]
                targets[row, inside, slot] = _INSIDE
                targets[row, inside[:1], slot] = _BEGIN
    return torch.from_numpy(targets)


def _label_loss(step: LabelStep, scores: Tensor, layout: HeadIndex, batch: list[Feature]) -> Tensor | None:
    import torch
    from torch.nn import functional

    examples = [(i, item.example) for i, item in enumerate(batch) if step.id in item.example.labels]
    if not examples:
        return None
    mine = scores[[i for i, _ in examples], layout.label_rows[step.id]]
    wanted = torch.tensor([_wanted(step, e.labels[step.id], e.scores.get(step.id, 1.0)) for _, e in examples])
    if step.kind == "choice":
        return functional.cross_entropy(mine, wanted)
    return functional.binary_cross_entropy_with_logits(mine, wanted, reduction="none").sum(1).mean()


def _wanted(step: LabelStep, value: Any, score: float) -> list[float]:
    """The probability of each option where ``value`` is right with probability ``score``: soft targets."""
    if step.kind == "yes_no":
        return [score if value else 1.0 - score]
    if step.kind == "choice":
        rest = (1.0 - score) / max(1, len(step.names) - 1)
        return [score if name == value else rest for name in step.names]
    return [score if name in value else 0.0 for name in step.names]
