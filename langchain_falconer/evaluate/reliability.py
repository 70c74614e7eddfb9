"""Reliability of scores: how often answers with a score are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from langchain_falconer.evaluate.calibration import expected_calibration_error
from langchain_falconer.records import FrozenModel

_BINS = 10


class ReliabilityBin(FrozenModel):
    """Answers with a score in [low, high).

    Attributes:
        low: Lowest score.
        high: Highest score, itself in the next bin, but for 1.
        n: Number of answers.
        score: Their mean score.
        right: Share of them that are right.
    """

    low: float
    high: float
    n: int
    score: float
    right: float


class Reliability(FrozenModel):
    """Calibration of the scores of a step.

    Attributes:
        error: Expected calibration error, over ten bins of equal width.
        n: Number of answers.
        bins: The bins that have answers.
    """

    error: float
    n: int
    bins: tuple[ReliabilityBin, ...]


def reliability(scores: ArrayLike, right: ArrayLike) -> Reliability | None:
    """Compute the reliability of scores; None without any.

    Args:
        scores: Score of each answer in [0, 1], shape (n,).
        right: Whether each answer is right, shape (n,).
    """
    p, y = np.asarray(scores, float), np.asarray(right, float)
    if not len(p):
        return None
    place = np.minimum((p * _BINS).astype(int), _BINS - 1)
    bins = [
        ReliabilityBin(
            low=i / _BINS,
            high=(i + 1) / _BINS,
            n=int((place == i).sum()),
            score=float(p[place == i].mean()),
            right=float(y[place == i].mean()),
        )
        for i in np.unique(place).tolist()
    ]
    return Reliability(error=float(expected_calibration_error(p, y)), n=len(p), bins=tuple(bins))
