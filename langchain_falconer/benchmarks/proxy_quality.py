"""Quality of a proxy: zero-shot, and from few human labels, beside plain baselines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.harness import (
    FEW,
    SETS,
    Trial,
    draws,
    offsets,
    question,
    score_of,
    scored_rows,
    split,
)
from langchain_falconer.evaluate import Proportion, expected_calibration_error
from langchain_falconer.model import PLAIN_BASE, Embedder, Proxy
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import calibrate, train_proxy

FEWEST = 50  # of fewer spans no calibration error is reported


def zero_shot(trial: Trial) -> dict[str, Any]:
    """Every set answered from the words of its questions alone, on at most 1,000 test rows.

    Labels stand beside the cosine of text and class description in the space of :data:`PLAIN_BASE`.

    Raises:
        CorpusError: the data is not there.
    """
    rows = []
    for task in trial.of(SETS):
        plan, test = question(trial.data, task), scored_rows(trial.data, task)
        estimate = score_of(Proxy.zero_shot(plan, base=trial.base), plan, test)
        rows.append((task, estimate, _cosine(plan, test) if task.label else None))
        trial.on_score(task.title, 0, score=estimate.value)
    reached = [e.value >= t.zero_shot for t, e, _ in rows if t.zero_shot]
    return {
        "title": f"{trial.base}, nothing trained",
        "columns": ["data set", "score", "95% interval", "target", "cosine of the base"],
        "rows": [
            [t.title, f"{e.value:.3f}", _range(e), f"{t.zero_shot:.2f}" if t.zero_shot else "", _shown(c)]
            for t, e, c in rows
        ],
        "verdict": f"{sum(reached)} of {len(reached)} targets reached",
        "scores": {t.title: e.value for t, e, _ in rows},
    }


def few(trial: Trial) -> dict[str, Any]:
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


def calibration(trial: Trial) -> dict[str, Any]:
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


def _cosine(plan: Plan, test: Sequence[Annotation]) -> float:
    step = plan.steps[0]
    assert isinstance(step, LabelStep)
    assert step.labels
    embed = Embedder(PLAIN_BASE)
    options = embed([o.description or o.name for o in step.labels])
    best = np.argmax(embed([a.text for a in test]) @ options.T, axis=1)
    return float(np.mean([step.names[b] == a.answers.labels[step.id].value for b, a in zip(best, test, strict=True)]))


def _range(estimate: Proportion) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
