"""Early stopping: annotations that training does not learn from say whether it went on for too long."""

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

FEWEST = 50
"""Held-out texts, below which they are not asked: they could not tell one network from another."""
_LOOKS = 8
_A_HAIR = 1e-9  # one text alone makes a difference of exactly one standard error


class CheckpointSelector:
    """Goes back to an earlier network where held-out annotations speak against the last one.

    Eight times in a training the network answers the held-out texts. Kept is the latest one that does not do worse
    there than the best one by more than a standard error (the one-standard-error rule; Breiman et al.,
    Classification and Regression Trees, 1984): what chance alone may explain turns nothing back. Training always goes
    to its end, for its learning rate falls until there.

    Args:
        plan: What is asked.
        parts: What is trained.
        answer: The answers of the network as it is now to the held-out texts.
        held_out: Their annotations.
        steps: How many steps training takes.
    """

    def __init__(
        self,
        plan: Plan,
        parts: Sequence[nn.Module],
        answer: Callable[[], Sequence[Answers]],
        held_out: Sequence[Annotation],
        steps: int,
    ) -> None:
        self._plan, self._parts, self._answer = plan, parts, answer
        self._gold = [a.answers for a in held_out]
        self._steps = steps
        self._looks = {round(steps * i / _LOOKS) for i in range(1, _LOOKS + 1)} if len(held_out) >= FEWEST else set()
        self._step = self._kept_step = 0
        self._best: NDArray[np.float64] | None = None
        self._kept: list[Tensor] = []

    def after(self, on_step: Callable[[float], None]) -> Callable[[float], None]:
        """What is to be told of each step's loss, when ``on_step`` is."""

        def told(loss: float) -> None:
            on_step(loss)
            self._step += 1
            if self._step in self._looks:
                self._look()

        return told

    def settle(self) -> float:
        """Go back to the network that is kept; returns the share of the steps that made it."""
        if not self._kept:
            return 1.0
        for tensor, kept in zip(self._trained(), self._kept, strict=True):
            tensor.copy_(kept)
        return self._kept_step / self._steps

    def _look(self) -> None:
        for part in self._parts:
            part.eval()
        scores = score_by_text(self._plan, self._gold, self._answer())
        for part in self._parts:
            part.train()
        if self._best is None or scores.mean() >= self._best.mean():
            self._best = scores
        if not _is_worse(scores, self._best):
            self._kept_step = self._step
            self._kept = [tensor.clone() for tensor in self._trained()]

    def _trained(self) -> list[Tensor]:
        return [p.detach() for part in self._parts for p in part.parameters() if p.requires_grad]


def _is_worse(scores: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    lost = best - scores
    return bool(lost.mean() - lost.std(ddof=1) / np.sqrt(len(lost)) > _A_HAIR)
