"""Decoding of scores: exact spans, label probabilities, and answers merged over windows and passages."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from langchain_falconer.evaluate import logit
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.tokenization import BEGIN, INSIDE, OUTSIDE, Window
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.records import Answers, Label, Span

_IMPOSSIBLE = np.float32(-1e9)


@dataclass(slots=True)
class Scores:
    """Scores of one text (or passage) before decisions, by step id.

    Attributes:
        labels: P(true), shape (1,), for yes/no; else one probability per option.
        spans: Spans as (start, end, score), in character offsets of the text.
        none_prob: Probability that there are no further spans.
        n_tokens: Length of the text, the weight of its scores in :func:`merge`.
    """

    labels: dict[str, np.ndarray] = field(default_factory=dict)
    spans: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    none_prob: dict[str, float] = field(default_factory=dict)
    n_tokens: float = 1.0


@dataclass(frozen=True)
class Calibration:
    """Parameters that turn scores into probabilities and decisions.

    Attributes:
        temperatures: Temperature by label step.
        scales: Slope and shift of the logit by span step.
        thresholds: Decision threshold by yes/no or multi-label step; 0.5 where none is set.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Mapping[str, Any] | None) -> Calibration:
        """Read the calibration from a manifest."""
        data = data or {}
        scales = {k: (v[0], v[1]) for k, v in data.get("scales", {}).items()}
        return cls(data.get("temperatures", {}), scales, data.get("thresholds", {}))

    def renamed(self, steps: Mapping[str, str]) -> Calibration:
        """Return the calibration for other step ids: ``steps`` maps each to the id here."""
        return Calibration(
            {s: self.temperatures[own] for s, own in steps.items() if own in self.temperatures},
            {s: self.scales[own] for s, own in steps.items() if own in self.scales},
            {s: self.thresholds[own] for s, own in steps.items() if own in self.thresholds},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON data for a manifest."""
        data = {"temperatures": dict(self.temperatures), "scales": {k: list(v) for k, v in self.scales.items()}}
        return data | ({"thresholds": dict(self.thresholds)} if self.thresholds else {})


def read_scores(
    index: HeadIndex,
    calibration: Calibration,
    windows: Sequence[Window],
    span_scores: np.ndarray,
    label_scores: np.ndarray,
) -> list[Scores]:
    """Decode the token scores (B, T, 3S) and label scores (B, L) of a batch, window by window."""
    out = [Scores(n_tokens=float(len(w.ids))) for w in windows]
    for step in index.steps:
        if isinstance(step, LabelStep):
            temperature = calibration.temperatures.get(step.id, 1.0)
            logits = label_scores[:, index.label_rows[step.id]].astype(np.float64) / temperature
            probabilities = (
                _softmax(logits) if step.kind == "choice" else 1.0 / (1.0 + np.exp(-np.clip(logits, -50, 50)))
            )
            for scores, row in zip(out, probabilities, strict=True):
                scores.labels[step.id] = row
        else:
            for scores in out:
                scores.spans[step.id] = []
    if index.span_row:
        _read_spans(index, calibration, windows, span_scores, out)
    return out


def _read_spans(
    index: HeadIndex,
    calibration: Calibration,
    windows: Sequence[Window],
    span_scores: np.ndarray,
    out: Sequence[Scores],
) -> None:
    scores = span_scores.reshape(*span_scores.shape[:2], -1, 3)
    # A text whose every word scores "outside" highest has no span on its best path: skip it without decoding.
    odds = scores[..., BEGIN:].max(-1) - scores[..., OUTSIDE]
    for row, window in enumerate(windows):
        word_odds = odds[row, window.words]
        hits = (word_odds > 0).any(0)
        for step_id, head in index.span_row.items():
            remaining = word_odds[:, head]
            if hits[head]:
                log_p = _log_softmax(scores[row, window.words, head].astype(np.float64))
                scale = calibration.scales.get(step_id, (1.0, 0.0))
                path = best_path(log_p)
                out[row].spans[step_id] = _spans_on(path, log_p, window, scale)
                remaining = remaining[path == OUTSIDE]
            out[row].none_prob[step_id] = float(1 / (1 + np.exp(np.float64(remaining.max(initial=-np.inf)))))


def best_path(log_p: np.ndarray) -> np.ndarray:
    """Find the likeliest sequence of outside/begin/inside in which no inside follows an outside (Viterbi, 1967).

    ``log_p`` is (W, 3) over words; returns (W,) states. Exact.
    """
    path: np.ndarray = log_p.argmax(-1)
    previous = np.concatenate(([OUTSIDE], path[:-1]))
    if not ((path == INSIDE) & (previous == OUTSIDE)).any():
        return path  # the unconstrained best is valid already
    best = np.array([0.0, _IMPOSSIBLE, _IMPOSSIBLE])
    came_from = np.empty((len(log_p), 3), np.int64)
    for t, row in enumerate(log_p):
        top = int(best.argmax())
        inside_from = BEGIN if best[BEGIN] >= best[INSIDE] else INSIDE
        came_from[t] = (top, top, inside_from)
        best = best[came_from[t]] + row
    state = int(best.argmax())
    for t in range(len(log_p) - 1, -1, -1):
        path[t] = state
        state = int(came_from[t, state])
    return path


def _spans_on(
    path: np.ndarray, log_p: np.ndarray, window: Window, scale: tuple[float, float]
) -> list[tuple[int, int, float]]:
    spans = []
    slope, shift = scale
    for first in np.flatnonzero(path == BEGIN):
        last = first
        while last + 1 < len(path) and path[last + 1] == INSIDE:
            last += 1
        chosen = log_p[np.arange(first, last + 1), path[first : last + 1]]
        score = 1 / (1 + np.exp(-(slope * logit(np.exp(chosen.mean())) + shift)))
        spans.append((int(window.starts[first]), int(window.ends[last]), float(score)))
    return spans


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """The scores of a part of a text.

    Attributes:
        offset: Offset in the text from which the spans of ``scores`` count.
        scores: The scores.
        extent: Start and end of the part in the text.
    """

    offset: int
    scores: Scores
    extent: tuple[int, int]


def merge(parts: Sequence[ScoredPassage], index: HeadIndex) -> Scores:
    """Merge the scores of parts, which may overlap, into those of the whole text.

    A yes/no or multi-label answer is true of the whole if it is true of any part (the highest probability counts);
    for exclusive labels the mean counts, weighted by length; spans are the union, and where two of them overlap the one
    with the higher score stays. A span at the edge of its part, where it may have been cut off, gives way to one that
    is not, whatever their scores.
    """
    if len(parts) == 1 and parts[0].offset == 0:
        return parts[0].scores
    weights = [part.scores.n_tokens for part in parts]
    merged = Scores(n_tokens=sum(weights))
    for step in index.steps:
        if isinstance(step, LabelStep):
            rows = np.stack([part.scores.labels[step.id] for part in parts])
            merged.labels[step.id] = np.average(rows, axis=0, weights=weights) if step.kind == "choice" else rows.max(0)
        else:
            merged.spans[step.id] = _union(parts, step.id)
            merged.none_prob[step.id] = min(part.scores.none_prob[step.id] for part in parts)
    return merged


def _union(parts: Sequence[ScoredPassage], step_id: str) -> list[tuple[int, int, float]]:
    whole: list[tuple[int, int, float]] = []
    cut_off: list[tuple[int, int, float]] = []
    begin, end = min(part.extent[0] for part in parts), max(part.extent[1] for part in parts)
    for part in parts:
        first, last = part.extent
        for a, b, score in part.scores.spans[step_id]:
            span = (a + part.offset, b + part.offset, score)
            at_edge = (span[0] <= first and first > begin) or (span[1] >= last and last < end)
            (cut_off if at_edge else whole).append(span)
    return without_overlap(whole, cut_off)


def without_overlap(
    spans: Sequence[tuple[int, int, float]], second: Sequence[tuple[int, int, float]] = ()
) -> list[tuple[int, int, float]]:
    """Select the best-scored spans of which no two overlap, in text order; ``second`` fills the gaps only."""
    selected: list[tuple[int, int, float]] = []
    ordered = [s for group in (spans, second) for s in sorted(group, key=lambda s: (-s[2], s[0], -s[1]))]
    for span in ordered:
        at = bisect.bisect_left(selected, span)
        clear_before = at == 0 or selected[at - 1][1] <= span[0]
        clear_after = at == len(selected) or selected[at][0] >= span[1]
        if clear_before and clear_after:
            selected.insert(at, span)
    return selected


def decide(
    steps: Sequence[LabelStep | SpanStep], scores: Scores, text: str, thresholds: Mapping[str, float]
) -> Answers:
    """Decide each step: yes/no and multi-label by threshold, a choice by its likeliest option, every decoded span."""
    labels = {
        s.id: _label(s, scores.labels[s.id], thresholds.get(s.id, 0.5)) for s in steps if isinstance(s, LabelStep)
    }
    spans = {s.id: tuple(Span.at(text, *span) for span in scores.spans[s.id]) for s in steps if isinstance(s, SpanStep)}
    return Answers(labels, spans, scores.none_prob)


def _label(step: LabelStep, probabilities: np.ndarray, threshold: float) -> Label:
    if step.kind == "choice":
        best = int(probabilities.argmax())
        return Label(step.names[best], float(probabilities[best]))
    yes = probabilities >= threshold
    # The confidence in a subset is that in its least certain member.
    score = float(np.where(yes, probabilities, 1.0 - probabilities).min())
    if step.kind == "yes_no":
        return Label(bool(yes[0]), score)
    return Label(tuple(name for name, chosen in zip(step.names, yes, strict=True) if chosen), score)


# By hand: scipy.special takes more than twice as long on these small arrays, once per window and step.


def _softmax(logits: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.exp(_log_softmax(logits))
    return result


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
