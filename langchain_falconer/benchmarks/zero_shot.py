"""Quality before any training, on every dataset of a folder, be it in the recipe of the base or not."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.harness import TEST_ROWS, Trial, annotated, score_of
from langchain_falconer.benchmarks.human_labels import HumanRow, plan_of
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.errors import CorpusError
from langchain_falconer.evaluate import Proportion
from langchain_falconer.model import PLAIN_BASE, Embedder, Proxy
from langchain_falconer.model.encoder import base_folder
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.pretrain import read_rows

_MAX_CHARS = 3_000


@dataclass(frozen=True)
class _Result:
    """A scored task; ``cosine`` is the accuracy of the plain encoder's cosine, for labels."""

    title: str
    is_in_recipe: bool
    score: Proportion
    cosine: float | None

    def row(self) -> list[str]:
        interval = f"{self.score.low:.3f} to {self.score.high:.3f}"
        cosine = "" if self.cosine is None else f"{self.cosine:.3f}"
        return [self.title, "yes" if self.is_in_recipe else "no", f"{self.score.value:.3f}", interval, cosine]


def zero_shot(trial: Trial) -> BenchmarkTable:
    """Score every dataset of a folder from the words of its questions alone.

    At most 1,000 texts of up to 3,000 characters each: test rows, or train rows where a dataset has no others. Spans
    count by F1 of exact ones, tasks with one right class by accuracy, beside the cosine of text and class description
    in the space of :data:`PLAIN_BASE`. The verdict is about the datasets that the recipe of the base does not contain
    (leave-sets-out).

    Raises:
        CorpusError: There is no dataset in the folder.
    """
    folders = [
        m.parent for m in sorted(trial.data.glob("*/meta.json")) if not trial.sets or m.parent.name in trial.sets
    ]
    if not folders:
        raise CorpusError(
            f"{trial.data} holds no dataset; name the folder of the datasets with --data", path=trial.data
        )
    read, embed = _datasets_of(trial.base), Embedder(PLAIN_BASE)
    results = []
    for folder in folders:
        for title, plan, test in _tasks(folder):
            score = score_of(Proxy.zero_shot(plan, base=trial.base), plan, test)
            is_label = isinstance(plan.steps[0], LabelStep)
            results.append(_Result(title, folder.name in read, score, _cosine(plan, test, embed) if is_label else None))
            trial.on_score(title, 0, score=score.value)
    return {
        "title": f"{trial.base}, nothing trained",
        "columns": ["dataset", "in the recipe", "score", "95% interval", "cosine of the base"],
        "rows": [r.row() for r in results],
        "verdict": _verdict([r for r in results if not r.is_in_recipe]),
        "scores": {r.title: r.score.value for r in results},
    }


def _datasets_of(base: str) -> set[str]:
    file = Path(base_folder(base)) / "recipe.json"
    sources = json.loads(file.read_text("utf-8"))["sources"] if file.is_file() else {}
    return {name.split("/")[0] for name in sources}


def _tasks(folder: Path) -> Iterator[tuple[str, Plan, list[Annotation]]]:
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    rows = cast("list[HumanRow]", list(read_rows(folder, "test")) or list(read_rows(folder, "train")))
    random.Random(0).shuffle(rows)
    rows = [row for row in rows if len(row["text"]) <= _MAX_CHARS]
    instructions = meta.get("instructions", {})
    if instructions.get("spans"):
        own: list[HumanRow] = [
            {**row, "spans": [s for s in row["spans"] if s["label"] in instructions["spans"]]}
            for row in rows[:TEST_ROWS]
        ]
        plan = plan_of(meta, None)
        yield f"{folder.name} spans", plan, annotated(own, plan, None)
    for task, about in instructions.get("labels", {}).items():
        own = [r for r in rows if isinstance(c := r["labels"].get(task), str) and c in about["classes"]][:TEST_ROWS]
        if own:
            plan = plan_of(meta, task)
            yield f"{folder.name} {task}", plan, annotated(own, plan, task)


def _verdict(results: list[_Result]) -> str:
    spans = [r.score.value for r in results if r.cosine is None]
    labels = [(r.score.value, r.cosine) for r in results if r.cosine is not None]
    if not results:
        return "the recipe of the base contains all of these datasets"
    parts = [f"not in the recipe: {len(results)} tasks"]
    if spans:
        parts.append(f"mean F1 of {len(spans)} of spans {statistics.mean(spans):.3f}")
    if labels:
        below = sum(score < cosine for score, cosine in labels)
        mean = statistics.mean(score for score, _ in labels)
        parts.append(f"mean accuracy of {len(labels)} of labels {mean:.3f}, {below} below the cosine of the base")
    return ", ".join(parts)


def _cosine(plan: Plan, test: list[Annotation], embed: Embedder) -> float:
    step = plan.steps[0]
    assert isinstance(step, LabelStep)
    assert step.labels
    options = embed([o.description or o.name for o in step.labels])
    best = np.argmax(embed([a.text for a in test]) @ options.T, axis=1)
    return float(np.mean([step.names[b] == a.answers.labels[step.id].value for b, a in zip(best, test, strict=True)]))
