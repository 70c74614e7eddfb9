"""Calibration of a proxy on annotations that training did not see: temperatures, score scales, decision thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.errors import SettingsError
from langchain_falconer.evaluate import OperatingPoint, fit_scale, fit_temperature, operating_point
from langchain_falconer.model import Proxy
from langchain_falconer.model.decoding import Calibration, Scores
from langchain_falconer.model.examples import Example, examples_of
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import LabelValue
from langchain_falconer.settings import Metric

# Priors of the parameters. Trained proxies are overconfident: fitted to the test rows of seven datasets,
# from 80 annotations each, temperatures were 1.6 to 7, slopes 0.14 to 0.26, shifts -0.1 to -1.6.
_TRAINED_TEMPERATURE = 3.0
_TRAINED_SCALE = (0.3, -0.7)
_SPREAD, _OWN_SPREAD = 0.3, 0.2  # of the log slope: shared by the span steps of a plan, and of a step around it


def calibrate(proxy: Proxy, annotations: Sequence[Annotation], metrics: Mapping[str, Metric] | None = None) -> None:
    """Make the scores of a proxy probabilities, and choose its thresholds; both are written to its manifest.

    Label steps get a temperature (Guo et al., 2017), span steps the slope and shift of a logistic curve (Platt, 1999)
    fitted to the scores of right and wrong spans: one curve for all span steps is the prior of the curve of each step.
    Decisions stay the same, except for multi-label ties and steps with a threshold.

    Args:
        proxy: The proxy.
        annotations: Annotations that were not trained on; long texts are scored passage by passage.
        metrics: The objective of a step's threshold, by the id of a yes/no or multi-label step (one threshold for all
            options). The result is in the manifest as ``operating_points``; where no threshold reaches the metric, none
            is set and 0.5 decides.

    Raises:
        SettingsError: A metric is set for a step without a threshold.
    """
    metrics, plan = metrics or {}, proxy.plan
    check_metrics(plan, metrics)
    examples = examples_of(plan, annotations, int(proxy.manifest["passage_chars"]))
    scored = list(zip(examples, proxy.predictor.raw_scores([e.text for e in examples]), strict=True))
    temperatures: dict[str, float] = {}
    points: dict[str, OperatingPoint | None] = dict.fromkeys(metrics)
    around = _TRAINED_TEMPERATURE if _is_trained(proxy) else 1.0
    for step in plan.steps:
        pairs = [(s.labels[step.id], e.labels[step.id]) for e, s in scored if step.id in e.labels]
        if isinstance(step, LabelStep) and pairs:
            rows, values = np.stack([row for row, _ in pairs]), [value for _, value in pairs]
            temperatures[step.id] = _temperature(step, rows, values, around)
            if metric := metrics.get(step.id):
                yes = _softened(rows, temperatures[step.id])
                points[step.id] = operating_point(metric, yes.ravel(), _truths(step, values).ravel())
    scales = _scales(plan, scored, _TRAINED_SCALE if _is_trained(proxy) else (1.0, 0.0))
    thresholds = {name: point.threshold for name, point in points.items() if point}
    facts = {k: {"metric": str(metrics[k]), **(p.model_dump() if p else {})} for k, p in points.items()}
    calibration = Calibration(temperatures, scales, thresholds)
    proxy.update_manifest(calibration=calibration.to_dict(), operating_points=facts)


def _is_trained(proxy: Proxy) -> bool:
    """Return whether the scores are those of a trained network, not of the base."""
    training = proxy.manifest.get("training")
    return training is not None and not training.get("is_base")


def _temperature(step: LabelStep, probabilities: np.ndarray, values: Sequence[LabelValue], around: float) -> float:
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    if step.kind == "choice":
        return fit_temperature(np.log(p), np.array([step.names.index(str(v)) for v in values]), around=around)
    binary = np.stack([np.log(1 - p.ravel()), np.log(p.ravel())], axis=1)
    return fit_temperature(binary, _truths(step, values).ravel().astype(np.int64), around=around)


def _scales(
    plan: Plan, scored: Sequence[tuple[Example, Scores]], around: tuple[float, float]
) -> dict[str, tuple[float, float]]:
    """Fit the slope and shift of each span step; with few spans they stay close to those of all span steps."""
    scores = {
        step.id: [
            (p, (a, b) in e.spans[step.id]) for e, s in scored if step.id in e.spans for a, b, p in s.spans[step.id]
        ]
        for step in plan.steps
        if isinstance(step, SpanStep)
    }
    shared = fit_scale(*_columns([pair for own in scores.values() for pair in own]), around=around, spread=_SPREAD)
    if len(scores) == 1:
        return dict.fromkeys(scores, shared)
    return {name: fit_scale(*_columns(own), around=shared, spread=_OWN_SPREAD) for name, own in scores.items()}


def _columns(scored: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in scored], [right for _, right in scored]


def _truths(step: LabelStep, values: Sequence[LabelValue]) -> np.ndarray:
    """Return the truth of each option for each value, boolean (n, options)."""
    if step.kind == "yes_no":
        return np.array([[bool(v)] for v in values])
    return np.array([[name in cast(tuple[str, ...], v) for name in step.names] for v in values])


def _softened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Apply a temperature to probabilities of yes."""
    yes, no = (p ** (1.0 / temperature) for p in (probabilities, 1.0 - probabilities))
    softened: np.ndarray = yes / (yes + no)
    return softened


def check_metrics(plan: Plan, metrics: Mapping[str, Metric]) -> None:
    """Check that metrics are set only for steps with a threshold: yes/no and multi-label ones.

    Raises:
        SettingsError: A metric is set for another step.
    """
    eligible = [s.id for s in plan.steps if isinstance(s, LabelStep) and s.kind != "choice"]
    for name in metrics:
        if name not in eligible:
            steps = f"those of this plan are {', '.join(map(repr, eligible))}" if eligible else "this plan has none"
            raise SettingsError(f"step '{name}' has no threshold; only yes/no and multi-label steps have one: {steps}")
