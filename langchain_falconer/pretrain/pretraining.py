"""Pretraining of the metamodel: one loop over small tasks of many kinds, query heads made from words alone.

A bundle takes this module to GPU machines: it needs torch, transformers, tokenizers, safetensors and numpy, no more.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.network import SPAN_STATES, QueryHeadModel, pooled
from langchain_falconer.model.sessions import LABEL_SCALE
from langchain_falconer.pretrain.batches import UNKNOWN, LabelBatch, Step, StepMaker, TaskBatch
from langchain_falconer.train.frozen import freeze_word_embeddings
from langchain_falconer.train.precision import autocast

_CHECKPOINT = "checkpoint.safetensors"
_OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq")
_REPORT_EVERY = 20
_AVERAGE_EVERY = 10
_CPU_TEXTS = 24  # texts of like length that a CPU encodes at once: padding costs as much as text


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of pretraining: its length is given in ``steps`` or in ``seconds``.

    Attributes:
        seed: Seed of the tasks.
        steps: Optimiser steps.
        seconds: Duration in seconds, over all resumptions; the learning rate falls with it.
        tasks: Tasks of one step, each of a source of its own.
        texts: Texts of one task.
        max_tokens: Tokens of a text that are read.
        learning_rate: Peak learning rate of the encoder.
        head_factor: Learning rate of the head generator as a multiple of the encoder's.
        weight_decay: AdamW's.
        warmup: Share of the duration in which the learning rate rises.
        keep: Weight of keeping the plain encoder's sentence vectors (mean of 1 - cosine, on every third step).
        span_weight: Weight of words inside spans relative to those outside.
        start_share: Share of the start's weights in the result, which is the mean of both (model soups, Wortsman et
            al., arXiv 2203.05482).
        checkpoint_every: Steps between checkpoints.
    """

    seed: int = 0
    steps: int | None = None
    seconds: float | None = None
    tasks: int = 6
    texts: int = 20
    max_tokens: int = 112
    learning_rate: float = 1e-4
    head_factor: float = 5.0
    weight_decay: float = 0.01
    warmup: float = 0.05
    keep: float = 8.0
    span_weight: float = 3.0
    start_share: float = 0.0
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("give either steps or seconds")
        sizes = (self.tasks, self.texts, self.checkpoint_every, self.steps or 1, self.seconds or 1, self.learning_rate)
        if min(sizes) <= 0 or self.max_tokens < 16 or not 0 <= self.start_share < 1 or not 0 <= self.warmup < 1:
            raise ValueError("a size, rate or share is out of its range")


@dataclass(frozen=True)
class PretrainProgress:
    """Progress of pretraining.

    Attributes:
        step: Steps done.
        share: Share of the whole that is done.
        seconds: Duration until now.
        loss: Mean loss since the last report, by source.
    """

    step: int
    share: float
    seconds: float
    loss: Mapping[str, float]


@dataclass
class _State:
    step: int = 0
    seconds: float = 0.0
    texts: int = 0

    def share(self, settings: PretrainSettings) -> float:
        return self.step / settings.steps if settings.steps else self.seconds / (settings.seconds or 1.0)


def pretrain(
    model: QueryHeadModel,
    maker: StepMaker,
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 0,
    on_progress: Callable[[PretrainProgress], None] | None = None,
) -> dict[str, float]:
    """Pretrain a network in place; one that was cut short resumes from its last checkpoint in ``folder``.

    Args:
        model: The network to start from.
        maker: Makes its steps, and knows the settings.
        folder: The folder of checkpoints.
        device: A device of torch.
        workers: Processes that make steps; 0 makes them between the steps.
        on_progress: Called every 20 steps.

    Returns:
        Steps, texts and seconds of the whole pretraining.

    Raises:
        ProxyError: The weights are no longer numbers.
    """
    settings = maker.settings
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    freeze_word_embeddings(model.encoder)
    model.to(device).eval()  # no dropout: few texts come twice in the same task, and drawing it takes long
    optimizer = _optimizer(model, settings)
    average = [p.detach().clone() for p in _trained(model).values()]
    state = _resume(folder, model, optimizer, average)
    losses: dict[str, list[float]] = defaultdict(list)
    began = time.monotonic() - state.seconds
    for step in _steps(maker, state.step, workers):
        state.seconds = time.monotonic() - began
        if state.share(settings) >= 1:
            break
        for name, loss in _learn(model, optimizer, step, settings, state.share(settings)):
            losses[name].append(loss)
        state.step += 1
        state.texts += len(step.ids)
        if state.step % _AVERAGE_EVERY == 0:
            _average(average, model, state.step)
        if state.step % _REPORT_EVERY == 0 and on_progress:
            means = {name: float(np.mean(values)) for name, values in sorted(losses.items())}
            on_progress(PretrainProgress(state.step, min(1.0, state.share(settings)), state.seconds, means))
            losses.clear()
        if state.step % settings.checkpoint_every == 0:
            _save(folder, model, optimizer, average, state)
    _finish(model, average, start, settings.start_share)
    return {"steps": state.step, "texts": state.texts, "seconds": round(state.seconds, 1)}


