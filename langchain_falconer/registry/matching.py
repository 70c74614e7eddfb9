"""Which proxies of a home answer a plan: trained on its very questions, or on near ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from langchain_falconer.evaluate import Quality
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.registry.entry import Entry

Embed = Callable[[Sequence[str]], np.ndarray]
_MOST_NEAR = 3


@dataclass(frozen=True)
class ModelMatch:
    """A proxy that answers each step of a plan by one of its own: ``steps`` maps the plan's ids to the proxy's."""

    entry: Entry
    steps: Mapping[str, str]
    cosine: float = 1.0

    @property
    def annotator(self) -> str | None:
        """Whose answers its quality is measured by; None if that is not known."""
        told: str | None = self.entry.manifest.get("annotator")
        return told

    @property
    def quality(self) -> Quality | None:
        """What was measured of these steps when the proxy was trained; the agreement of part of them is the worst."""
        told = self.entry.quality
        if told is None or any(own not in told.steps for own in self.steps.values()):
            return None
        steps = {step: told.steps[own] for step, own in self.steps.items()}
        whole = set(self.steps.values()) == set(told.steps)
        worst = min((s.agreement for s in steps.values()), key=lambda a: a.value)
        return Quality(steps=steps, agreement=told.agreement if whole else worst)


def exact_matches(entries: Iterable[Entry], plan: Plan) -> list[ModelMatch]:
    """The proxies that were trained on exactly the questions of a plan, the best measured first."""
    found = []
    for entry in entries:
        own = {step.fingerprint: step.id for step in entry.steps}
        steps = {step.id: own[step.fingerprint] for step in plan.steps if step.fingerprint in own}
        if len(steps) == len(plan.steps) and entry.plan and _same_shape(plan, entry.plan, steps):
            found.append(ModelMatch(entry, steps))
    return sorted(found, key=_measured, reverse=True)


def similar_matches(entries: Iterable[Entry], plan: Plan, embed: Embed, least_cosine: float) -> list[ModelMatch]:
    """The proxies whose questions are near those of a plan, one for one and of the same kind; the nearest first."""
    there = [entry for entry in entries if entry.plan]
    steps = [step for entry in there for step in entry.steps]
    if not steps:
        return []
    vectors = embed([step.instruction for step in (*plan.steps, *steps)])
    cosines = vectors[: len(plan.steps)] @ vectors[len(plan.steps) :].T
    found, at = [], 0
    for entry in there:
        own = cosines[:, at : at + len(entry.steps)]
        at += len(entry.steps)
        match = _nearest(plan, entry, own, least_cosine)
        if match:
            found.append(match)
    return sorted(found, key=lambda c: -c.cosine)[:_MOST_NEAR]


def _nearest(plan: Plan, entry: Entry, cosines: np.ndarray, least: float) -> ModelMatch | None:
    steps: dict[str, str] = {}
    worst = 1.0
    for step, row in zip(plan.steps, cosines, strict=True):
        fit = [(float(row[i]), other.id) for i, other in enumerate(entry.steps) if _alike(step, other)]
        best, own = max(fit, default=(-1.0, ""))
        if best < least:
            return None
        steps[step.id] = own
        worst = min(worst, best)
    assert entry.plan is not None
    return ModelMatch(entry, steps, worst) if _same_shape(plan, entry.plan, steps) else None


def _alike(one: LabelStep | SpanStep, other: LabelStep | SpanStep) -> bool:
    """Whether answers to one can stand for answers to the other."""
    if isinstance(one, SpanStep) or isinstance(other, SpanStep):
        return isinstance(one, SpanStep) and isinstance(other, SpanStep)
    return one.kind == other.kind and set(one.names) == set(other.names)


def _same_shape(plan: Plan, own: Plan, steps: Mapping[str, str]) -> bool:
    """Whether steps about spans are asked of the spans that the proxy asks them of."""
    return all(own[steps[s.id]].of == (steps[s.of] if s.of else None) for s in plan.steps)


def _measured(match: ModelMatch) -> float:
    quality = match.quality
    return quality.agreement.value if quality else -1.0
