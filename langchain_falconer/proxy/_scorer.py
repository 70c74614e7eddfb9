"""Texts to scores: windows, length-sorted batches, one encoder pass, decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from langchain_falconer.proxy._decode import Calibration, Scores, merge, read_scores
from langchain_falconer.proxy._layout import Layout
from langchain_falconer.proxy._session import Session, SlotWeights
from langchain_falconer.proxy._tokens import Window, pad

TOKENS_A_BATCH = 4096
Reader = Callable[[Sequence[str]], list[Window]]
"""Cuts texts into windows, in order of text and position."""
Judge = Callable[[Sequence[str]], list[Scores]]
"""Scores texts."""


class Scorer:
    """Answers every step of a layout about texts, each text encoded once."""

    def __init__(
        self,
        windows: Reader,
        pad_id: int,
        layout: Layout,
        weights: SlotWeights,
        calibration: Calibration,
        session: Session,
    ) -> None:
        self._windows = windows
        self._pad_id = pad_id
        self._layout = layout
        self._weights = weights
        self._calibration = calibration
        self.session = session

    def __call__(self, texts: Sequence[str]) -> list[Scores]:
        """The scores of each text. The same list of texts always makes the same batches, so the same scores."""
        windows = self._windows(texts)
        scores: list[Scores | None] = [None] * len(windows)
        for batch in _batches(windows):
            ids, mask = pad([windows[i] for i in batch], self._pad_id)
            spans, labels = self.session.run(ids, mask, self._weights)
            found = read_scores(self._layout, self._calibration, [windows[i] for i in batch], spans, labels)
            for i, new in zip(batch, found, strict=True):
                scores[i] = new
        parts: list[list[tuple[int, Scores]]] = [[] for _ in texts]
        for window, one in zip(windows, scores, strict=True):
            assert one is not None
            parts[window.text].append((0, one))  # windows carry offsets of the whole text already
        return [merge(p, self._layout) for p in parts]


def _batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Indices of windows of like length, at most :data:`TOKENS_A_BATCH` padded tokens a batch, longest first."""
    order = sorted(range(len(windows)), key=lambda i: (-len(windows[i].ids), i))
    at = 0
    while at < len(order):
        size = max(1, TOKENS_A_BATCH // len(windows[order[at]].ids))
        yield order[at : at + size]
        at += size
