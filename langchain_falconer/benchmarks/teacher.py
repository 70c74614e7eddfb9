"""What a teacher's mistakes cost a proxy, and what stopping early saves of it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks._trial import FEW, Set, Trial, annotated, drawn_rows, question, score_of, scored_rows
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.proxy import TrainSettings, train_proxy
from langchain_falconer.records import Answers, Label

WRONG = 0.3


def noisy_teacher(trial: Trial) -> dict[str, Any]:
    """Human labels as they are, and with 30% of the labels wrong or of the spans missed; the test rows stay right.

    Four fifths of the rows train, to the end or for as long as the last fifth, spoilt like them, has nothing against.

    Raises:
        CorpusError: the data is not there.
    """
    found = {t.title: [_scores(trial, t, seed) for seed in range(trial.seeds)] for t in trial.of(FEW)}
    means = {name: [statistics.mean(column) for column in zip(*told, strict=True)] for name, told in found.items()}
    gains = [statistics.mean(m[i + 1] - m[i] for m in means.values()) for i in (0, 2)]
    return {
        "title": f"{trial.rows} human labels, {WRONG:.0%} of them spoilt, {trial.seeds} seed(s)",
        "columns": ["data set", "right, to the end", "right, early", "spoilt, to the end", "spoilt, early"],
        "rows": [[name, *(f"{value:.3f}" for value in told)] for name, told in means.items()],
        "verdict": f"stopping early: {gains[0]:+.3f} where labels are right, {gains[1]:+.3f} where they are not",
        "scores": found,
    }


def _scores(trial: Trial, task: Set, seed: int) -> list[float]:
    plan, test = question(trial.data, task), scored_rows(trial.data, task)
    rows = drawn_rows(trial, task, seed)
    known, texts = annotated(rows[: trial.rows], plan, task), [row["text"] for row in rows[trial.rows :]]
    scores = {}
    for how, told in (("right", known), ("spoilt", spoilt(plan, known, seed))):
        held_out, train = told[: trial.rows // 5], told[trial.rows // 5 :]
        for until, asked in (("end", []), ("early", held_out)):
            settings = TrainSettings(seed=seed)
            proxy = train_proxy(plan, train, base=trial.base, unlabelled=texts, held_out=asked, settings=settings)
            scores[f"{how}_{until}"] = score_of(proxy, plan, test).value
    trial.on_score(task.title, seed, **scores)
    return list(scores.values())


def spoilt(plan: Plan, annotations: Sequence[Annotation], seed: int) -> list[Annotation]:
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
                {k: tuple(s for s in found if rng.random() >= WRONG) for k, found in a.answers.spans.items()},
            ),
        )
        for a in annotations
    ]
