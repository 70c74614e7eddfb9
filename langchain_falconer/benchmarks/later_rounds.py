"""A second round of annotations: texts that the proxy doubts, against as many uniform ones."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass

from langchain_falconer.annotate import Annotation, choose_doubtful
from langchain_falconer.benchmarks.harness import (
    SETS,
    Set,
    Trial,
    annotated,
    question,
    rows_in,
    score_of,
)
from langchain_falconer.benchmarks.proxy_quality import interval_of_mean
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.model import Embedder, Proxy
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import train_proxy

_SETS = ("snips", "ag_news", "semeval14_laptops", "mit_movie_trivia", "tweet_emotion")
_POOL = 1_000
_SCORED = 512
LIGHT = TrainSettings(epochs=5.0, frozen_layers=4, max_minutes=None)
"""A light training, so that many seeds fit an hour: a quarter of the usual passes, over two of six layers."""


@dataclass(frozen=True)
class RoundScores:
    """Scores of one draw.

    Attributes:
        first: After the first round.
        uniform: After a second round of uniform texts.
        doubtful: After a second round of doubtful texts.
    """

    first: float
    uniform: float
    doubtful: float


def second_round(trial: Trial, training: TrainSettings = LIGHT) -> BenchmarkTable:
    """``trial.rows`` uniform human labels, then as many more: uniform ones, or of the texts that the proxy doubts.

    All rows are train rows: of each seed's shuffle 512 are scored, and a second round is drawn from 1,000.

    Raises:
        CorpusError: The data is not there.
    """
    scores_of: dict[str, list[RoundScores]] = {}
    for task in trial.of([next(s for s in SETS if s.name == name) for name in _SETS]):
        for seed in range(trial.seeds):
            scores = compare(trial, task, seed, training)
            scores_of.setdefault(task.title, []).append(scores)
            trial.on_score(task.title, seed, **vars(scores))
    gains = {name: [s.doubtful - s.uniform for s in scores] for name, scores in scores_of.items()}
    ahead = sum(statistics.mean(gain) > 0 for gain in gains.values())
    means = {
        name: [statistics.mean(column) for column in zip(*(vars(s).values() for s in scores), strict=True)]
        for name, scores in scores_of.items()
    }
    return {
        "title": f"{trial.rows} human labels, then {trial.rows} more, {trial.seeds} seed(s), {trial.base}",
        "columns": ["data set", "first round", "uniform", "doubtful", "doubtful over uniform", "95% interval"],
        "rows": [
            [
                name,
                *(f"{mean:.3f}" for mean in means[name]),
                f"{statistics.mean(gain):+.3f}",
                interval_of_mean(gain, "+.3f"),
            ]
            for name, gain in gains.items()
        ],
        "verdict": f"doubtful texts are ahead of as many uniform ones on {ahead} of {len(gains)} sets",
        "scores": {name: [vars(s) for s in scores] for name, scores in scores_of.items()},
    }


def compare(trial: Trial, task: Set, seed: int, training: TrainSettings = LIGHT) -> RoundScores:
    """Return the scores of one set and seed. Raises ``CorpusError`` where the data is not there."""
    plan, rows = question(trial.data, task), rows_in(trial.data, task, "train")
    random.Random(seed).shuffle(rows)
    annotations = annotated(rows, plan, task.label)
    n_scored = min(_SCORED, len(annotations) // 4)
    scored, others = annotations[:n_scored], annotations[n_scored:]
    first, pool = others[: trial.rows], others[trial.rows : trial.rows + _POOL]

    def train(annotations: list[Annotation]) -> Proxy:
        settings = training.model_copy(update={"seed": seed})
        return train_proxy(plan, annotations, base=trial.base, settings=settings)

    before = train(first)
    texts = [annotation.text for annotation in pool]
    chosen = choose_doubtful(
        plan,
        before.answers(texts),
        trial.rows,
        seed,
        others=Proxy.zero_shot(plan, base=trial.base).answers(texts),
        vectors=Embedder(trial.base)(texts),
    )
    proxies = (before, train([*first, *pool[: trial.rows]]), train([*first, *(pool[i] for i in chosen)]))
    return RoundScores(*(score_of(proxy, plan, scored).value for proxy in proxies))
