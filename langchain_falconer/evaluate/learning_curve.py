"""The learning curve: quality against annotations and LLM calls, and a forecast of what more of them would gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_falconer.evaluate.intervals import Proportion, proportion_by_text
from langchain_falconer.records import FrozenModel

FORECAST_CALLS = 100
"""LLM calls that a forecast looks ahead."""
MIN_POINTS = 3
"""Trained proxies that a forecast needs: two points are on a curve of any shape."""
_RESAMPLES = 1_000
_TRAINING_NOISE = 0.01
"""Standard deviation of the agreement of proxies that differ in nothing but chance, as a forecast assumes it."""
_STEEPEST = 1.0
"""Largest exponent of the power law: an error falls at most as the inverse of the number of annotations."""

RoundsEnd = Literal["target", "plateau", "budget", "limit", "texts", "annotator"]
"""Why no further round of annotation followed: the target is reached, more is forecast to gain too little, the budget
is used up, the limit of rounds is reached, no text is left, or nobody answers any more."""


class CurvePoint(FrozenModel):
    """The quality of one proxy.

    Attributes:
        annotations: Annotated texts that it learned from; 0 for the untrained proxy that training started from.
        calls: LLM calls of the job so far.
        development: Agreement with the annotator on development texts, on which further rounds are decided; ``None``
            where there are none.
        test: Agreement on test texts, on which nothing is decided; ``None`` where there are none.
    """

    annotations: int
    calls: int
    development: Proportion | None
    test: Proportion | None


class Forecast(FrozenModel):
    """The agreement that more LLM calls are expected to gain.

    Attributes:
        calls: Number of calls.
        annotations: Annotations that they buy, at the price of the last round.
        gain: Expected gain of agreement.
        low: Lower end of its interval.
        high: Upper end of its interval.
        level: Confidence level of the interval.
    """

    calls: int
    annotations: int
    gain: float
    low: float
    high: float
    level: float = 0.95


class LearningCurve(FrozenModel):
    """Quality against annotations and LLM calls, round by round.

    Attributes:
        points: The untrained proxy, where there is one, and the proxy of each round.
        forecast: What further calls are expected to gain; ``None`` where there are too few points to forecast.
        ended_by: Why no further round followed; ``None`` while one does.
        reason: The same as a sentence; empty while a round follows.
    """

    points: tuple[CurvePoint, ...] = ()
    forecast: Forecast | None = None
    ended_by: RoundsEnd | None = None
    reason: str = ""


def forecast(
    points: Sequence[CurvePoint], same: ArrayLike, decisions: ArrayLike, level: float = 0.95
) -> Forecast | None:
    """Forecast the gain of further LLM calls from the proxies of all rounds on the same development texts.

    The error is taken to fall as a power of the number of annotations (Hestness et al., arXiv 1712.00409), and never to
    rise. The exponent is fitted to resamples of the texts, to whose errors the noise of a training is added. The ends
    of the interval are those of the last error's exact interval, each with the exponent's end: with 30 to 100 texts and
    three or four rounds it covered the true gain in 95% or more of simulated runs in each of 30 settings, curves with a
    plateau among them; percentiles of the gain itself: from 77%.

    Args:
        points: The proxies; of untrained ones nothing is learned.
        same: Decisions of each proxy of ``points`` that equal the annotator's, by text, shape (points, texts).
        decisions: Decisions by text, shape (texts,).
        level: Confidence level of the interval.

    Returns:
        The forecast; ``None`` with fewer than three trained proxies, or without texts.
    """
    trained = [i for i, point in enumerate(points) if point.annotations]
    equal, total = np.asarray(same, float)[trained], np.asarray(decisions, float)
    if len(trained) < MIN_POINTS or not total.any():
        return None
    sizes = np.array([points[i].annotations for i in trained], float)
    annotations = _annotations_for(FORECAST_CALLS, [points[i] for i in trained])
    errors = _resampled_errors(equal, total)
    x, y = np.log(sizes) - np.log(sizes).mean(), np.log(errors)
    exponents = np.clip(-(y @ x) / (x @ x), 0, _STEEPEST)
    shares = 1 - (1 + annotations / sizes[-1]) ** -exponents  # of the last error that are still to be gained
    gains = np.exp(y.mean(axis=1) - exponents * x[-1]) * shares
    low, high = np.percentile(shares, [50 * (1 - level), 50 * (1 + level)])
    last = proportion_by_text(total - equal[-1], total, level)
    return Forecast(
        calls=FORECAST_CALLS,
        annotations=annotations,
        gain=float(np.median(gains)),
        low=float(last.low * low),
        high=float(last.high * high),
        level=level,
    )


def _annotations_for(calls: int, points: Sequence[CurvePoint]) -> int:
    """Return how many annotations a number of calls buys, at the price of the last round."""
    before, last = points[-2:]
    bought, paid = last.annotations - before.annotations, last.calls - before.calls
    return max(1, round(calls * bought / paid)) if bought > 0 and paid > 0 else calls


def _resampled_errors(same: NDArray[np.float64], decisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the error of each proxy on resamples of the texts, the same ones for all; shape (resamples, proxies)."""
    rng = np.random.default_rng(0)
    n = len(decisions)
    times = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(float)
    wrong, total = times @ (decisions - same).T, (times @ decisions)[:, None]
    errors = (wrong + 0.5) / (total + 1)  # of no error the logarithm could not be taken
    return np.clip(errors + rng.normal(0, _TRAINING_NOISE, errors.shape), 1e-3, 1)
