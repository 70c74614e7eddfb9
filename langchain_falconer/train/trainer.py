"""Training of a proxy on annotations."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import split_passages, text_id
from langchain_falconer.errors import ProxyError
from langchain_falconer.model.devices import resolve_device
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
from langchain_falconer.plan import Plan, SpanStep
from langchain_falconer.records import Answers
from langchain_falconer.settings import DEFAULT_BASE, TrainSettings
from langchain_falconer.train.checkpoint_selection import CheckpointSelector
from langchain_falconer.train.loop import Network, TrainingSet, TrainResult, features_of, fit
from langchain_falconer.train.losses import Feature
from langchain_falconer.train.rehearsal import (
    DistillationLoss,
    Previous,
    PreviousTask,
    joint_index,
    rehearsal_examples,
    restore_heads,
    split_heads,
)
from langchain_falconer.train.schedule import Course

if TYPE_CHECKING:
    import torch

    from langchain_falconer.model.network import QueryHeadModel, QueryHeads
    from langchain_falconer.train.frozen import LowerLayers
    from langchain_falconer.train.probing import Vectors

_FROZEN = 1 / 3  # of the layers of a pretrained network
_RETAINED = 0.5  # of the way from trained weights back to a linear head; spans lose where the base is weak
UNLABELLED = 1_000
"""Unlabelled texts that self-training uses by default; more of them cost time and gain nothing measurable."""


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

    The same texts, annotations, seed, machine and number of threads give the same weights.

    Args:
        plan: The plan that the proxy is to answer.
        annotations: Annotations to train on. A label's score, where it is less than 1, is the probability that it is
            right; a text may come several times, with the answers of several annotators.
        base: The metamodel or encoder that training starts from; or a proxy whose tasks are retained:
            :meth:`Proxy.recall` of the new proxy returns them.
        unlabelled: More texts of the corpus, for self-training (noisy student, Xie et al., arXiv 1911.04252): the
            trained network answers them, another is trained on these answers too, and the proxy is the mean of both.
            It is more accurate, and takes more than twice as long. Default none.
        development: Annotations that are not trained on and select the checkpoint (see :class:`CheckpointSelector`);
            with fewer than 50 of them the last checkpoint is used. Default none.
        settings: Hyperparameters; by default those of :class:`TrainSettings`.
        passage_chars: Length of the passages into which texts are split, in characters. Default 1,200.
        on_step: Called after each optimiser step as ``on_step(done, total, loss)``.

    Raises:
        ProxyError: There is nothing to train on, a step has no annotation, or the base cannot be loaded.
    """
    start = _WarmStart(plan, base, settings or TrainSettings(), passage_chars)
    examples = start.examples(annotations)
    trained = _self_trained(start, start.training_set(examples), unlabelled, development, on_step)
    return start.proxy_of(trained, annotations, examples, unlabelled)


