"""Proxies side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer.annotate import read_annotations
from langchain_falconer.errors import AnnotationError, ProxyError, SettingsError
from langchain_falconer.evaluate import Quality, StepQuality, evaluate_plan
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.proxy._entry import Entry
from langchain_falconer.proxy._proxy import Proxy


@dataclass(frozen=True)
class SharedStep:
    """A step that at least two proxies have, as the first of them words it.

    ``quality`` says by proxy name how well each does it: None where it was not measured, absent where it has no such
    step.
    """

    step: LabelStep | SpanStep
    quality: Mapping[str, StepQuality | None]

    def to_dict(self) -> dict[str, Any]:
        """The step and its qualities as JSON data."""
        quality = {name: found.to_dict() if found else None for name, found in self.quality.items()}
        step = self.step.model_dump(mode="json", by_alias=True)
        return {"step": step, "fingerprint": self.step.fingerprint, "quality": quality}


@dataclass(frozen=True)
class Comparison:
    """Proxies side by side: the agreement of each (None: not measured), by name, and the steps they share.

    ``measured_on`` is the file of annotations they were measured on; None: the figures are those of their manifests,
    each from texts of its own.
    """

    entries: tuple[Entry, ...]
    quality: Mapping[str, Quality | None]
    steps: tuple[SharedStep, ...]
    measured_on: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON data."""
        agreement = {name: found.agreement.to_dict() if found else None for name, found in self.quality.items()}
        proxies = [{**entry.to_dict(), "agreement": agreement[entry.name]} for entry in self.entries]
        measured_on = str(self.measured_on) if self.measured_on else None
        return {"measured_on": measured_on, "proxies": proxies, "steps": [step.to_dict() for step in self.steps]}


def compare(entries: Sequence[Entry], annotations: Path | None = None) -> Comparison:
    """Put proxies side by side, by what their manifests say or by what they answer now on annotated texts.

    Steps are the same if they ask the same question (by fingerprint). On annotations, steps go by their id, which is
    what the file says: proxies may word one step differently.

    Raises:
        SettingsError: fewer than two proxies.
        ProxyError: a proxy has no step that is annotated.
        AnnotationError: the file cannot be read, or gives a step an answer that a proxy cannot give.
    """
    if len(entries) < 2:
        raise SettingsError("one proxy alone cannot be compared; name at least two")
    quality = {e.name: _measured(e, annotations) if annotations else e.quality for e in entries}
    steps = _shared(entries, quality, "id" if annotations else "fingerprint")
    if annotations:
        steps = (shared for shared in steps if any(shared.quality.values()))
    return Comparison(tuple(entries), quality, tuple(steps), annotations)


def _shared(entries: Sequence[Entry], quality: Mapping[str, Quality | None], key: str) -> Iterator[SharedStep]:
    found: dict[str, dict[str, LabelStep | SpanStep]] = {}
    for entry in entries:
        for step in entry.steps:
            found.setdefault(getattr(step, key), {}).setdefault(entry.name, step)
    for steps in found.values():
        if len(steps) > 1:
            measured = {name: q.steps.get(step.id) if (q := quality[name]) else None for name, step in steps.items()}
            yield SharedStep(next(iter(steps.values())), measured)


def _measured(entry: Entry, annotations: Path) -> Quality:
    proxy = Proxy.load(entry.path)
    try:
        known = read_annotations(annotations, proxy.plan, shared_only=True)
    except AnnotationError as error:
        raise AnnotationError(f"proxy '{entry.name}': {error}") from None
    known = [a for a in known if a.answers.labels or a.answers.spans]
    if not known:
        steps = ", ".join(step.id for step in entry.steps)
        raise ProxyError(f"{annotations} annotates no step of the proxy '{entry.name}' ({steps}); leave that out")
    predicted = proxy.answers([a.text for a in known], everything=True)
    return evaluate_plan(proxy.plan, [a.answers for a in known], predicted)
