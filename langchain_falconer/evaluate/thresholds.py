"""From which probability on to say yes: the threshold that serves the metric asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from langchain_falconer.evaluate.calibration import scored
from langchain_falconer.records import FrozenModel
from langchain_falconer.settings import Metric


class OperatingPoint(FrozenModel):
    """A threshold, and what it gave on the answers that it was chosen on.

    Attributes:
        threshold: Probability from which on the answer is yes.
        precision: Precision on those answers.
        recall: Recall on those answers.
        f1: F1 on those answers.
        n: Number of answers.
        positives: How many of them are yes.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    n: int
    positives: int


def operating_point(metric: Metric, scores: ArrayLike, truths: ArrayLike) -> OperatingPoint | None:
    """The threshold that serves a metric best on held-out answers: yes from this probability on.

    It is the best there, which few answers hardly prove: no promise is made.

    Args:
        metric: what is asked for.
        scores: the probability of yes of each answer, shape (n,).
        truths: whether yes is right, shape (n,).

    Returns:
        The point, its threshold halfway between the last score to keep and the first to drop; None if nothing is true,
        or no threshold reaches the precision.

    Raises:
        ValueError: if the shapes differ or a score lies outside [0, 1].
    """
    values, right = scored(scores, truths)
    positives = int(right.sum())
    if not positives:
        return None
    order = np.argsort(-values, kind="stable")
    values, found = values[order], np.cumsum(right[order])
    below = np.append(values[1:], -1.0)
    ends = values > below  # equal scores stay together
    precision, recall = found / np.arange(1, len(values) + 1), found / positives
    f1 = 2 * found / (np.arange(1, len(values) + 1) + positives)
    reached, best = {
        "f1": (ends, f1),
        "precision": (ends & (precision >= (metric.at_least or 0)), recall),
        "recall": (ends & (recall >= (metric.at_least or 0)), precision),
    }[metric.name]
    if not reached.any():
        return None
    last = int(np.argmax(np.where(reached, best, -1.0)))
    threshold = float((values[last] + max(below[last], 0.0)) / 2)
    return OperatingPoint(
        threshold=threshold,
        precision=float(precision[last]),
        recall=float(recall[last]),
        f1=float(f1[last]),
        n=len(values),
        positives=positives,
    )
