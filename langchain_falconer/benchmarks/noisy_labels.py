"""Label noise: the loss of a proxy through wrong labels, and how much of it checkpoint selection saves."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.harness import FEW, Draw, Trial, draws, score_of, split
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.records import Answers, Label

WRONG = 0.3


def noisy_labels_scores(trial: Trial) -> BenchmarkTable:
    """Human labels as they are, and with 30% of the labels wrong or of the spans missed; the test rows stay right.

    Four fifths of the rows train, to the end or for as long as the last fifth, noisy like them, has nothing against.

    Raises:
        CorpusError: the data is not there.
    """
    scores_of: dict[str, list[list[float]]] = {}
    for draw in draws(trial, FEW):
        scores = _scores(draw, trial.base)
        scores_of.setdefault(draw.title, []).append(list(scores.values()))
        trial.on_score(draw.title, draw.seed, **scores)
    means = {
        name: [statistics.mean(column) for column in zip(*pairs, strict=True)] for name, pairs in scores_of.items()
    }
    gains = [statistics.mean(m[i + 1] - m[i] for m in means.values()) for i in (0, 2)]
    return {
        "title": f"{trial.rows} human labels, {WRONG:.0%} of them noisy, {trial.seeds} seed(s)",
        "columns": ["data set", "right, to the end", "right, early", "noisy, to the end", "noisy, early"],
        "rows": [[name, *(f"{value:.3f}" for value in values)] for name, values in means.items()],
        "verdict": f"stopping early: {gains[0]:+.3f} where labels are right, {gains[1]:+.3f} where they are not",
        "scores": scores_of,
    }


def _scores(draw: Draw, base: str) -> dict[str, float]:
    scores = {}
    for how, rows in (("right", draw.annotations), ("noisy", noisy(draw.plan, draw.annotations, draw.seed))):
        train, held_out = split(rows)
        for until, development in (("end", []), ("early", held_out)):
            proxy = replace(draw, annotations=train).trained(base, development=development)
            scores[f"{how}_{until}"] = score_of(proxy, draw.plan, draw.test).value
    return scores


def noisy(plan: Plan, annotations: Sequence[Annotation], seed: int) -> list[Annotation]:
    """The annotations with :data:`WRONG` of the labels turned into others, and as many spans left out."""
    rng = random.Random(seed)

    def wrong(name: str, label: Label) -> Label:
        step = plan[name]
        assert isinstance(step, LabelStep)
        others = [other for other in step.names if other != label.value]
        return Label(rng.choice(others)) if rng.random() < WRONG else label

    return [
        replace(
            a,
            answers=Answers(
                {name: wrong(name, label) for name, label in a.answers.labels.items()},
                {k: tuple(s for s in spans if rng.random() >= WRONG) for k, spans in a.answers.spans.items()},
            ),
        )
        for a in annotations
    ]
