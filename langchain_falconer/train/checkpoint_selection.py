"""Checkpoint selection: development annotations say after which step the network was best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.annotate import Annotation
from langchain_falconer.evaluate import score_by_text
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers

if TYPE_CHECKING:
    from torch import Tensor, nn

MIN_DEVELOPMENT = 50
"""With fewer development texts the last checkpoint is selected: they could not tell one network from another."""
_N_EVALUATIONS = 8
_TOLERANCE = 1e-9  # one text alone makes a difference of exactly one standard error


class CheckpointSelector:
    """Selects a checkpoint of a training on development annotations.

    The network answers the development texts eight times. Selected is the latest checkpoint that is not worse there
    than the best one by more than a standard error (the one-standard-error rule; Breiman et al., Classification and
    Regression Trees, 1984), so that chance alone undoes nothing. Training always runs to its end, because its learning
    rate falls until then.

    Args:
        plan: The plan that is trained for.
        parts: The modules that are trained.
        answer: Returns the answers of the current network to the development texts.
        development: Their annotations.
    """

    def __init__(
        self,
        plan: Plan,
        parts: Sequence[nn.Module],
        answer: Callable[[], Sequence[Answers]],
        development: Sequence[Annotation],
    ) -> None:
        self._plan, self._parts, self._answer = plan, parts, answer
        self._gold = [a.answers for a in development]
        self._is_active = len(development) >= MIN_DEVELOPMENT
        self._evaluations = 0
        self._share = self._selected_share = 0.0
        self._best: NDArray[np.float64] | None = None
        self._selected: list[Tensor] = []

    def on_step(self, done: int, total: int) -> None:
        """Evaluate the network after step ``done`` of ``total``, where an evaluation is due."""
        self._share = done / total
        due = int(self._share * _N_EVALUATIONS + _TOLERANCE)
        if self._is_active and due > self._evaluations:
            self._evaluations = due
            self._evaluate()

    def restore(self) -> float:
        """Restore the selected checkpoint; returns the share of the steps that made it."""
        if not self._selected:
            return 1.0
        for tensor, selected in zip(self._trained(), self._selected, strict=True):
            tensor.copy_(selected)
        return self._selected_share / self._share

    def _evaluate(self) -> None:
        for part in self._parts:
            part.eval()
        scores = score_by_text(self._plan, self._gold, self._answer())
        for part in self._parts:
            part.train()
        if self._best is None or scores.mean() >= self._best.mean():
            self._best = scores
        if not _is_worse(scores, self._best):
            self._selected_share = self._share
            self._selected = [tensor.clone() for tensor in self._trained()]

    def _trained(self) -> list[Tensor]:
        return [p.detach() for part in self._parts for p in part.parameters() if p.requires_grad]


def _is_worse(scores: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    loss = best - scores
    return bool(loss.mean() - loss.std(ddof=1) / np.sqrt(len(loss)) > _TOLERANCE)
