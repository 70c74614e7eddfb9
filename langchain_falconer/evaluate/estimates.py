"""Counts over a corpus, corrected by uniformly drawn annotations, with intervals (prediction-powered inference)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_falconer.evaluate.intervals import event_rate, proportion_by_text
from langchain_falconer.records import FrozenModel

MIN_LABELLED = 10
"""Fewest labelled texts that an estimate rests on; below it there is a reason in its place."""
_Array = NDArray[np.float64]


class Estimate(FrozenModel):
    """A count, share or mean over a corpus: as it was counted, and as it is estimated to be.

    Attributes:
        counted: The plain figure over the result rows.
        estimate: The corrected figure: what the annotator would have counted; ``None`` where it cannot be estimated.
        low: Lower end of its confidence interval.
        high: Upper end of its confidence interval.
        level: Confidence level of the interval.
        reason: Why there is no estimate; ``None`` where there is one.
    """

    counted: int | float
    estimate: float | None
    low: float | None
    high: float | None
    level: float = 0.95
    reason: str | None = None

    @classmethod
    def exact(cls, counted: float, level: float = 0.95) -> Estimate:
        """Return the estimate of a figure in which every row was answered by the annotator itself."""
        return cls(counted=counted, estimate=float(counted), low=float(counted), high=float(counted), level=level)

    @classmethod
    def unknown(cls, counted: float, reason: str, level: float = 0.95) -> Estimate:
        """Return a figure that cannot be corrected."""
        return cls(counted=counted, estimate=None, low=None, high=None, level=level, reason=reason)

    def per(self, rows: int) -> Estimate:
        """Return the share of ``rows``, or the mean over them."""
        ends = {"estimate": self.estimate, "low": self.low, "high": self.high}
        shares = {name: None if value is None else value / rows for name, value in ends.items()}
        return self.model_copy(update={"counted": self.counted / rows, **shares})


@dataclass(frozen=True)
class Pairs:
    """A uniform sample of texts, with a quantity (0, 1, 2, …) by better answers and by those that it corrects.

    Attributes:
        truth: The quantity by the better answers, shape (n,).
        predicted: The quantity by the answers that are corrected, shape (n,).
        rows: Rows of the corpus, or of a group of it, that have this text, shape (n,); texts with 0 do not count.
    """

    truth: _Array
    predicted: _Array
    rows: _Array

    @classmethod
    def of(cls, truth: ArrayLike, predicted: ArrayLike, rows: ArrayLike | None = None) -> Pairs:
        """Return a sample; without ``rows`` each text is one row."""
        y, p = np.asarray(truth, float), np.asarray(predicted, float)
        m = np.ones(len(y)) if rows is None else np.asarray(rows, float)
        return cls(y[m > 0], p[m > 0], m[m > 0])

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class RowTotals:
    """Totals of a quantity over rows.

    Attributes:
        rows: Number of rows.
        total: Sum of the quantity by the answers in the rows.
        positive: Number of rows where it is above 0.
    """

    rows: float = 0
    total: float = 0
    positive: float = 0

    def __add__(self, other: RowTotals) -> RowTotals:
        return RowTotals(self.rows + other.rows, self.total + other.total, self.positive + other.positive)


def estimate_total(
    answered: RowTotals,
    predicted: RowTotals,
    labelled: Pairs,
    compared: Pairs | None = None,
    *,
    at_most_one: bool,
    level: float = 0.95,
) -> Estimate:
    """Estimate the total that the annotator would have counted over the rows of a corpus.

    Rows that the annotator answered are facts. Those that a proxy decided are a stratum of their own, corrected by the
    texts of ``labelled``: rows where the proxy predicts something (total G) and those where it predicts nothing (N0)
    give ``G * r + N0 * m``, with r what the annotator counts per unit predicted, and m the mean that it counts where
    nothing is predicted. For quantities of 0 and 1 this post-stratified estimator is PPI++ (Angelopoulos, Duchi and
    Zrnic 2023, arXiv 2311.01453) at its optimal tuning, the slope r - m; for counts its ratio form. The annotated
    texts are not among the rows that are predicted for, which is the finite population correction.

    The interval joins one for each factor (:func:`proportion_by_text` for shares, :func:`event_rate` for counts of any
    size) by MOVER (Zou and Donner 2008, Statistics in Medicine 27:1693-1702), so that it stands where the normal one
    fails: for rare labels, data of one class and small groups.

    Args:
        answered: Rows that the annotator answered.
        predicted: The other rows, by the answers of the proxy that ran.
        labelled: Uniformly drawn texts, by the annotator and by a proxy that has not learned them.
        compared: Where this is not the proxy that ran: some of the ``predicted`` rows, drawn uniformly, by the proxy
            of ``labelled`` (as ``truth``) and by the one that ran (as ``predicted``).
        at_most_one: Whether the quantity is 0 or 1.
        level: Confidence level of the interval.
    """
    counted = answered.total + predicted.total
    counted = int(counted) if float(counted).is_integer() else counted
    if not predicted.rows:
        return Estimate.exact(counted, level)
    if len(labelled) < MIN_LABELLED:
        return Estimate.unknown(counted, too_few(len(labelled)), level)
    source = _Source(_known(predicted.total), _known(predicted.positive), predicted.rows)
    if compared is not None:
        if not len(compared):
            return Estimate.unknown(counted, "no row of this group was drawn to compare the two proxies on", level)
        source = _through(source, compared, at_most_one, level)
    rest = _corrected(source, labelled, 1.0, at_most_one, level)
    highest = predicted.rows if at_most_one else math.inf
    ends = (rest.value, math.floor(rest.low + 1e-9), math.ceil(rest.high - 1e-9))  # what is counted is a whole number
    value, low, high = (answered.total + min(max(x, 0.0), highest) for x in ends)
    return Estimate(counted=counted, estimate=value, low=low, high=high, level=level)


def too_few(n: int) -> str:
    """Return the reason where ``n`` labelled texts are too few to estimate."""
    texts = "no uniformly drawn text has" if n == 0 else f"only {n} uniformly drawn text{'s have' * (n > 1) or ' has'}"
    return f"{texts} an annotation here, and an estimate takes {MIN_LABELLED}; annotate more"


def estimate_sum(parts: Sequence[Estimate]) -> Estimate:
    """Return the estimate of the sum of independent figures; it is unknown where a part is."""
    counted, level = sum(part.counted for part in parts), parts[0].level
    terms = []
    for part in parts:
        if (term := _of(part)) is None:
            return Estimate.unknown(counted, part.reason or "", level)
        terms.append(term)
    value, low, high = _sum(terms)
    return Estimate(counted=counted, estimate=value, low=low, high=high, level=level)


def detectable_difference(one: Estimate, other: Estimate) -> float | None:
    """Return the smallest difference of two independent figures that their intervals could show; None if unknown.

    It is the half-width of the interval of their difference (MOVER), at the wider of its two ends.
    """
    a, b = _of(one), _of(other)
    if a is None or b is None:
        return None
    return max(math.hypot(a.value - a.low, b.high - b.value), math.hypot(a.high - a.value, b.value - b.low))


class _Measured(NamedTuple):
    value: float
    low: float
    high: float

    def times(self, factor: float) -> _Measured:
        return _Measured(*(factor * x if factor else 0.0 for x in self))


def _known(value: float) -> _Measured:
    return _Measured(value, value, value)


def _of(estimate: Estimate) -> _Measured | None:
    if estimate.estimate is None or estimate.low is None or estimate.high is None:
        return None
    return _Measured(estimate.estimate, estimate.low, estimate.high)


class _Source(NamedTuple):
    """Totals of a proxy over rows: of the quantity, and of the rows where it is above 0."""

    total: _Measured
    positive: _Measured
    rows: float


def _sum(terms: Sequence[_Measured]) -> _Measured:
    """Add independent figures with their intervals (MOVER)."""
    value = sum(term.value for term in terms)
    below = math.sqrt(sum((term.value - term.low) ** 2 for term in terms))
    above = math.sqrt(sum((term.high - term.value) ** 2 for term in terms))
    return _Measured(value, value - below, value + above)


def _through(source: _Source, compared: Pairs, at_most_one: bool, level: float) -> _Source:
    """Return the totals of the measured proxy, from those of the one that ran and rows that both answered."""
    total = _corrected(source, compared, -1.0, at_most_one, level)
    if at_most_one:
        return _Source(total, total, source.rows)
    exact = _Source(source.positive, source.positive, source.rows)
    signs = Pairs(np.sign(compared.truth), np.sign(compared.predicted), compared.rows)
    return _Source(total, _corrected(exact, signs, -1.0, True, level), source.rows)


def _corrected(source: _Source, pairs: Pairs, drawn: float, at_most_one: bool, level: float) -> _Measured:
    """Return the total of the better answers; ``drawn`` is -1 where the sample is part of the rows, +1 beside them."""
    hit = pairs.predicted > 0
    some, none = (Pairs(pairs.truth[at], pairs.predicted[at], pairs.rows[at]) for at in (hit, ~hit))
    positive = min(max(source.positive.value, 0.0), source.rows)
    total, empty = max(source.total.value, 0.0), source.rows - positive
    overall = _mean(pairs, _precision_factor(pairs, source.rows, drawn), at_most_one, level)
    ratio, mean = _Measured(1.0, 0.0, 1.0), _Measured(0.0, 0.0, overall.high)
    if len(some):
        ratio = _ratio(some, _precision_factor(some, positive, drawn), at_most_one, level)
    elif not at_most_one and total:  # what the texts say, whatever was predicted
        ratio = _Measured(1.0, 0.0, max(1.0, overall.high * source.rows / total))
    if len(none):
        mean = _mean(none, _precision_factor(none, empty, drawn), at_most_one, level)
    slope = abs(ratio.value - mean.value * (positive / total if total else 1.0))
    spread = _Measured(0.0, slope * (source.total.low - total), slope * (source.total.high - total))
    return _sum([ratio.times(total), mean.times(empty), spread])


def _precision_factor(pairs: Pairs, rows: float, drawn: float) -> float:
    """Return what multiplies the size of a sample, since the rows that are estimated are finite in number."""
    sampled = float(pairs.rows.sum())
    if rows <= 0 or not sampled:
        return 1.0
    if drawn < 0:  # without replacement: what was drawn is known
        return math.inf if sampled >= rows else 1 / (1 - sampled / rows)
    return 1 / (1 + sampled / rows)


def _ratio(pairs: Pairs, factor: float, at_most_one: bool, level: float) -> _Measured:
    """Return the quantity per unit predicted, over texts where something is predicted."""
    y, p = pairs.truth * pairs.rows, pairs.predicted * pairs.rows
    if at_most_one:
        share = proportion_by_text(y / pairs.rows.mean(), p / pairs.rows.mean(), level, factor)
        return _Measured(share.value, share.low, share.high)
    less, more, largest = np.maximum(p - y, 0), np.maximum(y - p, 0), float(max(y.max(), pairs.rows.max()))
    if (y**2).sum() < ((p - y) ** 2).sum():  # better without the predictions
        return _Measured(*event_rate(y, p, level, factor, largest=largest))
    spurious = proportion_by_text(less, p, level, factor)
    minus = _Measured(-spurious.value, -spurious.high, -spurious.low)
    missed = _Measured(*event_rate(more, p, level, factor, largest=largest))
    return _sum([_known(1.0), minus, missed])


def _mean(pairs: Pairs, factor: float, at_most_one: bool, level: float) -> _Measured:
    """Return the mean quantity over texts."""
    y, m = pairs.truth * pairs.rows, pairs.rows
    if at_most_one:
        share = proportion_by_text(y / m.mean(), m / m.mean(), level, factor)  # rows of a text are one trial
        return _Measured(share.value, share.low, share.high)
    return _Measured(*event_rate(y, m, level, factor, largest=float(max(y.max(), m.max()))))
