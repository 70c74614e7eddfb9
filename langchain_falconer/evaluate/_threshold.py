"""From which probability on to say yes: the threshold that serves the metric asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from langchain_falconer.evaluate._calibration import scored

_Name = Literal["f1", "precision", "recall"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a threshold is to serve: the best F1, or the best recall at a precision, or the best precision at a recall.

    Attributes:
        name: ``f1``, ``precision`` or ``recall``.
        at_least: the precision or recall to reach, in (0, 1]; None for F1.
    """

    name: _Name
    at_least: float | None = None

    def __post_init__(self) -> None:
        bounded = self.at_least is not None and 0 < self.at_least <= 1
        if self.name not in get_args(_Name) or (bounded if self.name == "f1" else not bounded):
            raise ValueError(f"'{self}' is no metric; ask for f1, precision:P or recall:R, with P and R in (0, 1]")

    def __str__(self) -> str:
        return self.name if self.at_least is None else f"{self.name}:{self.at_least:g}"

    @classmethod
    def parse(cls, told: str) -> Metric:
        """The metric that words such as ``f1``, ``precision:0.9``, ``recall:0.95`` name; ``ValueError`` if none."""
        name, _, bound = told.partition(":")
        try:
            return cls(name, float(bound) if bound else None)  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(
                f"'{told}' is no metric; ask for f1, precision:P or recall:R, with P and R in (0, 1]"
            ) from None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold, and what it gave on the answers that it was chosen on: ``n`` of them, ``positives`` true ones."""

    threshold: float
    precision: float
    recall: float
    f1: float
    n: int
    positives: int

    def to_dict(self) -> dict[str, Any]:
        """The point as JSON data."""
        return asdict(self)


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
        threshold, float(precision[last]), float(recall[last]), float(f1[last]), len(values), positives
    )
