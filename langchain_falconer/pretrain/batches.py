"""Batches of pretraining: what one optimiser step learns from, as arrays; made in worker processes, without torch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from langchain_falconer.model.tokenization import Tokenizer, Window, WindowSplitter, pad
from langchain_falconer.pretrain.tasks import LabelQuestion, Source, SpanQuestion, Task

if TYPE_CHECKING:
    from langchain_falconer.pretrain.pretraining import PretrainSettings

UNKNOWN = -100
"""Target of a token that is left out of the loss."""
_KEEP_EVERY = 3
_KEEP_TEXTS = 24


@dataclass(frozen=True)
class Mixture:
    """Sources with the weights by which they are drawn.

    Attributes:
        sources: The sources by name.
        weights: Their weights by name; any scale.
    """

    sources: Mapping[str, Source]
    weights: Mapping[str, float]

    def draw(self, rng: random.Random, size: int) -> tuple[str, Task]:
        """Draw a task of at most ``size`` texts; returns the name of its source too."""
        names, cumulative = self._cumulative
        name = rng.choices(names, cum_weights=cumulative)[0]
        return name, self.sources[name].draw(rng, size)

    @cached_property
    def _cumulative(self) -> tuple[list[str], list[float]]:
        names = sorted(self.sources)
        return names, list(accumulate(self.weights[name] for name in names))


@dataclass(frozen=True)
class Anchors:
    """Texts whose sentence vectors are to stay what the plain encoder makes of them.

    Attributes:
        texts: The texts, n of them.
        vectors: Their unit vectors (n, d), float16.
    """

    texts: Sequence[str]
    vectors: np.ndarray


@dataclass(frozen=True)
class LabelBatch:
    """A label question of a task.

    Attributes:
        options: Positions of the L options among the words of the step.
        question: Position of the question among them.
        rows: Texts of the task with a known answer, (n,).
        targets: Right option (n,) where one alone is right, else probabilities (n, L).
    """

    options: Sequence[int]
    question: int
    rows: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class TaskBatch:
    """A task of a step.

    Attributes:
        source: Name of its source.
        first: Position of its first text in the step.
        n_texts: Its texts.
        span_words: Positions of the S span questions among the words of the step.
        span_targets: Targets (n_texts, T, S), int8.
        labels: Its label questions.
    """

    source: str
    first: int
    n_texts: int
    span_words: Sequence[int]
    span_targets: np.ndarray
    labels: Sequence[LabelBatch]


@dataclass(frozen=True)
class Step:
    """All that one optimiser step learns from.

    Attributes:
        ids: Token ids of the texts (N, T), anchors last.
        mask: Their attention mask (N, T).
        word_ids: Token ids of questions and options (W, U).
        word_mask: Their attention mask (W, U).
        tasks: The tasks.
        anchors: Vectors of the anchors (A, d), float16.
    """

    ids: np.ndarray
    mask: np.ndarray
    word_ids: np.ndarray
    word_mask: np.ndarray
    tasks: Sequence[TaskBatch]
    anchors: np.ndarray


@dataclass
class StepMaker:
    """Makes the steps of a pretraining; each depends on the seed and its number alone, so that a run can be resumed.

    Attributes:
        mixture: The sources.
        anchors: Texts whose vectors are preserved.
        tokenizer: The tokenizer of the network.
        settings: The seed, and the sizes of steps, tasks and texts.
    """

    mixture: Mixture
    anchors: Anchors
    tokenizer: Tokenizer
    settings: PretrainSettings

    def make(self, step: int) -> Step:
        """Make step ``step``."""
        rng = random.Random(f"{self.settings.seed}-{step}")
        drawn = [self.mixture.draw(rng, self.settings.texts) for _ in range(self.settings.tasks)]
        n_anchors = min(len(self.anchors.texts), _KEEP_TEXTS) if step % _KEEP_EVERY == 0 else 0
        chosen = rng.sample(range(len(self.anchors.texts)), n_anchors)
        texts = [text for _, task in drawn for text in task.texts]
        windows = self._windows([*texts, *(self.anchors.texts[i] for i in chosen)])
        ids, mask = pad(windows, self.tokenizer.pad_id)
        words: dict[str, int] = {}
        tasks, first = [], 0
        for name, task in drawn:
            own = windows[first : first + len(task.texts)]
            tasks.append(
                TaskBatch(
                    name,
                    first,
                    len(own),
                    [words.setdefault(q.words, len(words)) for q in task.spans],
                    _span_targets(task.spans, own, ids.shape[1]),
                    [_label_batch(q, words) for q in task.labels],
                )
            )
            first += len(own)
        word_ids, word_mask = pad(self._windows(list(words)), self.tokenizer.pad_id)
        return Step(ids, mask, word_ids, word_mask, tasks, self.anchors.vectors[chosen])

    def _windows(self, texts: Sequence[str]) -> list[Window]:
        firsts: dict[int, Window] = {}
        for window in WindowSplitter(self.tokenizer, self.settings.max_tokens)(texts):
            firsts.setdefault(window.text, window)
        return [firsts[i] for i in range(len(texts))]


def _span_targets(questions: Sequence[SpanQuestion], windows: Sequence[Window], width: int) -> np.ndarray:
    targets = np.full((len(windows), width, len(questions)), UNKNOWN, np.int8)
    for column, question in enumerate(questions):
        for row, spans in question.answers.items():
            targets[row, windows[row].words, column] = windows[row].states(spans)
    return targets


def _label_batch(question: LabelQuestion, words: dict[str, int]) -> LabelBatch:
    rows = sorted(question.answers)
    targets = np.array([question.answers[r] for r in rows], np.int64 if question.exclusive else np.float32)
    options = [words.setdefault(option, len(words)) for option in question.options]
    return LabelBatch(options, words.setdefault(question.words, len(words)), np.array(rows, np.int64), targets)
