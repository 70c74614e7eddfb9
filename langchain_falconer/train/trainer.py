"""Making a proxy from annotations: what training starts from, its lessons, what comes out."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import split_passages, text_id
from langchain_falconer.errors import ProxyError
from langchain_falconer.model.encoder import MODEL_INIT_LOCK, base_folder, is_metamodel, load_tokenizer, max_tokens
from langchain_falconer.model.examples import Example, examples_of
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.metamodel import load_model
from langchain_falconer.model.network_source import NetworkSource
from langchain_falconer.model.proxy import PASSAGE_CHARS, Proxy, new_manifest
from langchain_falconer.model.query_heads import HeadGenerator, ZeroShotEncoder
from langchain_falconer.model.sessions import HeadWeights, TorchSession
from langchain_falconer.model.task_heads import TaskHead
from langchain_falconer.model.tokenization import Tokenizer, WindowSplitter
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers
from langchain_falconer.settings import DEFAULT_BASE, TrainSettings
from langchain_falconer.train.checkpoint_selection import CheckpointSelector
from langchain_falconer.train.loop import TrainingSet, TrainResult, bf16_pays, fit, items_of
from langchain_falconer.train.rehearsal import (
    DistillationLoss,
    Previous,
    PreviousTask,
    joined,
    parted,
    rehearsed,
    start_from,
)

UNLABELLED = 1_000
"""Texts that nobody annotated, as many as are worth their time."""


def train_proxy(
    plan: Plan,
    annotations: Sequence[Annotation],
    *,
    base: str | Previous = DEFAULT_BASE,
    unlabelled: Sequence[str] = (),
    development: Sequence[Annotation] = (),
    settings: TrainSettings | None = None,
    passage_chars: int = PASSAGE_CHARS,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Proxy:
    """Train a proxy for ``plan`` on annotations.

    ``on_step(done, total, loss)`` reports progress. Same texts, annotations, seed, machine and threads: same weights.

    Args:
        plan: What it is to answer.
        annotations: What it learns from. A label's score, where it is less than 1, is how likely it is right; a text
            may come several times, with the answers of several annotators.
        base: The metamodel or encoder that it starts from; or a proxy whose tasks are retained: the new proxy's
            :meth:`Proxy.recall` gives its plan and those that it retained.
        unlabelled: More texts like those it is to read. A network that learnt without them then teaches another, which
            starts over, by what it thinks of them (self-training; noisy student, Xie et al., arXiv 1911.04252); the
            proxy is the mean of both. It judges better, and takes more than twice as long.
        development: Annotations that are not learnt and select the checkpoint (see :class:`CheckpointSelector`);
            fewer than 50 of them select nothing.
        settings: How.
        passage_chars: How texts are cut.
        on_step: Told of each step.

    Raises:
        ProxyError: nothing to train on, a step without any annotation, or a base that cannot be loaded.
    """
    settings = settings or TrainSettings()
    examples = examples_of(plan, annotations, passage_chars)
    _check_every_step(plan, examples)
    previous = base if isinstance(base, Previous) else None
    tasks = previous.tasks if previous else ()
    start = _WarmStart(plan, base, settings, passage_chars)
    cut = partial(items_of, WindowSplitter(start.tokenizer, start.max_tokens))
    old = cut(rehearsed(start.memory, tasks, passage_chars))
    old_texts = cut(_unanswered((text for one in tasks for text in one.unlabelled), passage_chars))
    lesson = TrainingSet(cut(examples), (old, old_texts), start.regularizers, taught=start.is_taught)
    texts = cut(_unanswered(unlabelled, passage_chars))
    second = replace(lesson, again=(*lesson.again, texts))

    tell = _teller(on_step, lesson.steps(settings) + (second.steps(settings) if texts else 0))
    learnt = start.learn(lesson, development, tell)
    if texts:
        teacher = DistillationLoss(learnt.model, learnt.knows[:1])
        learnt = start.learn(replace(second, regularizers=(teacher, *start.regularizers)), development, tell).mean(
            learnt
        )
    manifest = start.manifest | {
        "settings": settings.model_dump(),
        "data": {
            "annotations": len(annotations),
            "examples": len(examples),
            "unlabelled": len(unlabelled),
            "sha256": _data_hash(examples, unlabelled),
        },
        "seen": _seen(annotations, tasks),
        "training": learnt.result.to_dict(),
        "memory": [old.plan.to_dict() for old in start.memory],
    }
    own, *kept = learnt.knows
    return Proxy(manifest, start.tokenizer, own.slots, NetworkSource(loaded=learnt.model), memory=kept)


@dataclass(frozen=True)
class _TrainedModel:
    """A network, the plans that it answers with their slots (the new one first), and how it was trained."""

    model: Any
    knows: tuple[TaskHead, ...]
    result: TrainResult

    def mean(self, teacher: _TrainedModel) -> _TrainedModel:
        """The network halfway between both, which judges better than either, and how both were trained.

        They began alike, so that their weights may be averaged (model soups, Wortsman et al., arXiv 2203.05482).
        """
        import torch

        with torch.no_grad():
            for mine, theirs in zip(self.model.parameters(), teacher.model.parameters(), strict=True):
                mine.lerp_(theirs, 0.5)
        knows = tuple(TaskHead(a.plan, a.slots.mean(b.slots)) for a, b in zip(self.knows, teacher.knows, strict=True))
        return _TrainedModel(self.model, knows, teacher.result.then(self.result))


@dataclass(frozen=True)
class _WarmStart:
    """What training starts from: a base, or a proxy that is to remember what it knows."""

    plan: Plan
    source: str | Previous
    settings: TrainSettings
    passage_chars: int

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that training continues from."""
        return self.source.proxy if isinstance(self.source, Previous) else None

    @property
    def base(self) -> str:
        """The checkpoint that the network descends from."""
        return str(self.source.proxy.manifest["base"]) if isinstance(self.source, Previous) else self.source

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the proxy before training."""
        return new_manifest(self.plan, self.base, self.passage_chars, self.max_tokens)

    @cached_property
    def memory(self) -> tuple[TaskHead, ...]:
        """What is known already."""
        return (TaskHead(self.proxy.plan, self.proxy.heads), *self.proxy.memory) if self.proxy else ()

    @cached_property
    def regularizers(self) -> tuple[DistillationLoss, ...]:
        """What keeps it so."""
        return (DistillationLoss(self.model, self.memory, behind=self.plan),) if self.proxy else ()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What texts are read with."""
        return self.proxy.tokenizer if self.proxy else load_tokenizer(self.base)

    @cached_property
    def model(self) -> Any:
        """The network to start from; what is trained is a copy."""
        import torch

        torch.manual_seed(self.settings.seed)  # what a bare encoder lacks is drawn
        return self.proxy.network.module if self.proxy else load_model(self.base, self.settings.layers)

    @property
    def max_tokens(self) -> int:
        """How many tokens one pass may see."""
        return max_tokens(self.model.encoder.config.to_dict())

    @property
    def is_taught(self) -> bool:
        """Whether the network knows how to follow questions, and starts from theirs."""
        if self.proxy or self.settings.fresh_head or self.settings.layers is not None:
            return False
        return is_metamodel(Path(base_folder(self.base)))

    def learn(
        self, lesson: TrainingSet, development: Sequence[Annotation], on_step: Callable[[float], None]
    ) -> _TrainedModel:
        """A network of its own that learnt the lesson, for as long as held-out annotations had nothing against it."""
        model = copy.deepcopy(self.model)
        layout = joined(self.plan, self.memory)
        with MODEL_INIT_LOCK:
            slots = self._slots(model, layout)

        def learnt() -> tuple[HeadWeights, tuple[TaskHead, ...]]:
            return parted(self.plan, self.memory, layout, _baked(model, slots))

        def answers() -> list[Answers]:
            proxy = Proxy(self.manifest, self.tokenizer, learnt()[0], NetworkSource(loaded=model))
            proxy.set_session(proxy.torch_session(bf16=bf16_pays()))
            return proxy.answers([a.text for a in development], apply_conditions=False)

        stopping = CheckpointSelector(self.plan, (model, slots), answers, development, lesson.steps(self.settings))
        result = fit(model, slots, layout, lesson, self.tokenizer.pad_id, self.settings, stopping.after(on_step))
        result = replace(result, selected_after=(stopping.settle(),))
        own, kept = learnt()
        return _TrainedModel(model, (TaskHead(self.plan, own), *kept), result)

    def _slots(self, model: Any, layout: HeadIndex) -> Any:
        """The slots that training starts from: those of a new plan from its words, remembered ones as they were."""
        import torch

        from langchain_falconer.model.network import QueryHeads

        maps = HeadGenerator.of(model)
        vectors = ZeroShotEncoder(TorchSession(model), self.tokenizer, maps).vectors(layout)
        spans, options, asked = (np.zeros_like(v) if self.settings.fresh_head else v for v in vectors)
        slots = QueryHeads(*map(torch.from_numpy, (spans, options, asked)))
        start_from(self.memory, layout, slots, maps(spans, options, asked))
        return slots


