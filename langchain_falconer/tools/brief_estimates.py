"""Corrected counts as an agent reads them: whole numbers, and shares with three decimals."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_falconer.evaluate import Estimate
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.report import Estimates

_MAX_LABELS = 3
COMBINED = (
    "no corrected count belongs to this combination of filters; use only_matches, or step and value, with at most one "
    "column in where"
)


def brief(estimate: Estimate) -> dict[str, float | str | None]:
    """Return a corrected count in whole numbers; without an estimate, its reason."""
    figures = {"counted": estimate.counted, "estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
    counts = {name: None if figure is None else round(figure) for name, figure in figures.items()}
    return {**counts, "level": estimate.level, **({"reason": estimate.reason} if estimate.reason else {})}


def brief_share(estimate: Estimate) -> dict[str, float | None]:
    """Return a share with three decimals."""
    figures = {"counted": estimate.counted, "estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
    return {name: None if figure is None else round(figure, 3) for name, figure in figures.items()}


def matched(estimates: Estimates | None) -> Mapping[str, object]:
    """Return the corrected number of matches, and what it rests on; or why nothing is corrected."""
    if estimates is None:
        return {}
    if estimates.reason:
        return {"estimates": f"counts are not corrected: {estimates.reason}"}
    share = {"matched_share": brief_share(estimates.matched.per(estimates.rows))} if estimates.rows else {}
    return {"matched_estimate": brief(estimates.matched), **share, "estimates": estimates.basis}


def of_step(step: LabelStep | SpanStep, estimates: Estimates | None) -> Mapping[str, object]:
    """Return the corrected counts of a step: of its most frequent labels, or of its spans."""
    if estimates is None or estimates.reason:
        return {}
    if isinstance(step, SpanStep):
        spans = estimates.spans[step.id]
        texts = {"texts_with": brief(spans.texts)} if spans.texts else {}
        return {"estimates": {**texts, "spans": brief(spans.spans)}}
    frequent = sorted(estimates.labels[step.id].items(), key=lambda pair: -pair[1].counted)[:_MAX_LABELS]
    shares = {label: brief_share(estimate.per(estimates.rows)) for label, estimate in frequent if estimates.rows}
    return {"estimates": {label: brief(estimate) for label, estimate in frequent}, "shares": shares}


def of_filter(estimates: Estimates | None, found: Estimate | None) -> Mapping[str, object]:
    """Return the corrected number of the rows that a filter leaves, or why there is none."""
    if estimates is None:
        return {}
    reason = estimates.reason or COMBINED
    return {"estimate": brief(found) if found and not estimates.reason else {"estimate": None, "reason": reason}}
