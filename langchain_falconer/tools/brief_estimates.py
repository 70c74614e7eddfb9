"""Corrected counts as an agent reads them: whole numbers, and which one belongs to a filter or a count of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_falconer.evaluate import Estimate
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.report import CountEstimates, Estimates

_MAX_LABELS = 3
_COMBINED = "no corrected count belongs to this combination of filters; use only_matches, or step and value, alone"


def brief(estimate: Estimate) -> dict[str, float | str | None]:
    """Return a corrected count in whole numbers; without an estimate, its reason."""
    figures = {"counted": estimate.counted, "estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
    counts = {name: None if figure is None else round(figure) for name, figure in figures.items()}
    return {**counts, "level": estimate.level, **({"reason": estimate.reason} if estimate.reason else {})}


def matched(estimates: Estimates | None) -> Mapping[str, object]:
    """Return the corrected number of matches, and what it rests on; or why nothing is corrected."""
    if estimates is None:
        return {}
    if estimates.reason:
        return {"estimates": f"counts are not corrected: {estimates.reason}"}
    return {"matched_estimate": brief(estimates.matched), "estimates": estimates.basis}


def of_step(step: LabelStep | SpanStep, estimates: Estimates | None) -> Mapping[str, object]:
    """Return the corrected counts of a step: of its most frequent labels, or of its spans."""
    if estimates is None or estimates.reason:
        return {}
    if isinstance(step, SpanStep):
        spans = estimates.spans[step.id]
        texts = {"texts_with": brief(spans.texts)} if spans.texts else {}
        return {"estimates": {**texts, "spans": brief(spans.spans)}}
    frequent = sorted(estimates.labels[step.id].items(), key=lambda pair: -pair[1].counted)[:_MAX_LABELS]
    return {"estimates": {label: brief(estimate) for label, estimate in frequent}}


def of_filter(
    estimates: Estimates | None,
    step: LabelStep | SpanStep | None,
    value: str | None,
    *,
    only_matches: bool,
    other: bool,
) -> Mapping[str, object]:
    """Return the corrected number of the rows that a filter leaves; nothing without a filter.

    Args:
        estimates: The estimates of the result.
        step: The step of the filter.
        value: Its label or span text.
        only_matches: Whether rows must match.
        other: Whether there are filters besides.
    """
    if estimates is None or not (step or only_matches or other):
        return {}
    if estimates.reason:
        return {"estimate": {"estimate": None, "reason": estimates.reason}}
    found: Estimate | None = None
    if not other and only_matches != bool(step):
        found = estimates.matched if step is None else _of_rows(estimates, step, value)
    return {"estimate": brief(found) if found else {"estimate": None, "reason": _COMBINED}}


def _of_rows(estimates: CountEstimates, step: LabelStep | SpanStep, value: str | None) -> Estimate | None:
    if isinstance(step, SpanStep):
        return estimates.spans[step.id].texts if value is None else None
    return estimates.labels[step.id].get(value) if value is not None else None


def of_values(
    estimates: Estimates | None, step: LabelStep | SpanStep, values: Sequence[str]
) -> Mapping[str, dict[str, float | str | None]]:
    """Return the corrected counts of labels, or span texts, of a step, as far as there are some."""
    if estimates is None or estimates.reason:
        return {}
    counts = estimates.spans[step.id].top if isinstance(step, SpanStep) else estimates.labels[step.id]
    return {value: brief(counts[value]) for value in values if value in counts}