def _steps(maker: StepMaker, first: int, workers: int) -> Iterator[Step]:
    if not workers:
        while True:
            yield maker.make(first)
            first += 1
    from torch.utils.data import DataLoader

    class Steps(torch.utils.data.Dataset[Step]):
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, i: int) -> Step:
            return maker.make(i)

    order = range(first, 10**9)
    yield from DataLoader(
        Steps(),
        None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=4,
        collate_fn=_same,
        multiprocessing_context="fork",
        worker_init_fn=_use_one_thread,
    )


def _use_one_thread(_: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the threads of tokenizers do not survive a fork: it would hang


def _same(step: Any) -> Any:
    return step


def _learn(
    model: QueryHeadModel, optimizer: torch.optim.Optimizer, step: Step, settings: PretrainSettings, share: float
) -> list[tuple[str, float]]:
    """Take one step; returns the loss of each task with the name of its source."""
    device = next(model.parameters()).device
    with autocast(device):
        states = _encode(model, step.ids, step.mask)
        word_states = _encode(model, step.word_ids, step.word_mask)
        words = pooled(word_states.float(), _tensor(step.word_mask, device))
        mask = _tensor(step.mask, device)
        losses = [
            (task.source, _task_loss(model, task, states, mask, words, settings.span_weight)) for task in step.tasks
        ]
    if len(step.anchors):
        n = len(step.anchors)
        vectors = pooled(states[-n:].float(), mask[-n:])
        drift = (1 - (vectors * _tensor(step.anchors, device).float()).sum(-1)).mean()
        losses.append(("keep", settings.keep * len(step.tasks) / 2 * drift))
    optimizer.zero_grad(set_to_none=True)
    torch.stack([loss for _, loss in losses]).sum().backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(_trained(model).values(), float(len(step.tasks)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * _rate(share, settings.warmup)
    optimizer.step()
    return [(name, loss.item()) for name, loss in losses]


def _task_loss(
    model: QueryHeadModel, task: TaskBatch, states: Tensor, mask: Tensor, words: Tensor, span_weight: float
) -> Tensor:
    own = slice(task.first, task.first + task.n_texts)
    total = states.new_zeros((), dtype=torch.float32)
    if task.span_words:
        weight, bias = model.span_heads(words[list(task.span_words)])
        scores = (states[own] @ weight.to(states.dtype).T + bias.to(states.dtype)).float()
        scores = scores.reshape(*scores.shape[:2], -1, SPAN_STATES)
        targets = _tensor(task.span_targets, states.device).long()
        per_token = functional.cross_entropy(
            scores.flatten(0, 2), targets.flatten(), ignore_index=UNKNOWN, reduction="none"
        )
        weighted = per_token * (1 + (span_weight - 1) * (targets.flatten() > 0))
        total = total + weighted.sum() / (targets != UNKNOWN).any(-1).sum().clamp(min=1)
    if task.labels:
        vectors = pooled(states[own].float(), mask[own])
        for question in task.labels:
            total = total + _label_loss(model, question, vectors, words)
    return total


def _label_loss(model: QueryHeadModel, question: LabelBatch, vectors: Tensor, words: Tensor) -> Tensor:
    options = words[list(question.options)]
    asked = words[[question.question] * len(question.options)]
    weight, bias = model.label_heads(options, asked)
    scores = (LABEL_SCALE * (vectors[_tensor(question.rows, vectors.device)] @ weight.float().T) + bias).float()
    targets = _tensor(question.targets, vectors.device)
    if targets.dim() == 1:
        return functional.cross_entropy(scores, targets)
    return functional.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(1).mean()


def _encode(model: QueryHeadModel, ids: np.ndarray, mask: np.ndarray) -> Tensor:
    """Encode texts (N, T) to states (N, T, d), those of like length together where padding costs most: on a CPU."""
    device = next(model.parameters()).device
    lengths = mask.sum(1)
    order = np.argsort(lengths, kind="stable")
    size = _CPU_TEXTS if device.type == "cpu" else len(order)
    states = []
    for at in range(0, len(order), size):
        rows = order[at : at + size]
        width = int(lengths[rows].max())
        part = model.encoder(
            input_ids=_tensor(ids[rows, :width], device), attention_mask=_tensor(mask[rows, :width], device)
        ).last_hidden_state
        states.append(functional.pad(part, (0, 0, 0, ids.shape[1] - width)))
    return torch.cat(states)[_tensor(np.argsort(order), device)]


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _trained(model: QueryHeadModel) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _optimizer(model: QueryHeadModel, settings: PretrainSettings) -> torch.optim.Optimizer:
    trained = _trained(model)
    encoder = [p for name, p in trained.items() if name.startswith("encoder.")]
    maps = [p for name, p in trained.items() if not name.startswith("encoder.")]
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": encoder, "peak": rate},
        {"params": maps, "peak": rate * settings.head_factor},
    ]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay, fused=True)


def _rate(share: float, warmup: float) -> float:
    """Return the learning rate's share of its peak: a linear warm-up, then half a cosine."""
    if share < warmup:
        return max(share / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


@torch.no_grad()
def _average(average: list[Tensor], model: QueryHeadModel, step: int) -> None:
    """Move the running mean of the weights, which is better than the last ones, towards these."""
    decay = min(0.99, step / (step + 100))
    torch._foreach_lerp_(average, [p.detach() for p in _trained(model).values()], 1 - decay)


@torch.no_grad()
def _finish(model: QueryHeadModel, average: list[Tensor], start: Mapping[str, Tensor], start_share: float) -> None:
    for (name, p), mean in zip(_trained(model).items(), average, strict=True):
        p.copy_(mean.lerp(start[name].to(mean.device), start_share))
    model.to("cpu")
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise ProxyError("pretraining diverged (weights are not numbers); lower learning_rate and start again")


def _save(
    folder: Path, model: QueryHeadModel, optimizer: torch.optim.Optimizer, average: list[Tensor], state: _State
) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for (name, p), mean in zip(_trained(model).items(), average, strict=True):
        tensors |= {f"weight.{name}": p.detach(), f"average.{name}": mean}
        tensors |= {f"{key}.{name}": value for key, value in optimizer.state[p].items()}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_CHECKPOINT}"
    metadata = {name: str(value) for name, value in vars(state).items()}
    save_file({k: v.cpu().contiguous().clone() for k, v in tensors.items()}, partial, metadata)
    partial.replace(folder / _CHECKPOINT)


def _resume(folder: Path, model: QueryHeadModel, optimizer: torch.optim.Optimizer, average: list[Tensor]) -> _State:
    from safetensors import SafetensorError, safe_open

    if not (folder / _CHECKPOINT).is_file():
        return _State()
    try:
        with safe_open(folder / _CHECKPOINT, "pt") as tensors:
            stored = set(tensors.keys())
            for (name, p), mean in zip(_trained(model).items(), average, strict=True):
                with torch.no_grad():
                    p.copy_(tensors.get_tensor(f"weight.{name}"))
                    mean.copy_(tensors.get_tensor(f"average.{name}"))
                for key in _OPTIMIZER_STATE:
                    if f"{key}.{name}" not in stored:  # a weight that no task used yet
                        continue
                    value = tensors.get_tensor(f"{key}.{name}")
                    optimizer.state[p][key] = value if key == "step" and p.device.type == "cpu" else value.to(p.device)
            saved = tensors.metadata()
    except (SafetensorError, RuntimeError) as error:
        raise ProxyError(
            f"the checkpoint in {folder} does not fit; name another folder, or delete it", path=folder
        ) from error
    return _State(int(saved["step"]), float(saved["seconds"]), int(saved["texts"]))
