"""The sieve: a first, cheap tier that settles the clear negatives of a selective plan, so that few texts are encoded.

It reads nothing but the embeddings of a text's tokens: a logistic regression on their mean. Being linear, that is one
number a token, whatever computes the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.plan import LabelStep, Plan, holds, matches
from langchain_falconer.proxy import Proxy
from langchain_falconer.records import Answers, Label

_MOST_CHARS = 4_096


@dataclass(frozen=True)
class Sieve:
    """Settles the texts that clearly fail a plan's first step, by the mean of a number a token.

    Attributes:
        step: the yes/no step whose no makes the whole row.
        weights: what each token adds to the log-odds of passing, (V,) float32.
        bias: the log-odds where tokens say nothing.
        cut: a text is settled where the log-odds of failing are above this.
    """

    step: str
    weights: NDArray[np.float32]
    bias: float
    cut: float

    @staticmethod
    def takes(text: str) -> bool:
        """Whether a text is short enough to be settled; others are always encoded."""
        return len(text) <= _MOST_CHARS

    def log_odds(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """The log-odds of passing, by the token ids of each text; each is the same whatever others are beside it."""
        lengths = np.array([len(one) for one in ids], np.int64)
        each = self.weights[np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))]
        sums = np.bincount(np.repeat(np.arange(len(ids)), lengths), each, minlength=len(ids))
        return np.asarray(sums / np.maximum(lengths, 1) + self.bias, np.float64)

    def settled(self, proxy: Proxy, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What a result row says of each text that is settled."""
        short = [text for text in texts if self.takes(text)]
        found = {}
        for text, passing in zip(short, self.log_odds(proxy.token_ids(short)), strict=True):
            if -passing > self.cut:
                score = 1 / (1 + math.exp(passing))
                record = proxy.record("", text, Answers({self.step: Label(False, score)}))
                found[text] = replace(record, decided_by={self.step: "sieve"}).to_dict() | {"sure": score}
        return found


def first_gate(plan: Plan) -> str | None:
    """The yes/no step about the text whose no leaves nothing else to say, so that it alone makes the row."""
    for step in plan.top_level:
        if isinstance(step, LabelStep) and step.kind == "yes_no" and step.where is None:
            no = Answers({step.id: Label(False)})
            others = (other for other in plan.top_level if other.id != step.id)
            if not matches(plan, no) and not any(holds(plan, other.where, no) for other in others):
                return step.id
    return None
