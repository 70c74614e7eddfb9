"""Query heads of plans that the same network learned earlier, stored beside its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_falconer.model.sessions import HeadWeights
from langchain_falconer.plan import Plan

WEIGHT_NAMES = ("span_weight", "span_bias", "label_weight", "label_bias")


@dataclass(frozen=True)
class TaskHead:
    """A plan that the network learned, with its query heads.

    Attributes:
        plan: The plan.
        weights: The query heads of its steps.
    """

    plan: Plan
    weights: HeadWeights


def pack(memory: Sequence[TaskHead]) -> dict[str, np.ndarray]:
    """Return the heads of earlier tasks as arrays for a safetensors file."""
    return {f"memory.{i}.{name}": a for i, old in enumerate(memory) for name, a in old.weights.arrays().items()}


def unpack(plans: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]) -> tuple[TaskHead, ...]:
    """Reverse :func:`pack`; ``plans`` come from the manifest."""
    return tuple(
        TaskHead(Plan.parse(plan), HeadWeights(**{name: arrays[f"memory.{i}.{name}"] for name in WEIGHT_NAMES}))
        for i, plan in enumerate(plans)
    )
