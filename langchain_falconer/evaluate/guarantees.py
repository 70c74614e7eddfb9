"""Guarantees: the score above which a proxy may decide alone, so that a target holds over the whole corpus.

The guarantee is about agreement with the annotator (the LLM), not about the correctness of the LLM. Texts below the
score go to the LLM, and therefore count as agreement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_falconer.evaluate.intervals import proportion
from langchain_falconer.records import FrozenModel


@dataclass(frozen=True, slots=True)
class Population:
    """The size of a finite population of texts.

    Attributes:
        texts: Number of all texts.
        open: Number of texts that the annotator has answered at most for the certificate, from which the sample is
            drawn. The others have the annotator's own answers, which cannot disagree with it.
    """

    texts: int
    open: int


class Certificate(FrozenModel):
    """A certified threshold and the sample that supports it.

    Attributes:
        target: Share to reach, in (0, 1).
        confidence: Least probability, over samples, that the target holds.
        certified: Whether the sample allows the proxy to decide any text.
        threshold: The proxy decides where its score is *above* this; None if it may decide everywhere (or nowhere).
        n: Number of sampled texts behind the share.
        failures: Number of these on which the proxy alone would fail, at any score.
        lower_bound: Lower bound, at the same confidence, of the share that the proxy reaches alone.
    """

    target: float
    confidence: float
    certified: bool
    threshold: float | None
    n: int
    failures: int
    lower_bound: float

    def allows(self, score: float) -> bool:
        """Return whether the proxy may decide a text with this score."""
        return self.certified and (self.threshold is None or score > self.threshold)


def certify(
    scores: ArrayLike,
    failed: ArrayLike,
    target: float,
    confidence: float = 0.95,
    *,
    drops_out: bool = False,
    population: Population | None = None,
) -> Certificate:
    """Find the lowest threshold above which a proxy may decide so that a target share holds with some confidence.

    Let R(c) be the share of failures if the proxy decides every text with a score above c. R falls as c rises, so the
    thresholds are tested in fixed sequence from the safest down, each at the full level, until the first one fails:
    many tests need no correction (risk-controlling prediction sets, Bates et al. 2021, arXiv 2101.02703; Learn then
    Test, Angelopoulos et al. 2021, arXiv 2110.01052). Each test is exact: that of Clopper and Pearson (1934), or the
    hypergeometric one of a finite population of known size. Equal scores stay together.

    The scores need no assumption: poor ones cost LLM calls but never the guarantee. The sample must be uniform over the
    texts that are not annotated otherwise, and independent of the proxy: its training, early stopping and selection
    must not have used it.

    Args:
        scores: Confidence of the proxy in each sampled text, shape (n,). For a recall, only texts that the annotator
            answers positively; for a precision, only those that the proxy does.
        failed: Whether the proxy's decision on each text is a failure, shape (n,).
        target: Share that must not fail, in (0, 1).
        confidence: Probability, over samples, with which the target must hold, in (0.5, 1).
        drops_out: Whether a failure leaves the share if the annotator decides the text, as in a precision: a text that
            the annotator rejects is not a positive any more.
        population: Size of the population of the sample, if the share is of all texts.

    Raises:
        ValueError: The shapes differ, a score is not a number, or target or confidence is out of range.
    """
    confidences, wrong = np.asarray(scores, float), np.asarray(failed, bool)
    if confidences.ndim != 1 or confidences.shape != wrong.shape or np.isnan(confidences).any():
        raise ValueError("scores and failures must be numbers and truth values of the same shape (n,)")
    n, failures = len(confidences), int(wrong.sum())
    observed = np.arange(failures + 1)
    p_values = _p_values(observed, n - failures + observed if drops_out else n, target, confidence, population)
    tolerated = int(np.logical_and.accumulate(p_values <= 1 - confidence).sum()) - 1
    failing_scores = np.sort(confidences[wrong])[::-1]
    return Certificate(
        target=target,
        confidence=confidence,
        certified=tolerated >= 0,
        threshold=float(failing_scores[tolerated]) if 0 <= tolerated < failures else None,
        n=n,
        failures=failures,
        lower_bound=proportion(n - failures, n, 2 * confidence - 1).low if n else 0.0,
    )


def certify_jointly(certificates: Mapping[str, Certificate]) -> dict[str, Certificate]:
    """Return certificates of several targets for one common score, each made at the confidence of all together.

    The hypothesis at a score is that *some* target is missed if the proxy decides above it. It is rejected where the
    test of every target rejects at the full level, with no share of the budget for each (intersection-union test,
    Berger 1982), and the scores are tested in the fixed sequence of :func:`certify`: the risk of that is the level, for
    all targets together. One score for a whole plan: PASC, arXiv 2605.18812. The common threshold is the highest; where
    one target allows no text, none is certified.
    """
    is_certified = all(one.certified for one in certificates.values())
    thresholds = [one.threshold for one in certificates.values() if one.threshold is not None]
    common = {"certified": is_certified, "threshold": max(thresholds, default=None) if is_certified else None}
    return {name: one.model_copy(update=common) for name, one in certificates.items()}


def tolerated_failures(target: float, confidence: float, n: int, population: Population | None = None) -> int:
    """Return how many failures among ``n`` sampled texts let the proxy decide everywhere; -1 if not even none do.

    Raises as :func:`certify`.
    """
    p_values = _p_values(np.arange(n + 1), n, target, confidence, population)
    return int(np.logical_and.accumulate(p_values <= 1 - confidence).sum()) - 1


def can_certify(target: float, confidence: float, n: int, population: Population | None = None) -> bool:
    """Return whether ``n`` sampled texts without a failure would certify the target; raises as :func:`certify`."""
    return bool(_p_values(np.zeros(1), n, target, confidence, population)[0] <= 1 - confidence)


def min_texts_to_certify(target: float, confidence: float) -> int:
    """Return the least number of sampled texts that can certify the target for a corpus of any size.

    It is ln(1 - confidence) / ln(target): 59 for 0.95 and 29 for 0.9 at 95%. For a recall, all of them must be texts
    that the annotator answers positively. Raises as :func:`certify`.
    """
    _check(target, confidence)
    n = math.ceil(math.log(1 - confidence) / math.log(target))
    return n if can_certify(target, confidence, n) else n + 1  # rounding error


def _p_values(
    observed: NDArray[Any], n: ArrayLike, target: float, confidence: float, population: Population | None
) -> NDArray[np.float64]:
    """Return the probability of so few failures among ``n`` if the target were missed by the least possible amount."""
    from scipy.stats import binom, hypergeom  # the import takes half a second

    _check(target, confidence)
    if population is None:
        return np.asarray(binom.cdf(observed, n, 1 - target), float)
    too_many = math.floor((1 - target) * population.texts + 1e-9) + 1
    if too_many > population.open:
        return np.zeros(len(observed))  # the target cannot be missed: too few texts are open
    return np.asarray(hypergeom.cdf(observed, population.open, too_many, n), float)


def _check(target: float, confidence: float) -> None:
    if not 0 < target < 1:
        raise ValueError(f"a target of {target} cannot be certified; give a share between 0 and 1, such as 0.95")
    if not 0.5 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is out of range; give one above 0.5 and below 1, such as 0.95")
