"""Calibration of scores: temperature and Platt scaling, and the error that remains."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_TARGETS = 10
"""Number of targets below which no temperature is fitted."""
_PRIOR_STD = 1.0  # standard deviation of the prior on log T
_MAX_LOG = float(np.log(20))


def fit_temperature(logits: ArrayLike, targets: ArrayLike, *, around: float = 1.0) -> float:
    """Fit the temperature T that best calibrates ``softmax(logits / T)`` (Guo et al. 2017, arXiv 1706.04599).

    Minimises the negative log-likelihood of held-out targets. A normal prior on log T keeps T near ``around`` while
    there are few targets, and away from 0 if all of them are right; a few hundred targets outweigh it.

    Args:
        logits: Values before the softmax, shape (n, k).
        targets: Correct column of each row, shape (n,).
        around: Expected temperature.

    Returns:
        T in [0.05, 20]; ``around`` if there are fewer than 10 targets or all are of one class.

    Raises:
        ValueError: The shapes do not fit, a logit is not finite, or a target is not a column.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    z, y = np.asarray(logits, float), np.asarray(targets, np.int64)
    if z.ndim != 2 or y.shape != z.shape[:1] or not np.isfinite(z).all():
        raise ValueError(f"logits {z.shape} and targets {y.shape} must be finite, of shapes (n, k) and (n,)")
    if ((y < 0) | (y >= z.shape[1])).any():
        raise ValueError(f"a target is not a column of logits of shape {z.shape}")
    if len(y) < MIN_TARGETS or len(np.unique(y)) < 2:
        return around

    def loss(log_t: float) -> float:
        likelihood = log_softmax(z * np.exp(-log_t), axis=1)[np.arange(len(y)), y].sum()
        return float(0.5 * ((log_t - np.log(around)) / _PRIOR_STD) ** 2 - likelihood)

    return float(np.exp(minimize_scalar(loss, bounds=(-_MAX_LOG, _MAX_LOG), method="bounded").x))


def fit_scale(
    scores: ArrayLike, correct: ArrayLike, *, around: tuple[float, float] = (1.0, 0.0), spread: float = 0.5
) -> tuple[float, float]:
    """Fit slope a and shift b that best calibrate ``sigmoid(a * logit(score) + b)`` (Platt 1999).

    A normal prior keeps them near ``around`` while there are few scores.

    Args:
        scores: Score of each answer in [0, 1], shape (n,).
        correct: Whether each answer is correct, shape (n,).
        around: Expected slope and shift; the default leaves scores unchanged.
        spread: Standard deviation of the prior on log a; that on b is twice as large.

    Returns:
        ``(a, b)`` with a > 0, so that the order of answers does not change.

    Raises:
        ValueError: The shapes differ, or a score lies outside [0, 1].
    """
    from scipy.optimize import minimize
    from scipy.special import log_expit

    values, right = validate_scores(scores, correct)
    z, sign = logit(values), np.where(right, 1.0, -1.0)
    expected = np.array([np.log(around[0]), around[1]])

    def loss(at: NDArray[np.float64]) -> float:
        likelihood = log_expit(sign * (np.exp(at[0]) * z + at[1])).sum()
        return float(0.5 * (((at - expected) / (spread, 2 * spread)) ** 2).sum() - likelihood)

    log_a, b = minimize(loss, expected, bounds=[(-_MAX_LOG, _MAX_LOG), (-10, 10)]).x
    return float(np.exp(log_a)), float(b)


def logit(scores: ArrayLike) -> NDArray[np.float64]:
    """Return log odds of scores, clipped to [1e-6, 1 - 1e-6]."""
    p = np.clip(np.asarray(scores, float), 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return odds


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Compute the mean gap between confidence and accuracy over bins of equal width (Naeini et al. 2015).

    Args:
        confidence: Score of each answer in [0, 1], shape (n,).
        correct: Whether each answer is correct, shape (n,).
        bins: Number of bins.

    Returns:
        The error in [0, 1]; 0.0 without answers.

    Raises:
        ValueError: The shapes differ, a confidence lies outside [0, 1], or there is no bin.
    """
    scores, right = validate_scores(confidence, correct)
    if bins < 1:
        raise ValueError(f"{bins} is not a number of bins; use at least 1")
    which = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = np.abs(np.bincount(which, weights=scores - right))  # of a bin, times the number of its answers
    return float(gaps.sum() / max(1, len(scores)))


def validate_scores(scores: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores in [0, 1] and truth values as arrays of shape (n,). Raises ``ValueError`` if they are not."""
    values, right = np.asarray(scores, float), np.asarray(correct, bool)
    if values.ndim != 1 or values.shape != right.shape:
        raise ValueError(
            f"scores of shape {values.shape} and truth values of shape {right.shape} must have the same shape (n,)"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a score lies outside [0, 1]; give probabilities")
    return values, right