def train_student(
    teacher: Proxy,
    annotations: Sequence[Annotation],
    *,
    base: str = DEFAULT_BASE,
    unlabelled: Sequence[str] = (),
    settings: TrainSettings | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Proxy:
    """Train the second network of a self-training whose first one is a trained proxy, and return the mean of both.

    It learns from annotations that the first one has not seen too, in as many steps as that one was good for.

    Args:
        teacher: A trained proxy; the new one is for its plan.
        annotations: Annotations to train on.
        base: What the training of the teacher started from.
        unlabelled: More texts of the corpus, which the teacher answers. Default none.
        settings: The settings that the teacher was trained with; by default those of :class:`TrainSettings`.
        on_step: Called after each optimiser step as ``on_step(done, total, loss)``.

    Raises:
        ProxyError: There is nothing to train on, a step has no annotation, or the base cannot be loaded.
    """
    passage_chars = int(teacher.manifest["passage_chars"])
    start = _WarmStart(teacher.plan, base, settings or TrainSettings(), passage_chars)
    examples = start.examples(annotations)
    dataset = start.training_set(examples)
    result = TrainResult.of(teacher.manifest["training"])
    texts = start.features(_unannotated(unlabelled, passage_chars))
    dataset = replace(dataset, resampled=(*dataset.resampled, texts))
    steps = max(1, round(dataset.steps(start.settings) * result.selected_after[-1]))
    model = copy.deepcopy(teacher.network.module).to(start.device)
    first = _TrainedModel(model, (TaskHead(start.plan, teacher.heads),), result)
    trained = start.train_student(dataset, first, (), Course([steps], start.settings, on_step))
    return start.proxy_of(trained, annotations, examples, unlabelled)


def _self_trained(
    start: _WarmStart,
    dataset: TrainingSet,
    unlabelled: Sequence[str],
    development: Sequence[Annotation],
    on_step: Callable[[int, int, float], None] | None,
) -> _TrainedModel:
    """Train a network; where there are unlabelled texts and time is left, another on its answers to them."""
    texts = start.features(_unannotated(unlabelled, start.passage_chars))
    student_dataset = replace(dataset, resampled=(*dataset.resampled, texts))
    steps = [data.steps(start.settings) for data in ((dataset, student_dataset) if texts else (dataset,))]
    course = Course(steps, start.settings, on_step)
    trained = start.train(dataset, development, course)
    if not texts:
        return trained
    if not course.has_time:
        return replace(trained, result=replace(trained.result, planned=(*trained.result.planned, 0.0)))
    return start.train_student(student_dataset, trained, development, course)


def fit_linear_heads(
    plan: Plan,
    annotations: Sequence[Annotation],
    *,
    base: str = DEFAULT_BASE,
    settings: TrainSettings | None = None,
    passage_chars: int = PASSAGE_CHARS,
) -> Proxy:
    """Fit the heads of label steps alone, on a network that stays as it is: what training starts from, and a baseline.

    Span steps are answered from their words.

    Args:
        plan: The plan that the proxy is to answer.
        annotations: Annotations to fit to.
        base: The metamodel or encoder. Default ``falconer-small``.
        settings: The seed; by default that of :class:`TrainSettings`.
        passage_chars: Length of the passages into which texts are split, in characters. Default 1,200.

    Raises:
        ProxyError: A step has no annotation, or the base cannot be loaded.
    """
    start = _WarmStart(plan, base, settings or TrainSettings(), passage_chars)
    dataset = start.training_set(start.examples(annotations))
    heads = start.initial_heads(joint_index(plan, ()), dataset, fitted=True)
    return Proxy(start.manifest, start.tokenizer, _weights_of(start.model, heads), NetworkSource(loaded=start.model))


@dataclass(frozen=True)
class _TrainedModel:
    """A trained network.

    Attributes:
        model: The network.
        tasks: The plans that it answers, with their heads; the new one first.
        result: The course of its training.
    """

    model: Any
    tasks: tuple[TaskHead, ...]
    result: TrainResult

    def mean(self, teacher: _TrainedModel) -> _TrainedModel:
        """Return the mean of both networks, which is better than either, and how both were trained.

        They started from the same weights, so that these may be averaged (model soups, Wortsman et al., arXiv
        2203.05482).
        """
        import torch

        with torch.no_grad():
            for own, other in zip(self.model.parameters(), teacher.model.parameters(), strict=True):
                own.lerp_(other, 0.5)
        tasks = tuple(
            TaskHead(own.plan, own.weights.towards(other.weights, 0.5))
            for own, other in zip(self.tasks, teacher.tasks, strict=True)
        )
        return _TrainedModel(self.model, tasks, teacher.result.followed_by(self.result))


@dataclass(frozen=True)
class _WarmStart:
    """The start of a training: a base, or a proxy whose tasks are retained."""

    plan: Plan
    source: str | Previous
    settings: TrainSettings
    passage_chars: int

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that training continues from."""
        return self.source.proxy if isinstance(self.source, Previous) else None

    @property
    def previous_tasks(self) -> Sequence[PreviousTask]:
        """Earlier tasks that are rehearsed."""
        return self.source.tasks if isinstance(self.source, Previous) else ()

    @property
    def base(self) -> str:
        """The checkpoint that the network descends from."""
        return str(self.source.proxy.manifest["base"]) if isinstance(self.source, Previous) else self.source

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the proxy before training."""
        return new_manifest(self.plan, self.base, self.passage_chars, self.max_tokens)

    @cached_property
    def memory(self) -> tuple[TaskHead, ...]:
        """Earlier tasks with their heads."""
        return (TaskHead(self.proxy.plan, self.proxy.heads), *self.proxy.memory) if self.proxy else ()

    @cached_property
    def regularizers(self) -> tuple[DistillationLoss, ...]:
        """The terms of the loss that retain earlier tasks."""
        if not self.proxy:
            return ()
        model = copy.deepcopy(self.model).to(self.device)
        return (DistillationLoss(self.lower.trained_part(model), self.memory, after=self.plan),)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the network."""
        return self.proxy.tokenizer if self.proxy else load_tokenizer(self.base)

    @cached_property
    def model(self) -> Any:
        """The network to start from; a copy of it is trained."""
        import torch

        torch.manual_seed(self.settings.seed)  # weights that a bare encoder lacks are random
        return self.proxy.network.module if self.proxy else load_model(self.base, self.settings.layers)

    @cached_property
    def lower(self) -> LowerLayers:
        """The layers that are not trained."""
        from langchain_falconer.train.frozen import LowerLayers, n_layers

        frozen = self.settings.frozen_layers
        available = n_layers(self.model.encoder)
        if frozen is None:
            frozen = round(_FROZEN * available) if self.is_pretrained else 0
        elif frozen > max(0, available - 1):
            raise ProxyError(
                f"{frozen} layers of '{self.base}' cannot be frozen; choose at most {max(0, available - 1)}"
            )
        return LowerLayers(self.model, frozen, self.tokenizer.pad_id, self.device)

    @cached_property
    def device(self) -> torch.device:
        """Where the network is trained."""
        return resolve_device(self.settings.device)

    @property
    def max_tokens(self) -> int:
        """Tokens that the encoder reads at once."""
        return max_tokens(self.model.encoder.config.to_dict())

    @property
    def is_pretrained(self) -> bool:
        """Whether the network was pretrained to follow questions, and its heads start from theirs."""
        if self.proxy or self.settings.reset_head or self.settings.layers is not None:
            return False
        return is_metamodel(Path(base_folder(self.base)))

    def features(self, examples: Sequence[Example]) -> list[Feature]:
        """Return the features of examples for the encoder."""
        return features_of(WindowSplitter(self.tokenizer, self.max_tokens), examples)

    def examples(self, annotations: Sequence[Annotation]) -> list[list[Example]]:
        """Return the examples of each annotation. Raises ``ProxyError`` where a step has none."""
        examples = [examples_of(self.plan, [annotation], self.passage_chars) for annotation in annotations]
        _check_every_step(self.plan, [example for own in examples for example in own])
        return examples

    def proxy_of(
        self,
        trained: _TrainedModel,
        annotations: Sequence[Annotation],
        examples: Sequence[Sequence[Example]],
        unlabelled: Sequence[str],
    ) -> Proxy:
        """Return a trained network as a proxy."""
        manifest = self.manifest | {
            "settings": self.settings.model_dump(),
            "data": _data_facts(annotations, [example for own in examples for example in own], unlabelled),
            "seen": _trained_ids(annotations, self.previous_tasks),
            "training": trained.result.to_dict(),
            "memory": [old.plan.to_dict() for old in self.memory],
        }
        own, *retained = trained.tasks
        network = NetworkSource(loaded=trained.model.to("cpu"))
        return Proxy(manifest, self.tokenizer, own.weights, network, memory=retained)

    def training_set(self, examples: Sequence[Sequence[Example]]) -> TrainingSet:
        """Return the examples of each annotation as a training set, with those of earlier tasks to rehearse."""
        rehearsed = rehearsal_examples(self.memory, self.previous_tasks, self.passage_chars)
        unlabelled = (text for task in self.previous_tasks for text in task.unlabelled)
        pools = [self.features(rehearsed), self.features(_unannotated(unlabelled, self.passage_chars))]
        new = [self.features(own) for own in examples]
        return TrainingSet(new, pools, self.regularizers, is_pretrained=self.is_pretrained)

    def train(self, dataset: TrainingSet, development: Sequence[Annotation], course: Course) -> _TrainedModel:
        """Train a copy of the network as the next of a course; development annotations select the checkpoint."""
        from langchain_falconer.train.precision import is_fast_in_bf16

        model = copy.deepcopy(self.model).to(self.device)
        index = joint_index(self.plan, self.memory)
        with MODEL_INIT_LOCK:
            heads = self.initial_heads(index, dataset, fitted=self.is_pretrained).to(self.device)

        def trained_heads() -> tuple[HeadWeights, tuple[TaskHead, ...]]:
            return split_heads(self.plan, self.memory, index, _weights_of(model, heads))

        def answers() -> list[Answers]:
            proxy = Proxy(self.manifest, self.tokenizer, trained_heads()[0], NetworkSource(loaded=model))
            kind = self.device.type
            proxy.set_session(proxy.torch_session(bf16=is_fast_in_bf16(kind), device=kind))
            return proxy.answers([a.text for a in development], apply_conditions=False)

        before, _ = trained_heads()
        schedule = course.begin()

        def after_step(loss: float) -> None:
            course.report(loss)
            selector.on_step(schedule.done, schedule.total)

        selector = CheckpointSelector(self.plan, (model, heads), answers, development)
        network = Network(model, heads, index, self.lower)
        result = fit(network, dataset, self.settings, schedule, after_step)
        result = replace(result, selected_after=(selector.restore(),))
        own, retained = trained_heads()
        if self.is_pretrained and not any(isinstance(step, SpanStep) for step in self.plan.steps):
            own = own.towards(before, _RETAINED)
            self._retain(model)
        return _TrainedModel(model, (TaskHead(self.plan, own), *retained), result)

    def _retain(self, model: QueryHeadModel) -> None:
        """Move trained weights half the way back to those before (WiSE-FT, Wortsman et al., arXiv 2109.01903).

        The share is fixed: 100 annotations are too few to choose a better one by cross-validation (see the results in
        docs/measurements).
        """
        import torch

        with torch.no_grad():
            for own, before in zip(model.parameters(), self.model.parameters(), strict=True):
                own.lerp_(before.to(own.device), _RETAINED)

    def train_student(
        self, dataset: TrainingSet, teacher: _TrainedModel, development: Sequence[Annotation], course: Course
    ) -> _TrainedModel:
        """Train another network that also learns what the teacher answers, and return the mean of both."""
        loss = DistillationLoss(self.lower.trained_part(teacher.model), teacher.tasks[:1])
        dataset = replace(dataset, regularizers=(loss, *self.regularizers))
        return self.train(dataset, development, course).mean(teacher)

    @cached_property
    def vectors(self) -> Vectors:
        """The vectors of texts in the network before training."""
        from langchain_falconer.train.probing import Vectors

        return Vectors(copy.deepcopy(self.model).to(self.device), self.lower)

    def initial_heads(self, index: HeadIndex, dataset: TrainingSet, *, fitted: bool) -> QueryHeads:
        """Return the heads that training starts from.

        New ones are made from words, those of labels ``fitted`` to the annotations; earlier ones are as they were.
        """
        import torch

        from langchain_falconer.model.network import QueryHeads

        generator = HeadGenerator.of(self.model)
        vectors = ZeroShotEncoder(TorchSession(self.model), self.tokenizer, generator).vectors(index)
        spans, options, questions = (np.zeros_like(v) if self.settings.reset_head else v for v in vectors)
        heads = QueryHeads(*map(torch.from_numpy, (spans, options, questions)))
        words = generator(spans, options, questions)
        restore_heads(self.memory, index, heads, words)
        if fitted:
            self._fit_label_heads(heads, index, dataset, words)
        return heads

    def _fit_label_heads(self, heads: QueryHeads, index: HeadIndex, dataset: TrainingSet, words: HeadWeights) -> None:
        import torch

        from langchain_falconer.train.probing import probe_heads

        features = [item for own in dataset.new for item in own]
        with torch.no_grad():
            for step, probe in probe_heads(index, features, self.vectors, words, self.settings.seed).items():
                heads.label_shift[index.label_rows[step]] = probe.weight
                heads.label_bias[index.label_rows[step]] = probe.bias


def _weights_of(model: QueryHeadModel, heads: QueryHeads) -> HeadWeights:
    import torch

    with torch.no_grad():
        return HeadWeights(*(w.detach().float().cpu().contiguous().numpy().copy() for w in heads.weights(model)))


def _unannotated(texts: Iterable[str], passage_chars: int) -> list[Example]:
    """Return the passages of texts, without answers."""
    return [Example(text[start:end], {}, {}) for text in texts for start, end in split_passages(text, passage_chars)]


def _trained_ids(annotations: Sequence[Annotation], previous: Sequence[PreviousTask]) -> list[str]:
    """Return the ids of the texts that were trained on: the proxy must not be evaluated on them."""
    return sorted({text_id(a.text) for a in (*annotations, *(a for task in previous for a in task.annotations))})


def _check_every_step(plan: Plan, examples: Sequence[Example]) -> None:
    for step in plan.steps:
        if not any(step.id in e.labels or step.id in e.spans for e in examples):
            raise ProxyError(
                f"step '{step.id}' has no annotation to learn from; annotate more texts, "
                "or texts for which its condition holds"
            )


def _data_facts(
    annotations: Sequence[Annotation], examples: Sequence[Example], unlabelled: Sequence[str]
) -> dict[str, Any]:
    """Return the size and digest of the training data, for the manifest."""
    return {
        "annotations": len(annotations),
        "examples": len(examples),
        "unlabelled": len(unlabelled),
        "sha256": _data_hash(examples, unlabelled),
    }


def _data_hash(examples: Sequence[Example], unlabelled: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        row: list[Any] = [example.text, dict(example.labels), {k: list(map(list, v)) for k, v in example.spans.items()}]
        row += [dict(example.scores)] if example.scores else []
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    for text in unlabelled:
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()
