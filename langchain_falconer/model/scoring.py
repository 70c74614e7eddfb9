"""Texts to scores: windows, length-sorted batches, one encoder pass, decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from langchain_falconer.model.decoding import Calibration, ScoredPassage, Scores, merge, read_scores
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.sessions import HeadWeights, Session
from langchain_falconer.model.tokenization import Window, pad

TOKENS_A_BATCH = 1024
_CHARS_AT_ONCE = 2**19
WindowFn = Callable[[Sequence[str]], list[Window]]
"""Cuts texts into windows, in order of text and position."""
ScoreFn = Callable[[Sequence[str]], list[Scores]]
"""Scores texts."""


class Scorer:
    """Answers every step of an index about texts, each text encoded once.

    It may be called from several threads: ``executor`` computes, they tokenise and decode.
    """

    def __init__(
        self,
        windows: WindowFn,
        pad_id: int,
        index: HeadIndex,
        weights: HeadWeights,
        calibration: Calibration,
        session: Session,
        executor: Executor,
    ) -> None:
        self._windows = windows
        self._pad_id = pad_id
        self._index = index
        self._weights = weights
        self._calibration = calibration
        self.session = session
        self._executor = executor

    def __call__(self, texts: Sequence[str]) -> list[Scores]:
        """The scores of each text. The same list of texts always makes the same batches, so the same scores.

        However many or long the texts, only so many windows are held at once.
        """
        return [scores for group in text_groups(texts, _CHARS_AT_ONCE) for scores in self._of_group(group)]

    def _of_group(self, texts: Sequence[str]) -> list[Scores]:
        windows = self._windows(texts)
        scores: list[Scores | None] = [None] * len(windows)
        batches = list(_batches(windows))
        cut = [[windows[i] for i in batch] for batch in batches]
        for batch, own, (spans, labels) in zip(batches, cut, self._executor.map(self._computed, cut), strict=True):
            for i, new in zip(batch, read_scores(self._index, self._calibration, own, spans, labels), strict=True):
                scores[i] = new
        parts: list[list[ScoredPassage]] = [[] for _ in texts]
        for window, one in zip(windows, scores, strict=True):
            assert one is not None
            parts[window.text].append(
                ScoredPassage(0, one, window.seen)
            )  # windows carry offsets of the whole text already
        return [merge(p, self._index) for p in parts]

    def _computed(self, batch: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        return self.session.run(*pad(batch, self._pad_id), self._weights)


def text_groups(texts: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    """``texts`` in groups, in order, of at most ``most`` characters each; a longer text is a group of its own."""
    at = size = 0
    for i, text in enumerate(texts):
        if i > at and size + len(text) > most:
            yield texts[at:i]
            at, size = i, 0
        size += len(text)
    if at < len(texts):
        yield texts[at:]


def _batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Indices of windows of like length, at most :data:`TOKENS_A_BATCH` padded tokens a batch, longest first."""
    order = sorted(range(len(windows)), key=lambda i: (-len(windows[i].ids), i))
    at = 0
    while at < len(order):
        size = max(1, TOKENS_A_BATCH // len(windows[order[at]].ids))
        yield order[at : at + size]
        at += size
