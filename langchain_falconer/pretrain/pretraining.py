"""Pretraining the metamodel: one loop over small tasks of many kinds, heads made from words alone."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.encoder import load_tokenizer
from langchain_falconer.model.examples import Example
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.metamodel import load_model
from langchain_falconer.model.tokenization import WindowSplitter, pad
from langchain_falconer.train.loop import Feature, autocast, freeze_word_embeddings, loss_of

_CHECKPOINT = "checkpoint.safetensors"
_KEEP_EVERY = 3


class PretrainSettings(BaseModel):
    """Settings of pretraining."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    seed: int = 0
    steps: int = Field(ge=1)
    texts: int = Field(default=24, ge=1)
    """Texts of one task."""
    tasks: int = Field(default=2, ge=1)
    """Tasks of one step, each of a source of its own."""
    learning_rate: float = Field(default=1e-4, gt=0)
    head_factor: float = Field(default=5.0, gt=0)
    """Learning rate of the head generator as a multiple of the encoder's."""
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    keep: float = Field(default=2.0, ge=0)
    """Weight of keeping the base's sentence vectors (mean of 1 - cosine), on every third step."""
    span_weight: float = Field(default=3.0, gt=0)
    """Weight of words inside spans relative to those outside."""
    max_tokens: int = Field(default=96, ge=16)
    checkpoint_every: int = Field(default=500, ge=1)


@dataclass(frozen=True)
class Task:
    """One batch to learn from: steps, and texts that answer them."""

    index: HeadIndex
    examples: Sequence[Example]


@dataclass(frozen=True)
class PretrainProgress:
    """Progress of pretraining: losses are means since the last report."""

    step: int
    steps: int
    loss: dict[str, float]
    seconds: float


def pretrain(
    draw: Callable[[random.Random, int], tuple[str, Task]],
    texts: Sequence[str],
    settings: PretrainSettings,
    folder: Path,
    on_progress: Callable[[PretrainProgress], None] | None = None,
) -> tuple[Any, Any]:
    """Make a metamodel; a pretraining that was cut short goes on from its last checkpoint in ``folder``.

    Step ``i`` draws from a generator seeded by ``seed`` and ``i`` alone, so that a resumed run sees the same tasks.

    Args:
        draw: Draws a task of about n texts, with the name of its source.
        texts: Texts of any kind: on these the base's sentence vectors are kept.
        settings: How.
        folder: Where checkpoints lie.
        on_progress: Told every 20 steps.

    Returns:
        The trained model, in evaluation mode, and its tokenizer.
    """
    import torch

    torch.manual_seed(settings.seed)
    tokenizer = load_tokenizer(settings.base)
    teacher = load_model(settings.base)
    model = load_model(settings.base)
    optimizer = _optimizer(model, settings)
    step = _resume(folder, model, optimizer)
    reader = TensorReader(WindowSplitter(tokenizer, settings.max_tokens), tokenizer.pad_id)
    seen: dict[str, list[float]] = {}
    began = time.monotonic()
    model.eval()  # no dropout: few texts come twice in the same task, and drawing it takes a third of the time
    while step < settings.steps:
        rng = random.Random(f"{settings.seed}-{step}")
        parts = [
            (name, _task_loss(model, reader, task, settings.span_weight))
            for name, task in (draw(rng, settings.texts) for _ in range(settings.tasks))
        ]
        if settings.keep and step % _KEEP_EVERY == 0:
            kept = _kept(model, teacher, reader, rng.sample(texts, min(len(texts), settings.texts)))
            parts.append(("keep", settings.keep * kept))
        _update(model, optimizer, sum(loss for _, loss in parts), _rate(step, settings))
        step += 1
        for name, loss in parts:
            seen.setdefault(name, []).append(float(loss.detach()))
        if step % 20 == 0 and on_progress:
            means = {name: sum(losses) / len(losses) for name, losses in sorted(seen.items())}
            on_progress(PretrainProgress(step, settings.steps, means, time.monotonic() - began))
            seen = {}
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            _save(folder, model, optimizer, step)
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise ProxyError("pretraining diverged (weights are not numbers); lower learning_rate and start again")
    return model, tokenizer


def _update(model: Any, optimizer: Any, loss: Any, rate: float) -> None:
    """Take one step of the optimiser, at ``rate`` of each group's peak learning rate."""
    import torch

    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate
    optimizer.step()


class TensorReader:
    """Texts as padded tensors."""

    def __init__(self, windows: WindowSplitter, pad_id: int) -> None:
        self._windows = windows
        self._pad_id = pad_id

    def items(self, examples: Sequence[Example]) -> list[Feature]:
        """Return the first window of each example; the rest of a long text is not used."""
        firsts: dict[int, Feature] = {}
        for window in self._windows([e.text for e in examples]):
            firsts.setdefault(window.text, Feature(window, examples[window.text]))
        return [firsts[i] for i in sorted(firsts)]

    def tensors(self, items: Sequence[Feature]) -> tuple[Any, Any]:
        """Return ids and attention mask (B, T) of windows."""
        import torch

        ids, mask = pad([item.window for item in items], self._pad_id)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def texts(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """Return ids and attention mask (B, T) of texts."""
        return self.tensors(self.items([Example(t, {}, {}) for t in texts]))


def _task_loss(model: Any, reader: TensorReader, task: Task, span_weight: float) -> Any:
    index, items = task.index, reader.items(task.examples)
    with autocast():
        spans, labels = model(*reader.tensors(items), *model.heads(index, reader.texts))
    return loss_of(spans.float(), labels.float(), index, items, span_weight=span_weight)


def _kept(model: Any, teacher: Any, reader: TensorReader, texts: Sequence[str]) -> Any:
    import torch

    ids, mask = reader.texts(texts)
    with autocast():
        with torch.no_grad():
            before = teacher.embed(ids, mask)
        now = model.embed(ids, mask)
    return (1 - (before.float() * now.float()).sum(-1)).mean()


def _optimizer(model: Any, settings: PretrainSettings) -> Any:
    import torch

    freeze_word_embeddings(model.encoder)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    maps = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    rate = settings.learning_rate
    groups = [{"params": encoder, "peak": rate}, {"params": maps, "peak": rate * settings.head_factor}]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def _rate(step: int, settings: PretrainSettings) -> float:
    """The learning rate's share of its peak: a linear warm-up, then half a cosine."""
    warm = max(1, round(settings.warmup * settings.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, settings.steps - warm))))


def _trained(model: Any) -> Iterator[tuple[str, Any]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _save(folder: Path, model: Any, optimizer: Any, step: int) -> None:
    from safetensors.torch import save_file

    tensors = {f"weight.{name}": p.detach() for name, p in _trained(model)}
    for name, p in _trained(model):
        for key, value in optimizer.state[p].items():
            tensors[f"{key}.{name}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_CHECKPOINT}"
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, partial, {"step": str(step)})
    partial.replace(folder / _CHECKPOINT)


def _resume(folder: Path, model: Any, optimizer: Any) -> int:
    import torch
    from safetensors import safe_open

    file = folder / _CHECKPOINT
    if not file.is_file():
        return 0
    with safe_open(file, "pt") as saved, torch.no_grad():
        step, keys = int(saved.metadata()["step"]), set(saved.keys())
        for name, p in _trained(model):
            p.copy_(saved.get_tensor(f"weight.{name}"))
            # A weight that no task has used yet (the pooler's never is) has no state.
            state = {k: f"{k}.{name}" for k in ("step", "exp_avg", "exp_avg_sq") if f"{k}.{name}" in keys}
            optimizer.state[p] = {k: saved.get_tensor(key) for k, key in state.items()}
    return step
