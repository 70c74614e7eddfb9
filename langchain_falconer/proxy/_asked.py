"""Answers of a network that is no proxy, in torch: by these, other architectures are compared with ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from langchain_falconer.plan import Plan
from langchain_falconer.proxy._decode import Calibration, decide
from langchain_falconer.proxy._layout import Layout
from langchain_falconer.proxy._pretrain import TensorReader
from langchain_falconer.proxy._scorer import Scorer
from langchain_falconer.proxy._session import SlotWeights, crew
from langchain_falconer.proxy._tokens import Tokenizer, Windows
from langchain_falconer.records import Answers

_WINDOW = 256  # tokens of a text in one pass, which leaves as many for questions in front of it
_WORDS = 96  # tokens of a question that are read
_NO_SLOTS = SlotWeights(*(np.zeros((0, 0), np.float32),) * 4)


class Asked:
    """A plan's questions put to a network that was not trained for them; the calls are those of a :class:`Proxy`.

    Args:
        network: A torch module with the ``scorer`` of a :class:`SlotModel`.
        tokenizer: Its tokenizer.
        plan: The questions, none of them ``of`` a span.
        bf16: Compute in bfloat16.
    """

    def __init__(self, network: Any, tokenizer: Tokenizer, plan: Plan, *, bf16: bool = False) -> None:
        layout, pad_id = Layout.of(plan), tokenizer.pad_id
        words = TensorReader(Windows(tokenizer, _WORDS), pad_id)
        session = _AskedSession(network, layout, words, bf16=bf16)
        self._steps = layout.steps
        self._scorer = Scorer(
            Windows(tokenizer, _WINDOW), pad_id, layout, _NO_SLOTS, Calibration(), session, crew(session.at_once)
        )

    def answers(self, texts: Sequence[str], *, everything: bool = True) -> list[Answers]:
        """Every step's answer about each text, whatever its ``where``."""
        return [decide(self._steps, scores, text, {}) for scores, text in zip(self._scorer(texts), texts, strict=True)]


class _AskedSession:
    """torch on the CPU; slots that it is handed are not looked at, for the network's scorer has its own."""

    at_once = 1

    def __init__(self, network: Any, layout: Layout, reader: TensorReader, *, bf16: bool) -> None:
        import copy

        import torch

        self._torch = torch
        self.name = "torch-bf16" if bf16 else "torch"
        network = copy.deepcopy(network).to(torch.bfloat16) if bf16 else network
        with torch.inference_mode():
            self._score = network.eval().scorer(layout, reader.texts)

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: SlotWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        torch = self._torch
        with torch.inference_mode():
            spans, labels = self._score(torch.from_numpy(ids), torch.from_numpy(mask))
        return spans.float().numpy(), labels.float().numpy()
