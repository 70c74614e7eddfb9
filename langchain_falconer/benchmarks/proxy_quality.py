"""Quality of a proxy: zero-shot, and from few human labels, beside plain baselines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.harness import (
    FEW,
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
from langchain_falconer.train import calibrate, train_proxy

FEWEST = 50  # of fewer spans no calibration error is reported


def few(trial: Trial) -> BenchmarkTable:
    """Fine-tuning from the base against plain fine-tuning (a fresh head on :data:`PLAIN_BASE`), same rows, same test.

    Both learn from the same annotated rows; falconer reads at most 1,000 others too, without their labels.

    Raises:
        CorpusError: the data is not there.
    """
    scores_of: dict[str, list[tuple[float, float]]] = {}
    for draw in draws(trial, FEW):
        settings = TrainSettings(seed=draw.seed, reset_head=True)
        plain = train_proxy(draw.plan, draw.annotations, base=PLAIN_BASE, settings=settings)
        both = [score_of(proxy, draw.plan, draw.test).value for proxy in (plain, draw.trained(trial.base))]
        scores_of.setdefault(draw.title, []).append((both[0], both[1]))
        trial.on_score(draw.title, draw.seed, plain=both[0], falconer=both[1])
    by_seed = [[pairs[seed] for pairs in scores_of.values()] for seed in range(trial.seeds)]
    means = [(statistics.mean(p for p, _ in one), statistics.mean(f for _, f in one)) for one in by_seed]
    gain = statistics.mean(f - p for p, f in means)
    return {
        "title": f"{trial.rows} human labels, {trial.seeds} seed(s), {trial.base}",
        "columns": ["data set", "plain", "falconer", "difference", "95% interval"],
        "rows": [*([name, *_columns(pairs)] for name, pairs in scores_of.items()), ["mean", *_columns(means)]],
        "verdict": f"{gain:+.3f} over plain fine-tuning on the mean of {len(scores_of)} sets",
        "scores": scores_of,
    }


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
                _interval([a for _, a, _ in scores_of[name]], ".3f"),
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


def _columns(pairs: Sequence[tuple[float, float]]) -> list[str]:
    gains = [f - p for p, f in pairs]
    plain, ours = (statistics.mean(column) for column in zip(*pairs, strict=True))
    return [f"{plain:.3f}", f"{ours:.3f}", f"{statistics.mean(gains):+.3f}", _interval(gains, "+.3f")]


def _interval(values: Sequence[float], shown: str) -> str:
    """The 95% interval of a mean over seeds (Student's t)."""
    if len(values) < 2:
        return "–"
    from scipy.stats import t

    mean = statistics.mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean - half:{shown}} to {mean + half:{shown}}"
