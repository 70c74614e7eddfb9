"""Quality of a proxy: zero-shot, and from few human labels, beside plain baselines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.harness import (
    FEW,
    Draw,
    Trial,
    draws,
    offsets,
    score_of,
    split,
)
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.evaluate import expected_calibration_error
from langchain_falconer.model import PLAIN_BASE, Proxy
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import calibrate, fit_linear_heads, train_proxy

_TOLERANCE = 0.005
_MARGIN = "over the better baseline, worst draw"
FEWEST = 50  # of fewer spans no calibration error is reported


class FewScores(NamedTuple):
    """Scores of one draw: plain fine-tuning, a linear head on the frozen base (of labels), falconer."""

    plain: float
    linear: float | None
    falconer: float

    @property
    def margin(self) -> float:
        """How far falconer is above the better baseline."""
        return self.falconer - max(self.plain, self.linear or 0.0)


def few(trial: Trial) -> BenchmarkTable:
    """Fine-tuning from the base against two baselines, same rows, same test.

    The baselines are plain fine-tuning (a fresh head on :data:`PLAIN_BASE`) and, for labels, a linear head on the
    frozen base. All learn from the same annotated rows; falconer reads at most 1,000 others too, without their labels.

    Raises:
        CorpusError: the data is not there.
    """
    scores_of: dict[str, list[FewScores]] = {}
    for draw in draws(trial, FEW):
        scores = _few_scores(draw, trial.base)
        scores_of.setdefault(draw.title, []).append(scores)
        trial.on_score(draw.title, draw.seed, **{k: v for k, v in scores._asdict().items() if v is not None})
    by_seed = [[scores[seed] for scores in scores_of.values()] for seed in range(trial.seeds)]
    gains = [statistics.mean(s.falconer - s.plain for s in one) for one in by_seed]
    behind = [name for name, scores in scores_of.items() if _margin(scores) < -_TOLERANCE]
    return {
        "title": f"{trial.rows} human labels, {trial.seeds} seed(s), {trial.base}",
        "columns": [
            "data set",
            "plain",
            "linear head",
            "falconer",
            "worst draw",
            "over plain",
            "95% interval",
            _MARGIN,
        ],
        "rows": [
            *([name, *_few_columns(scores)] for name, scores in scores_of.items()),
            ["mean", "", "", "", "", f"{statistics.mean(gains):+.3f}", interval_of_mean(gains, "+.3f"), ""],
        ],
        "verdict": f"{statistics.mean(gains):+.3f} over plain fine-tuning on the mean of {len(scores_of)} sets; "
        f"more than {_TOLERANCE:g} below the better baseline on {', '.join(behind) or 'none'}",
        "scores": scores_of,
    }


def _few_scores(draw: Draw, base: str) -> FewScores:
    settings = TrainSettings(seed=draw.seed, max_minutes=None)
    plain_settings = settings.model_copy(update={"reset_head": True})
    plain = train_proxy(draw.plan, draw.annotations, base=PLAIN_BASE, settings=plain_settings)
    trained = draw.trained(base, settings=settings)
    linear = None
    if any(isinstance(step, LabelStep) for step in draw.plan.steps):
        linear = fit_linear_heads(draw.plan, draw.annotations, base=base, settings=settings)
    scores = [score_of(proxy, draw.plan, draw.test).value if proxy else None for proxy in (plain, linear, trained)]
    return FewScores(scores[0] or 0.0, scores[1], scores[2] or 0.0)


def _margin(scores: Sequence[FewScores]) -> float:
    """How far falconer is above the better baseline, on the mean of the draws."""
    plain = statistics.mean(s.falconer - s.plain for s in scores)
    linear = [s.falconer - s.linear for s in scores if s.linear is not None]
    return min(plain, statistics.mean(linear)) if linear else plain


def _few_columns(scores: Sequence[FewScores]) -> list[str]:
    gains = [s.falconer - s.plain for s in scores]
    linear = [s.linear for s in scores if s.linear is not None]
    ours = [s.falconer for s in scores]
    return [
        f"{statistics.mean(s.plain for s in scores):.3f}",
        f"{statistics.mean(linear):.3f}" if linear else "",
        f"{statistics.mean(ours):.3f}",
        f"{min(ours):.3f}",
        f"{statistics.mean(gains):+.3f}",
        interval_of_mean(gains, "+.3f"),
        f"{min(s.margin for s in scores):+.3f}",
    ]


def calibration(trial: Trial) -> BenchmarkTable:
    """The expected calibration error of each step on test rows: four fifths of the rows train, one fifth calibrates.

    Beside that of the worst step stands what scores that mean exactly what they say would show there by chance: the
    fewer the answers, the larger an error finds itself in their bins.

    Raises:
        CorpusError: the data is not there.
    """
    scores_of: dict[str, list[tuple[float, float, float]]] = {}
    for draw in draws(trial, FEW):
        train, held_out = split(draw.annotations)
        proxy = replace(draw, annotations=train).trained(trial.base)
        before, _ = _worst_error(proxy, draw.plan, draw.test)
        calibrate(proxy, held_out)
        after, chance = _worst_error(proxy, draw.plan, draw.test)
        scores_of.setdefault(draw.title, []).append((before, after, chance))
        trial.on_score(draw.title, draw.seed, before=before, after=after, chance=chance)
    means = {
        name: [statistics.mean(column) for column in zip(*scores, strict=True)] for name, scores in scores_of.items()
    }
    good = sum(after <= 0.05 for _, after, _ in means.values())
    beyond = sum(after - chance <= 0.05 for _, after, chance in means.values())
    return {
        "title": f"calibration error of the worst step, {trial.rows} human labels, {trial.seeds} seed(s)",
        "columns": ["data set", "before", "after", "95% interval of after", "by chance alone"],
        "rows": [
            [
                name,
                f"{before:.3f}",
                f"{after:.3f}",
                interval_of_mean([a for _, a, _ in scores_of[name]], ".3f"),
                f"{chance:.3f}",
            ]
            for name, (before, after, chance) in means.items()
        ],
        "verdict": f"at most 0.05 on {good} of {len(means)} sets, at most 0.05 more than by chance on {beyond}",
        "scores": scores_of,
    }


def _worst_error(proxy: Proxy, plan: Plan, test: Sequence[Annotation]) -> tuple[float, float]:
    """The largest expected calibration error of a step, and what chance gives it; of span steps, over spans found."""
    answers = proxy.answers([a.text for a in test], apply_conditions=False)
    errors = []
    for step in plan.steps:
        if isinstance(step, LabelStep):
            pairs = [(f.labels[step.id], a.answers.labels[step.id].value) for f, a in zip(answers, test, strict=True)]
            scored = [(label.score, label.value == gold) for label, gold in pairs]
        else:
            scored = [
                (s.score, (s.start, s.end) in offsets(a.answers, step.id))
                for f, a in zip(answers, test, strict=True)
                for s in f.spans[step.id]
            ]
        if len(scored) >= FEWEST:
            scores, right = (np.array(column) for column in zip(*scored, strict=True))
            errors.append((expected_calibration_error(scores, right), _by_chance(scores)))
    return max(errors, default=(0.0, 0.0))


def _by_chance(scores: NDArray[np.float64]) -> float:
    """The mean calibration error of answers that are right exactly as often as their scores say."""
    rng = np.random.default_rng(0)
    return statistics.mean(expected_calibration_error(scores, rng.random(len(scores)) < scores) for _ in range(100))


def interval_of_mean(values: Sequence[float], shown: str) -> str:
    """Return the 95% interval of a mean over seeds (Student's t)."""
    if len(values) < 2:
        return "–"
    from scipy.stats import t

    mean = statistics.mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean - half:{shown}} to {mean + half:{shown}}"
