"""Matching of proxies to a plan: trained on exactly its questions, or on similar ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from langchain_falconer.evaluate import Quality
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.registry.entry import Entry

Embed = Callable[[Sequence[str]], np.ndarray]
_MAX_SIMILAR = 3


@dataclass(frozen=True)
class ModelMatch:
    """A proxy that can answer a plan.

    Attributes:
        entry: The proxy.
        steps: The id of the proxy's step that answers, by the id of each step of the plan.
        cosine: Similarity of the least similar pair of questions; 1 where all are the same.
    """

    entry: Entry
    steps: Mapping[str, str]
    cosine: float = 1.0

    @property
    def annotator(self) -> str | None:
        """The annotator against whose answers the quality was measured; None if it is unknown."""
        annotator: str | None = self.entry.manifest.get("annotator")
        return annotator

    @property
    def quality(self) -> Quality | None:
        """The quality of these steps measured after training; for a part of the steps, the agreement is the lowest."""
        measured = self.entry.quality
        if measured is None or any(own not in measured.steps for own in self.steps.values()):
            return None
        steps = {step: measured.steps[own] for step, own in self.steps.items()}
        has_all = set(self.steps.values()) == set(measured.steps)
        lowest = min((s.agreement for s in steps.values()), key=lambda a: a.value)
        return Quality(steps=steps, agreement=measured.agreement if has_all else lowest)


def exact_matches(entries: Iterable[Entry], plan: Plan) -> list[ModelMatch]:
    """Return the proxies trained on exactly the questions of a plan, the one with the best agreement first."""
    matches = []
    for entry in entries:
        own = {step.fingerprint: step.id for step in entry.steps}
        steps = {step.id: own[step.fingerprint] for step in plan.steps if step.fingerprint in own}
        if len(steps) == len(plan.steps) and entry.plan and _same_shape(plan, entry.plan, steps):
            matches.append(ModelMatch(entry, steps))
    return sorted(matches, key=_agreement, reverse=True)


def similar_matches(entries: Iterable[Entry], plan: Plan, embed: Embed, min_cosine: float) -> list[ModelMatch]:
    """Return at most three proxies with a similar question of the same kind for each step, the most similar first.

    Args:
        entries: The proxies.
        plan: The plan.
        embed: Turns texts into unit vectors (n, d), float32.
        min_cosine: Minimum cosine similarity of each pair of questions.
    """
    usable = [entry for entry in entries if entry.plan]
    if not usable:
        return []
    steps = [*plan.steps, *(step for entry in usable for step in entry.steps)]
    questions = list(dict.fromkeys(step.instruction for step in steps))
    vectors = dict(zip(questions, embed(questions), strict=True))
    matches = (_most_similar(plan, entry, vectors, min_cosine) for entry in usable)
    return sorted(filter(None, matches), key=lambda match: -match.cosine)[:_MAX_SIMILAR]


def _most_similar(plan: Plan, entry: Entry, vectors: Mapping[str, np.ndarray], min_cosine: float) -> ModelMatch | None:
    steps: dict[str, str] = {}
    lowest = 1.0
    for step in plan.steps:
        vector = vectors[step.instruction]
        options = [(float(vector @ vectors[o.instruction]), o.id) for o in entry.steps if _same_kind(step, o)]
        best, own = max(options, default=(-1.0, ""))
        if best < min_cosine:
            return None
        steps[step.id] = own
        lowest = min(lowest, best)
    assert entry.plan is not None
    return ModelMatch(entry, steps, lowest) if _same_shape(plan, entry.plan, steps) else None


def _same_kind(one: LabelStep | SpanStep, other: LabelStep | SpanStep) -> bool:
    """Return whether two steps have the same kind of answers, with the same label names."""
    if isinstance(one, SpanStep) or isinstance(other, SpanStep):
        return isinstance(one, SpanStep) and isinstance(other, SpanStep)
    return one.kind == other.kind and set(one.names) == set(other.names)


def _same_shape(plan: Plan, own: Plan, steps: Mapping[str, str]) -> bool:
    """Return whether the steps about spans are about the spans of matching steps."""
    return all(own[steps[s.id]].of == (steps[s.of] if s.of else None) for s in plan.steps)


def _agreement(match: ModelMatch) -> float:
    quality = match.quality
    return quality.agreement.value if quality else -1.0
