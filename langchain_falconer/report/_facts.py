"""The headline facts of a run, the same in HTML and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langchain_falconer.report import _format as fmt


class Fact(NamedTuple):
    """A headline: what it is, its figure, and what puts the figure into proportion."""

    name: str
    value: str
    note: str = ""


def facts(summary: Mapping[str, Any]) -> list[Fact]:
    """Rows matched, agreement, guarantee, LLM tokens spent and pace, as far as the summary knows them."""
    makers = (
        ("rows", _rows),
        ("quality", _agreement),
        ("guarantee", _guarantee),
        ("cost", _cost),
        ("pace", _pace),
    )
    found = [(make, summary.get(part)) for part, make in makers]
    return [make(part) for make, part in found if part]


def _rows(rows: Mapping[str, Any]) -> Fact:
    total, matched, failed = rows.get("total"), rows.get("matched"), rows.get("failed")
    notes = [fmt.percent(matched / total)] if total and matched is not None else []
    notes += [f"{fmt.count(failed)} failed"] if failed else []
    return Fact("Rows matched", f"{fmt.count(matched)} of {fmt.count(total)}", ", ".join(notes))


def _agreement(quality: Mapping[str, Any]) -> Fact:
    overall = quality.get("agreement") or {}
    return Fact("Agreement", fmt.percent(overall.get("value")), interval(overall))


def _guarantee(guarantee: Mapping[str, Any]) -> Fact:
    targets: Mapping[str, Mapping[str, Any]] = guarantee.get("targets") or {}
    value = ", ".join(f"{kind} {fmt.percent(one['target'])}" for kind, one in targets.items() if one["certified"])
    failed = ", ".join(f"{kind} {fmt.percent(one['target'])}" for kind, one in targets.items() if not one["certified"])
    notes = [f"not certified: {failed}"] if failed else []
    notes += [f"at {fmt.percent(guarantee.get('confidence'))} confidence"] if value else []
    notes += [f"{fmt.percent(guarantee.get('share_answered'))} sent to the LLM"]
    notes += [f"{fmt.percent(guarantee['share_uncertain'])} uncertain"] if guarantee.get("uncertain") else []
    return Fact("Guaranteed", value or "nothing", ", ".join(notes))


class Promise(NamedTuple):
    """A target, and what came of it, in words."""

    target: str
    certified: str
    error_budget: str
    texts: str
    wrong: str
    alone: str
    cut: str


PROMISE_COLUMNS = Promise("Target", "Certified", "Error budget", "Texts", "Wrong", "Proxy alone", "Proxy decides above")


def promises(summary: Mapping[str, Any]) -> list[Promise]:
    """The targets of a run, one a row under :data:`PROMISE_COLUMNS`."""
    targets: Mapping[str, Mapping[str, Any]] = (summary.get("guarantee") or {}).get("targets") or {}
    return [
        Promise(
            f"{kind} {fmt.percent(one['target'])}",
            "yes" if one["certified"] else "no",
            fmt.percent(round(1 - one["confidence"], 9)),
            fmt.count(one["n"]),
            fmt.count(one["failures"]),
            f"at least {fmt.percent(one['alone'])}",
            "never" if not one["certified"] else "any score" if one["cut"] is None else f"{one['cut']:.4g}",
        )
        for kind, one in targets.items()
    ]


def interval(estimate: Mapping[str, Any]) -> str:
    """The interval of ``Estimate.to_dict()`` in words."""
    if estimate.get("low") is None:
        return ""
    texts = (
        f", {fmt.count(estimate['n'])} held-out text{'' if estimate['n'] == 1 else 's'}" if estimate.get("n") else ""
    )
    level = fmt.count(100 * estimate.get("level", 0.95))
    return f"{level}% interval {fmt.percent(estimate['low'])} to {fmt.percent(estimate['high'])}{texts}"


def _cost(cost: Mapping[str, Any]) -> Fact:
    spent = (cost.get("input_tokens") or 0) + (cost.get("output_tokens") or 0)
    everything = cost.get("tokens_for_every_text")
    share = spent / everything if everything else cost.get("share")
    notes = [f"{fmt.percent(share)} of the {fmt.count(everything)} to ask about every text"] if everything else []
    notes += [fmt.usd(cost["usd"])] if cost.get("usd") is not None else []
    return Fact("LLM tokens", fmt.count(spent), ", ".join(notes))


def _pace(pace: Mapping[str, Any]) -> Fact:
    notes = [f"{fmt.count(round(pace['ratio']))}x the LLM"] if pace.get("ratio") else []
    notes += (
        [f"the LLM takes {fmt.duration(pace['llm_seconds_per_text'])} a text"]
        if pace.get("llm_seconds_per_text")
        else []
    )
    speed = pace.get("texts_per_second")
    return Fact("Pace", f"{fmt.count(round(speed) if speed and speed >= 10 else speed)} texts/s", ", ".join(notes))
