"""Continual learning: six tasks in a row on one network; and training time for one step and for six."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.harness import FEW, Draw, Trial, draws, score_of
from langchain_falconer.benchmarks.step_count import plans, restricted, reviews
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.model import Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import UNLABELLED, Previous, PreviousTask, train_proxy

IN_A_ROW = ("semeval14_restaurants", "snips", "mit_movie_trivia", "ag_news", "semeval14_laptops", "tweet_emotion")
TEXTS = 500
WORDS = 31  # about 40 tokens


def continual_learning(trial: Trial) -> BenchmarkTable:
    """Six tasks learned one after another by one network: ``trial.rows`` human labels each, and texts without labels.

    Each is scored when it has been learned, and again when the last one has.

    Raises:
        CorpusError: the data is not there.
    """
    tasks = [next(s for s in FEW if s.name == name) for name in IN_A_ROW]
    all_draws = list(draws(trial, tasks))
    scores_of: dict[str, list[tuple[float, float]]] = {draw.title: [] for draw in all_draws}
    for seed in range(trial.seeds):
        for title, scores in _one_row([draw for draw in all_draws if draw.seed == seed], trial.base).items():
            scores_of[title].append(scores)
            trial.on_score(title, seed, first=scores[0], last=scores[1])
    means = {
        name: [statistics.mean(column) for column in zip(*pairs, strict=True)] for name, pairs in scores_of.items()
    }
    lost = max(0.0, *(first - last for first, last in means.values()))
    return {
        "title": f"{len(scores_of)} tasks in a row, {trial.rows} human labels each, {trial.seeds} seed(s)",
        "columns": ["task", "when learned", "after the last", "difference"],
        "rows": [[n, f"{first:.3f}", f"{last:.3f}", f"{last - first:+.3f}"] for n, (first, last) in means.items()],
        "verdict": f"the most that a task lost is {lost * 100:.1f} points",
        "scores": scores_of,
    }


def _one_row(row: Sequence[Draw], base: str) -> dict[str, tuple[float, float]]:
    proxy: Proxy | None = None
    past: list[PreviousTask] = []
    first: dict[str, float] = {}
    for draw in row:
        proxy = draw.trained(Previous(proxy, past) if proxy else base)
        past.append(PreviousTask(draw.plan, draw.annotations, draw.unlabelled))
        first[draw.title] = _score(proxy, draw)
    assert proxy
    return {draw.title: (first[draw.title], _score(proxy, draw)) for draw in row}


def _score(proxy: Proxy, draw: Draw) -> float:
    answering = proxy if proxy.plan == draw.plan else proxy.recall(draw.plan)
    return score_of(answering, draw.plan, draw.test).value


def pace(trial: Trial) -> BenchmarkTable:
    """Seconds to train on 500 restaurant sentences of about 40 tokens: one step, six steps, in turns; and to start.

    As in a run, 1,000 other sentences teach as well, without their labels. A start is a fresh process to its first
    untrained answer; torch must not be loaded for it.

    Raises:
        CorpusError: the data is not there.
    """
    rows = _by_length(trial)
    annotations, texts = rows[:TEXTS], [row.text for row in rows[TEXTS : TEXTS + UNLABELLED]]
    one, six = plans()
    rounds: list[tuple[float, float, float]] = []
    for seed in range(trial.seeds):
        one_by_one = (
            _seconds(restricted(one, annotations), texts, one, trial, seed),
            _seconds(annotations, texts, six, trial, seed),
        )
        rounds.append((*one_by_one, _start()))
        trial.on_score("seconds", seed, one=rounds[-1][0], six=rounds[-1][1], start=rounds[-1][2])
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    ratios = [b / a for a, b, _ in rounds]
    what = ("500 texts, a plan of 1 step", "500 texts, a plan of 6 steps", "process start to first untrained answer")
    return {
        "title": f"training and starting, {trial.seeds} round(s)",
        "columns": ["what", "seconds (median)", "range"],
        "rows": [
            [name, f"{median:.1f}", f"{min(column):.1f} to {max(column):.1f}"]
            for name, median, column in zip(what, medians, zip(*rounds, strict=True), strict=True)
        ],
        "verdict": f"6 steps: {statistics.median(ratios):.2f}x the time of 1 ({min(ratios):.2f} to {max(ratios):.2f})",
        "rounds": rounds,
    }


def _by_length(trial: Trial) -> list[Annotation]:
    return sorted(reviews(trial.data), key=lambda a: abs(len(a.text.split()) - WORDS))


def _seconds(annotations: Sequence[Annotation], texts: Sequence[str], plan: Plan, trial: Trial, seed: int) -> float:
    began = time.perf_counter()
    train_proxy(plan, annotations, base=trial.base, unlabelled=texts, settings=TrainSettings(seed=seed))
    return time.perf_counter() - began


_FIRST = """
import sys
from langchain_falconer import Plan, Proxy
steps = [{"id": "topic", "op": "get_label", "instruction": "What is it about?", "labels": ["sports", "politics"]}]
print(Proxy.zero_shot(Plan.parse({"instruction": "topics", "steps": steps})).run(["She scored twice."])[0].labels)
assert "torch" not in sys.modules, "torch was loaded"
"""


def _start() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _FIRST], check=True, capture_output=True)  # noqa: S603
    return time.perf_counter() - began
