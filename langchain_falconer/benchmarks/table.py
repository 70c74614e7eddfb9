"""The table that every benchmark returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import NotRequired, TypedDict


class BenchmarkTable(TypedDict):
    """A table of formatted figures and a sentence about them; the other keys hold the figures themselves."""

    title: str
    columns: list[str]
    rows: Sequence[Sequence[str]]
    verdict: str
    cases: NotRequired[Sequence[Mapping[str, object]]]
    tasks: NotRequired[Sequence[Mapping[str, object]]]
    scores: NotRequired[Mapping[str, object]]
    rounds: NotRequired[Sequence[object]]
    ratios: NotRequired[list[float]]
    summary: NotRequired[Mapping[str, object]]
