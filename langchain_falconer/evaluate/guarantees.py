"""Guarantees: from which score on a proxy may decide alone, so that a target holds over the whole corpus.

The promise is agreement with the annotator, the LLM; whether the LLM is right is another question. Texts of which the
proxy is not sure enough go to the LLM, and so count as agreeing with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_falconer.evaluate.intervals import proportion
from langchain_falconer.records import FrozenModel


@dataclass(frozen=True, slots=True)
class Population:
    """How many texts a share is of.

    Attributes:
        texts: all of them.
        open: those that the annotator has not answered, but for the sake of the certificate: what the sample was drawn
            from. The rest carry the annotator's own answers, and cannot disagree with it.
    """

    texts: int
    open: int


class Certificate(FrozenModel):
    """From which score on the proxy may decide, and what was seen that allows it.

    Attributes:
        target: the share to reach, in (0, 1).
        confidence: how often, at least, such a certificate keeps its promise.
        certified: False if the sample does not allow the proxy to decide anything.
        threshold: the proxy decides where its score is *above* this; None if it may decide everywhere (or nowhere).
        n: sampled texts that the share is of.
        failures: those of them on which the proxy alone would fail, whatever its score.
        lower_bound: the least share that the proxy reaches without any help, with the same confidence.
    """

    target: float
    confidence: float
    certified: bool
    threshold: float | None
    n: int
    failures: int
    lower_bound: float

    def allows(self, score: float) -> bool:
        """Whether the proxy may decide a text of which it is so sure."""
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
    """The least cut above which a proxy may decide so that, with some confidence, a target share is reached.

    Let R(c) be the share of failures if the proxy decides every text whose score is above c. R only falls as c rises,
    so the cuts are tested in fixed sequence from the safest down, each at the full level, and the first that fails
    ends it: trying many costs nothing (risk-controlling prediction sets, Bates et al. 2021, arXiv 2101.02703; Learn
    then Test, Angelopoulos et al. 2021, arXiv 2110.01052). Each test is exact: Clopper and Pearson's (1934), or the
    hypergeometric one of a finite population whose size is known. Equal scores stay together.

    Nothing is assumed of the scores: bad ones cost LLM calls, never the promise. What is assumed is that the sample is
    uniform over the texts that are not annotated otherwise, and that nothing about the proxy, its training, its
    stopping, the choice among several, has seen it.

    Args:
        scores: how sure the proxy is of each sampled text, shape (n,). For a recall give those that the annotator
            answers positively, for a precision those that the proxy does.
        failed: whether its decision on the text would be a failure, shape (n,).
        target: the share that must not fail, in (0, 1).
        confidence: how often the promise must hold over draws of the sample, in (0.5, 1).
        drops_out: whether a failure drops out of the share if the annotator decides the text, as in a precision: what
            the annotator takes for negative is no positive any more.
        population: the size of what the sample was drawn from, if the share is of all texts.

    Raises:
        ValueError: the shapes differ, a score is no number, or target or confidence is out of range.
    """
    at, wrong = np.asarray(scores, float), np.asarray(failed, bool)
    if at.ndim != 1 or at.shape != wrong.shape or np.isnan(at).any():
        raise ValueError("scores and failures must be two equally long rows, of numbers and of truth values")
    n, failures = len(at), int(wrong.sum())
    seen = np.arange(failures + 1)
    chances = _chances(seen, n - failures + seen if drops_out else n, target, confidence, population)
    tolerated = int(np.logical_and.accumulate(chances <= 1 - confidence).sum()) - 1
    worst = np.sort(at[wrong])[::-1]
    return Certificate(
        target=target,
        confidence=confidence,
        certified=tolerated >= 0,
        threshold=float(worst[tolerated]) if 0 <= tolerated < failures else None,
        n=n,
        failures=failures,
        lower_bound=proportion(n - failures, n, 2 * confidence - 1).low if n else 0.0,
    )


def can_certify(target: float, confidence: float, n: int, population: Population | None = None) -> bool:
    """Whether ``n`` sampled texts could certify the target at all, if none of them turned out a failure.

    Raises:
        ValueError: as :func:`certify`.
    """
    return bool(_chances(np.zeros(1), n, target, confidence, population)[0] <= 1 - confidence)


def fewest_to_certify(target: float, confidence: float) -> int:
    """How many sampled texts it takes at least to certify the target, however large the corpus.

    That is ln(1 - confidence) / ln(target): 59 for 0.95 and 29 for 0.9 at 95%. For a recall they must all be texts that
    the annotator answers positively.

    Raises:
        ValueError: as :func:`certify`.
    """
    _check(target, confidence)
    n = math.ceil(math.log(1 - confidence) / math.log(target))
    return n if can_certify(target, confidence, n) else n + 1  # a hair's breadth of rounding


def _chances(
    seen: NDArray[Any], n: ArrayLike, target: float, confidence: float, population: Population | None
) -> NDArray[np.float64]:
    """How likely so few failures among ``n`` would be, were the target missed by as little as can be."""
    from scipy.stats import binom, hypergeom  # half a second, and few need it

    _check(target, confidence)
    if population is None:
        return np.asarray(binom.cdf(seen, n, 1 - target), float)
    too_many = math.floor((1 - target) * population.texts + 1e-9) + 1
    if too_many > population.open:
        return np.zeros(len(seen))  # there are not enough texts left to miss it
    return np.asarray(hypergeom.cdf(seen, population.open, too_many, n), float)


def _check(target: float, confidence: float) -> None:
    if not 0 < target < 1:
        raise ValueError(f"a target of {target} cannot be certified; give a share between 0 and 1, such as 0.95")
    if not 0.5 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is none; give one above 0.5 and below 1, such as 0.95")
