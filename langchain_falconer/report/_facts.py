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
    """Rows matched, agreement, LLM tokens spent and pace, as far as the summary knows them."""
    makers = (("rows", _rows), ("quality", _agreement), ("cost", _cost), ("pace", _pace))
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
