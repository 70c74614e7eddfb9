"""The learning curve of a run, as a table, a plot and sentences."""

from __future__ import annotations

from typing import NamedTuple

from langchain_falconer.evaluate import LearningCurve, Proportion
from langchain_falconer.report import formatting as fmt

CURVE_COLUMNS = ("Learned from", "LLM calls", "Development", "Test", "95% interval")


def curve_rows(curve: LearningCurve) -> list[tuple[str, ...]]:
    """Return the proxies of all rounds, one per row under :data:`CURVE_COLUMNS`."""
    return [
        (
            f"{fmt.count(point.annotations)} texts" if point.annotations else "nothing (untrained)",
            fmt.count(point.calls),
            fmt.percent(point.development.value) if point.development else fmt.DASH,
            fmt.percent(point.test.value) if point.test else fmt.DASH,
            f"{fmt.percent(point.test.low)} to {fmt.percent(point.test.high)}" if point.test else fmt.DASH,
        )
        for point in curve.points
    ]


def curve_notes(curve: LearningCurve) -> list[str]:
    """Return what more LLM calls are forecast to gain, and why no further round followed, one sentence each."""
    if not curve.points:
        return []
    notes = ["Too few rounds to forecast what more LLM calls would gain."]
    if more := curve.forecast:
        notes = [
            f"{more.calls} more LLM calls (about {fmt.count(more.annotations)} texts) are forecast to gain "
            f"{fmt.percent(more.gain)} of agreement, {fmt.percent(more.low)} to {fmt.percent(more.high)} at "
            f"{more.level:.0%} confidence."
        ]
    return [*notes, f"No further round: {curve.reason}."] if curve.reason else notes


class CurvePlot(NamedTuple):
    """A drawing on a square of 100 by 100, the origin at the top left.

    Attributes:
        band: Corners of the band of the intervals on test texts, as SVG points.
        test: Points of the line of agreement on test texts.
        floor: Agreement at the bottom of the square; the top is 1.
        label: Description for whoever does not see it.
    """

    band: str
    test: str
    floor: float
    label: str


def curve_plot(curve: LearningCurve) -> CurvePlot | None:
    """Return the plot of agreement on test texts against annotated texts; None for fewer than two points."""
    measured = [(point.annotations, point.test) for point in curve.points if point.test]
    if len({n for n, _ in measured}) < 2:
        return None
    widest = max(n for n, _ in measured)
    floor = 0.5 if min(test.low for _, test in measured) >= 0.5 else 0.0

    def points(values: list[tuple[int, float]]) -> str:
        return " ".join(f"{100 * n / widest:.2f},{100 * (1 - value) / (1 - floor):.2f}" for n, value in values)

    lows = [(n, test.low) for n, test in measured]
    return CurvePlot(
        band=points([(n, test.high) for n, test in measured] + lows[::-1]),
        test=points([(n, test.value) for n, test in measured]),
        floor=floor,
        label="Agreement on test texts: " + ", ".join(_in_words(n, test) for n, test in measured),
    )


def _in_words(n: int, test: Proportion) -> str:
    return f"{fmt.percent(test.value)} with {fmt.count(n)} annotated texts"
