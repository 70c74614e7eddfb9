"""Scoring of texts: windows, length-sorted batches, one encoder pass, decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from langchain_falconer.cancellation import raise_if_cancelled
from langchain_falconer.model.decoding import Calibration, ScoredPassage, Scores, merge, read_scores
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.sessions import HeadWeights, Session
from langchain_falconer.model.tokenization import Window, length_batches, pad

_MAX_CHARS_IN_MEMORY = 2**19
WindowFn = Callable[[Sequence[str]], list[Window]]
"""Cuts texts into windows, in order of text and position."""
ScoreFn = Callable[[Sequence[str]], list[Scores]]
"""Scores texts."""


class Scorer:
    """Scores texts for every step of an index, each text encoded once.

    May be called from several threads: ``executor`` computes, the callers tokenise and decode.

    Args:
        windows: Cuts texts into windows.
        pad_id: Token id that fills up batches.
        index: The steps and the rows of their heads.
        weights: The query heads.
        calibration: Turns scores into probabilities.
        session: Computes the network.
        executor: Runs the session.
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
        """Score texts. The same list of texts makes the same batches, and so the same scores.

        Memory is bounded: texts are scored in groups of limited length.
        """
        return [scores for group in text_groups(texts, _MAX_CHARS_IN_MEMORY) for scores in self._score_group(group)]

    def _score_group(self, texts: Sequence[str]) -> list[Scores]:
        windows = self._windows(texts)
        scores: list[Scores | None] = [None] * len(windows)
        batches = list(length_batches([len(w.ids) for w in windows], self.session.tokens_per_batch))
        inputs = [[windows[i] for i in batch] for batch in batches]
        outputs = self._executor.map(self._compute, inputs)
        for batch, own, (spans, labels) in zip(batches, inputs, outputs, strict=True):
            raise_if_cancelled()
            for i, new in zip(batch, read_scores(self._index, self._calibration, own, spans, labels), strict=True):
                scores[i] = new
        parts: list[list[ScoredPassage]] = [[] for _ in texts]
        for window, one in zip(windows, scores, strict=True):
            assert one is not None
            # Offset 0: windows have offsets of the whole text already.
            parts[window.text].append(ScoredPassage(0, one, window.extent))
        return [merge(p, self._index) for p in parts]

    def _compute(self, batch: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        return self.session.run(*pad(batch, self._pad_id), self._weights)


def text_groups(texts: Sequence[str], max_chars: int) -> Iterator[Sequence[str]]:
    """Split ``texts`` into groups, in order, of at most ``max_chars`` characters; a longer text is its own group."""
    at = size = 0
    for i, text in enumerate(texts):
        if i > at and size + len(text) > max_chars:
            yield texts[at:i]
            at, size = i, 0
        size += len(text)
    if at < len(texts):
        yield texts[at:]
