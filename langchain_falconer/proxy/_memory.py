"""Tasks learnt one after another by the same network, the old ones kept by replay."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.proxy._layout import Layout
from langchain_falconer.proxy._session import SlotWeights
from langchain_falconer.proxy._train import Example, examples_of

Step = LabelStep | SpanStep


@dataclass(frozen=True)
class Past:
    """A plan learnt earlier, with annotations to rehearse it by."""

    plan: Plan
    annotations: Sequence[Annotation]


@dataclass(frozen=True)
class Remembered:
    """A plan learnt earlier and its slots."""

    plan: Plan
    slots: SlotWeights


def joined(plan: Plan, memory: Sequence[Remembered]) -> Layout:
    """The layout of a new plan with all remembered ones behind it."""
    return Layout.of([*plan.ordered, *(step for i, old in enumerate(memory) for step in _steps(old.plan, i))])


def rehearsed(
    memory: Sequence[Remembered], past: Sequence[Past], passage_chars: int, most: int, seed: int
) -> list[Example]:
    """At most ``most`` examples of remembered plans, as evenly spread over them as there are annotations of each."""
    rng = random.Random(seed)
    known = {p.plan.fingerprint: p for p in past}
    kept = [(i, known[old.plan.fingerprint]) for i, old in enumerate(memory) if old.plan.fingerprint in known]
    examples: list[Example] = []
    for i, one in kept:
        own = examples_of(one.plan, one.annotations, passage_chars)
        chosen = rng.sample(own, min(len(own), max(1, most // len(kept))))
        examples += [replace(e, labels=_marked(e.labels, i), spans=_marked(e.spans, i)) for e in chosen]
    return examples


def start_from(memory: Sequence[Remembered], layout: Layout, slots: Any, made: SlotWeights) -> None:
    """Set the corrections of remembered slots so that training starts from what they were, not from their words.

    ``slots`` is the :class:`Slots` of ``layout``, ``made`` what its words make.
    """
    import torch

    for i, old in enumerate(memory):
        spans, labels = _rows(layout, [s.id for s in _steps(old.plan, i)])
        tokens = [3 * row + state for row in spans for state in range(3)]
        now = made.take(spans, labels)
        with torch.no_grad():
            for corrections, rows, name in (
                (slots.span_shift, tokens, "span_weight"),
                (slots.span_bias, tokens, "span_bias"),
                (slots.label_shift, labels, "label_weight"),
                (slots.label_bias, labels, "label_bias"),
            ):
                corrections[rows] = torch.from_numpy(getattr(old.slots, name) - getattr(now, name))


def parted(
    plan: Plan, memory: Sequence[Remembered], layout: Layout, weights: SlotWeights
) -> tuple[SlotWeights, tuple[Remembered, ...]]:
    """The slots of the new plan, and the remembered plans with theirs."""
    own = weights.take(*_rows(layout, [s.id for s in plan.ordered]))
    kept = tuple(
        Remembered(old.plan, weights.take(*_rows(layout, [s.id for s in _steps(old.plan, i)])))
        for i, old in enumerate(memory)
    )
    return own, kept


def pack(memory: Sequence[Remembered]) -> dict[str, np.ndarray]:
    """Remembered slots as arrays for a safetensors file."""
    return {f"memory.{i}.{name}": a for i, old in enumerate(memory) for name, a in old.slots.arrays().items()}


def unpack(plans: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]) -> tuple[Remembered, ...]:
    """The reverse of :func:`pack`; ``plans`` come from the manifest."""
    names = ("span_weight", "span_bias", "label_weight", "label_bias")
    return tuple(
        Remembered(Plan.parse(plan), SlotWeights(**{name: arrays[f"memory.{i}.{name}"] for name in names}))
        for i, plan in enumerate(plans)
    )


def _steps(plan: Plan, index: int) -> list[Step]:
    """The steps of a remembered plan under ids that no plan can give, so that no two steps share one."""
    return [step.model_copy(update={"id": f"{index}.{step.id}"}) for step in plan.ordered]


def _marked(answers: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {f"{index}.{name}": value for name, value in answers.items()}


def _rows(layout: Layout, ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """The span rows and label rows of steps."""
    spans = [layout.span_row[i] for i in ids if i in layout.span_row]
    labels = [
        row
        for i in ids
        if i in layout.label_rows
        for row in range(layout.label_rows[i].start, layout.label_rows[i].stop)
    ]
    return spans, labels
