"""The measurements of the proxies of a job, round by round, in its folder: what the learning curve is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import text_id
from langchain_falconer.evaluate import (
    CurvePoint,
    LearningCurve,
    Proportion,
    agreement_by_text,
    forecast,
    proportion_by_text,
)
from langchain_falconer.files import read_json, write_json
from langchain_falconer.model import Proxy
from langchain_falconer.records import FrozenModel


class Measurement(FrozenModel):
    """A point of the learning curve, with what a forecast needs of it.

    Attributes:
        round: The round, from 0, in which the proxy was measured.
        proxy: Name of the proxy, which stands for all that it was made from.
        point: The point.
        counts: Equal decisions and decisions on development texts, by id of the text.
    """

    round: int
    proxy: str
    point: CurvePoint
    counts: Mapping[str, tuple[int, int]]


def read_measurements(file: Path) -> list[Measurement]:
    """Read the measurements of a job; none where there is no file yet."""
    return [Measurement.model_validate(row) for row in (read_json(file) or {}).get("measurements", ())]


def write_measurements(file: Path, measurements: Sequence[Measurement], curve: LearningCurve) -> None:
    """Write the measurements of a job, and the curve that they make."""
    rows = [one.model_dump(mode="json") for one in measurements]
    write_json(file, {"measurements": rows, "curve": curve.model_dump(mode="json")})


def measure(
    proxy: Proxy, development: Sequence[Annotation], test: Sequence[Annotation], annotations: int, calls: int
) -> tuple[CurvePoint, dict[str, tuple[int, int]]]:
    """Measure a proxy that learned from a number of annotations, after a number of LLM calls.

    Returns:
        Its point on the learning curve, and equal decisions and decisions by id of the development text.
    """
    by_text = _counts(proxy, development)
    point = CurvePoint(
        annotations=annotations,
        calls=calls,
        development=_agreement(list(by_text.values())),
        test=_agreement(list(_counts(proxy, test).values())),
    )
    return point, by_text


def _counts(proxy: Proxy, annotations: Sequence[Annotation]) -> dict[str, tuple[int, int]]:
    predicted = proxy.answers([a.text for a in annotations], apply_conditions=False)
    equal, decisions = agreement_by_text(proxy.plan, [a.answers for a in annotations], predicted)
    return {text_id(a.text): (int(same), int(n)) for a, same, n in zip(annotations, equal, decisions, strict=True) if n}


def _agreement(counts: Sequence[tuple[int, int]]) -> Proportion | None:
    equal, decisions = zip(*counts, strict=True) if counts else ((), ())
    return proportion_by_text(equal, decisions) if counts else None


def learning_curve(measurements: Sequence[Measurement]) -> LearningCurve:
    """Return the curve of a job so far, with its forecast."""
    points = tuple(one.point for one in measurements)
    texts = [text for text in measurements[-1].counts if all(text in one.counts for one in measurements)]
    equal = [[one.counts[text][0] for text in texts] for one in measurements]
    decisions = [measurements[-1].counts[text][1] for text in texts]
    return LearningCurve(points=points, forecast=forecast(points, equal, decisions))
