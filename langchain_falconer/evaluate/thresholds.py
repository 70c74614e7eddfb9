"""Decision thresholds: the probability from which the answer is yes, chosen for a metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from langchain_falconer.evaluate.calibration import validate_scores
from langchain_falconer.records import FrozenModel
from langchain_falconer.settings import Metric


class OperatingPoint(FrozenModel):
    """A threshold and its metrics on the answers that it was chosen on.

    Attributes:
        threshold: Probability from which on the answer is yes.
        precision: Precision on those answers.
        recall: Recall on those answers.
        f1: F1 on those answers.
        n: Number of answers.
        positives: Number of answers that are yes.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    n: int
    positives: int


def operating_point(metric: Metric, scores: ArrayLike, truths: ArrayLike) -> OperatingPoint | None:
    """Choose the threshold with the best value of a metric on held-out answers.

    The choice is the best on these answers only; it guarantees nothing for others.

    Args:
        metric: Metric to optimise.
        scores: Probability of yes of each answer, shape (n,).
        truths: Whether yes is correct, shape (n,).

    Returns:
        The point, its threshold halfway between the lowest accepted score and the highest rejected one; None if yes is
        never correct, or no threshold reaches the precision.

    Raises:
        ValueError: The shapes differ, or a score lies outside [0, 1].
    """
    values, right = validate_scores(scores, truths)
    positives = int(right.sum())
    if not positives:
        return None
    order = np.argsort(-values, kind="stable")
    values, true_positives = values[order], np.cumsum(right[order])
    below = np.append(values[1:], -1.0)
    ends = values > below  # equal scores stay together
    precision, recall = true_positives / np.arange(1, len(values) + 1), true_positives / positives
    f1 = 2 * true_positives / (np.arange(1, len(values) + 1) + positives)
    is_allowed, objective = {
        "f1": (ends, f1),
        "precision": (ends & (precision >= (metric.at_least or 0)), recall),
        "recall": (ends & (recall >= (metric.at_least or 0)), precision),
    }[metric.name]
    if not is_allowed.any():
        return None
    last = int(np.argmax(np.where(is_allowed, objective, -1.0)))
    threshold = float((values[last] + max(below[last], 0.0)) / 2)
    return OperatingPoint(
        threshold=threshold,
        precision=float(precision[last]),
        recall=float(recall[last]),
        f1=float(f1[last]),
        n=len(values),
        positives=positives,
    )
