"""What a score is worth: temperature, calibration error, reliability."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_falconer.evaluate.intervals import proportion

FEWEST = 10
_PRIOR_SPREAD = 1.0  # standard deviation of log T before any data
_LARGEST_LOG = float(np.log(20))


def fit_temperature(logits: ArrayLike, targets: ArrayLike, *, around: float = 1.0) -> float:
    """The temperature T for which ``softmax(logits / T)`` is best calibrated (Guo et al. 2017, arXiv 1706.04599).

    Minimises the negative log-likelihood of held-out targets. A normal prior on log T keeps T near ``around`` while
    there are few of them, and from running to 0 when all of them are right; a few hundred outweigh it.

    Args:
        logits: before the softmax, shape (n, k).
        targets: the right column of each row, shape (n,).
        around: the temperature to expect.

    Returns:
        T in [0.05, 20]; ``around`` when there are fewer than 10 targets or all are of one class, which tells nothing.

    Raises:
        ValueError: if the shapes don't fit, a logit is not finite, or a target is no column.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    z, y = np.asarray(logits, float), np.asarray(targets, np.int64)
    if z.ndim != 2 or y.shape != z.shape[:1] or not np.isfinite(z).all():
        raise ValueError(f"logits {z.shape} and targets {y.shape} must be finite, of shapes (n, k) and (n,)")
    if ((y < 0) | (y >= z.shape[1])).any():
        raise ValueError(f"a target is no column of logits of shape {z.shape}")
    if len(y) < FEWEST or len(np.unique(y)) < 2:
        return around

    def loss(log_t: float) -> float:
        likelihood = log_softmax(z * np.exp(-log_t), axis=1)[np.arange(len(y)), y].sum()
        return float(0.5 * ((log_t - np.log(around)) / _PRIOR_SPREAD) ** 2 - likelihood)

    return float(np.exp(minimize_scalar(loss, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded").x))


def fit_scale(
    scores: ArrayLike, correct: ArrayLike, *, around: tuple[float, float] = (1.0, 0.0), spread: float = 0.5
) -> tuple[float, float]:
    """Slope a and shift b for which ``sigmoid(a * logit(score) + b)`` is best calibrated (Platt 1999).

    A normal prior keeps them near ``around`` while there are few scores.

    Args:
        scores: the score of each answer in [0, 1], shape (n,).
        correct: whether it was right, shape (n,).
        around: slope and shift to expect; as they stand, scores are kept as they are.
        spread: the standard deviation of log a before any data; that of b is twice as large.

    Returns:
        ``(a, b)``, a > 0, so that no two answers change places.

    Raises:
        ValueError: as :func:`reliability`.
    """
    from scipy.optimize import minimize
    from scipy.special import log_expit

    values, right = scored(scores, correct)
    z, sign = logit(values), np.where(right, 1.0, -1.0)
    expected = np.array([np.log(around[0]), around[1]])

    def loss(at: NDArray[np.float64]) -> float:
        likelihood = log_expit(sign * (np.exp(at[0]) * z + at[1])).sum()
        return float(0.5 * (((at - expected) / (spread, 2 * spread)) ** 2).sum() - likelihood)

    log_a, b = minimize(loss, expected, bounds=[(-_LARGEST_LOG, _LARGEST_LOG), (-10, 10)]).x
    return float(np.exp(log_a)), float(b)


def logit(scores: ArrayLike) -> NDArray[np.float64]:
    """Log odds; of 0 and 1, those of a hair's breadth from them."""
    p = np.clip(np.asarray(scores, float), 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return odds


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> list[dict[str, float]]:
    """How often answers of about the same confidence are right, for a reliability diagram.

    Args:
        confidence: the score of each answer in [0, 1], shape (n,).
        correct: whether it was right, shape (n,).
        bins: how many equally wide bins to sort them into.

    Returns:
        For each bin that is not empty: its edges ``low`` and ``high``, ``n``, mean ``confidence``, ``accuracy``, and
        the exact 95% interval of that, ``accuracy_low`` and ``accuracy_high``.

    Raises:
        ValueError: if the shapes differ, a confidence lies outside [0, 1], or there is no bin.
    """
    scores, right = scored(confidence, correct)
    if bins < 1:
        raise ValueError(f"{bins} bins cannot hold anything; use at least 1")
    which = np.minimum((scores * bins).astype(int), bins - 1)
    diagram = []
    for b in np.unique(which):
        here = which == b
        accuracy = proportion(int(right[here].sum()), int(here.sum()))
        diagram.append(
            {
                "low": float(b / bins),
                "high": float((b + 1) / bins),
                "n": accuracy.n,
                "confidence": float(scores[here].mean()),
                "accuracy": accuracy.value,
                "accuracy_low": accuracy.low,
                "accuracy_high": accuracy.high,
            }
        )
    return diagram


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """The mean gap between confidence and accuracy over equally wide bins (Naeini et al. 2015); 0.0 without answers.

    Raises:
        ValueError: as :func:`reliability`.
    """
    diagram = reliability(confidence, correct, bins)
    total = sum(b["n"] for b in diagram)
    return sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in diagram) / total if total else 0.0


def scored(scores: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores, and whether each was right, as equally long rows. Raises ``ValueError`` if they are none."""
    values, right = np.asarray(scores, float), np.asarray(correct, bool)
    if values.ndim != 1 or values.shape != right.shape:
        raise ValueError(
            f"scores of shape {values.shape} and right or wrong of shape {right.shape} must be equally long rows"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a score lies outside [0, 1]; give probabilities")
    return values, right
