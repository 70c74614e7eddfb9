"""The headline facts of a run, the same in HTML and on the terminal."""

from __future__ import annotations

from typing import NamedTuple

from langchain_falconer.evaluate import Estimate, Proportion
from langchain_falconer.execute import Guarantee, RowCounts
from langchain_falconer.report import formatting as fmt
from langchain_falconer.report.corrected_counts import Estimates
from langchain_falconer.report.summary import Cost, Pace, RunSummary


class Headline(NamedTuple):
    """A headline fact; the note says what its figure is to be compared with."""

    name: str
    value: str
    note: str = ""


def headlines(summary: RunSummary) -> list[Headline]:
    """Return rows matched, agreement, guarantee, LLM tokens and pace, as far as the summary has them."""
    facts = [_rows(summary.rows)]
    facts += _estimated(summary.estimates) if summary.estimates else []
    if summary.quality:
        agreement = summary.quality.agreement
        facts.append(Headline("Agreement", fmt.percent(agreement.value), interval(agreement)))
    if summary.guarantee:
        facts.append(_guarantee(summary.guarantee))
    return [*facts, _cost(summary.cost), _pace(summary.pace)]


def _rows(rows: RowCounts) -> Headline:
    notes = [fmt.percent(rows.matched / rows.total)] if rows.total else []
    failed = rows.failed - rows.empty
    notes += [f"{fmt.count(failed)} failed"] if failed else []
    notes += [f"{fmt.count(rows.empty)} without a text"] if rows.empty else []
    return Headline("Rows matched", f"{fmt.count(rows.matched)} of {fmt.count(rows.total)}", ", ".join(notes))


def _estimated(estimates: Estimates) -> list[Headline]:
    matched, rows = estimates.matched, max(estimates.rows, 1)
    if matched.estimate is None:
        return []
    note = f"{fmt.percent(matched.estimate / rows)}, {count_interval(matched)}"
    return [Headline("Estimated matches", fmt.count(round(matched.estimate)), note)]


def _guarantee(guarantee: Guarantee) -> Headline:
    certificates = guarantee.certificates.items()
    value = ", ".join(f"{name} {fmt.percent(one.target)}" for name, one in certificates if one.certified)
    failed = ", ".join(f"{name} {fmt.percent(one.target)}" for name, one in certificates if not one.certified)
    notes = [f"not certified: {failed}"] if failed else []
    notes += [f"at {fmt.percent(guarantee.targets.confidence)} confidence"] if value else []
    notes += [f"{fmt.percent(guarantee.share_escalated)} sent to the LLM"]
    notes += [f"{fmt.percent(guarantee.share_uncertain)} uncertain"] if guarantee.uncertain else []
    return Headline("Guaranteed", value or "nothing", ", ".join(notes))


CERTIFICATE_COLUMNS = ("Target", "Certified", "Error budget", "Texts", "Wrong", "Proxy alone", "Proxy decides above")


def certificate_rows(guarantee: Guarantee | None) -> list[tuple[str, ...]]:
    """Return the targets of a run, one per row under :data:`CERTIFICATE_COLUMNS`."""
    return [
        (
            f"{name} {fmt.percent(one.target)}",
            "yes" if one.certified else "no",
            fmt.percent(round(1 - one.confidence, 9)),
            fmt.count(one.n),
            fmt.count(one.failures),
            f"at least {fmt.percent(one.lower_bound)}",
            "never" if not one.certified else "any score" if one.threshold is None else f"{one.threshold:.4g}",
        )
        for name, one in (guarantee.certificates.items() if guarantee else ())
    ]


def interval(proportion: Proportion) -> str:
    """Return a confidence interval as a phrase."""
    texts = f", {fmt.count(proportion.n)} test text{'' if proportion.n == 1 else 's'}" if proportion.n else ""
    level = fmt.count(100 * proportion.level)
    return f"{level}% interval {fmt.percent(proportion.low)} to {fmt.percent(proportion.high)}{texts}"


def count_interval(estimate: Estimate) -> str:
    """Return the interval of a count as a phrase, or why there is none."""
    if estimate.low is None or estimate.high is None:
        return f"not estimated: {estimate.reason}"
    low, high = fmt.count(round(estimate.low)), fmt.count(round(estimate.high))
    return f"{fmt.count(100 * estimate.level)}% interval {low} to {high}"


def _cost(cost: Cost) -> Headline:
    every = cost.tokens_for_every_text
    notes = [f"{fmt.percent(cost.share)} of the {fmt.count(every)} to ask about every text"] if cost.share else []
    if cost.calls or cost.usd is not None:
        notes.append(fmt.usd(cost.usd) + (f" ({cost.prices})" if cost.prices else ""))
    return Headline("LLM tokens", fmt.count(cost.tokens), ", ".join(notes))


def _pace(pace: Pace) -> Headline:
    notes = [f"{fmt.count(round(pace.ratio))}x the LLM"] if pace.ratio else []
    per_text = pace.llm_seconds_per_text
    notes += [f"the LLM takes {fmt.duration(per_text)} per text"] if per_text else []
    speed = pace.texts_per_second
    return Headline("Pace", f"{fmt.count(round(speed) if speed and speed >= 10 else speed)} texts/s", ", ".join(notes))