def _baked(model: Any, slots: Any) -> HeadWeights:
    import torch

    with torch.no_grad():
        return HeadWeights(*(w.detach().float().contiguous().numpy().copy() for w in slots.weights(model)))


def _teller(on_step: Callable[[int, int, float], None] | None, total: int) -> Callable[[float], None]:
    """Tells ``on_step`` of each step of all lessons."""
    done = itertools.count(1)
    return lambda loss: on_step(next(done), total, loss) if on_step else None


def _unanswered(texts: Iterable[str], passage_chars: int) -> list[Example]:
    """Passages that nobody annotated."""
    return [Example(text[start:end], {}, {}) for text in texts for start, end in split_passages(text, passage_chars)]


def _seen(annotations: Sequence[Annotation], replay: Sequence[PreviousTask]) -> list[str]:
    """The ids of the texts whose answers were taught: they cannot measure what was made."""
    return sorted({text_id(a.text) for a in (*annotations, *(a for one in replay for a in one.annotations))})


def _check_every_step(plan: Plan, examples: Sequence[Example]) -> None:
    for step in plan.steps:
        if not any(step.id in e.labels or step.id in e.spans for e in examples):
            raise ProxyError(
                f"step '{step.id}' has no annotation to learn from; annotate more texts, "
                "or texts for which its where regularizers"
            )


def _data_hash(examples: Sequence[Example], unlabelled: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        row: list[Any] = [example.text, dict(example.labels), {k: list(map(list, v)) for k, v in example.spans.items()}]
        row += [dict(example.scores)] if example.scores else []
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    for text in unlabelled:
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()
