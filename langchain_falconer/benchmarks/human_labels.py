"""Human labels instead of an LLM: train on a few hundred rows, score on test rows never seen."""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.errors import CorpusError
from langchain_falconer.evaluate import label_scores, span_scores
from langchain_falconer.falconer import Falconer
from langchain_falconer.plan import LabelOption, LabelStep, Plan, SpanStep
from langchain_falconer.settings import MineSettings


class LabelTask(TypedDict):
    """A label task of a data set: its question, and what each class means."""

    prompt: str
    classes: dict[str, str]


class Instructions(TypedDict):
    """The questions of a data set: label tasks, and span types with their instructions."""

    labels: dict[str, LabelTask]
    spans: dict[str, str]


class DataSetMeta(TypedDict):
    """The description of a data set, as far as benchmarks read it."""

    instructions: Instructions


class HumanSpan(TypedDict):
    """A span that a person marked."""

    start: int
    end: int
    text: str
    label: str


class HumanRow(TypedDict):
    """A row of a data set with its human labels."""

    text: str
    labels: dict[str, str | list[str]]
    spans: list[HumanSpan]


class AnnotationRow(TypedDict):
    """A line of a file of annotations."""

    text: str
    labels: NotRequired[dict[str, bool | str | list[str]]]
    spans: NotRequired[dict[str, list[list[int]]]]


@dataclass(frozen=True)
class _Task:
    """A data set, its task (a label task, or None for its spans), and the score to reach."""

    name: str
    label: str | None
    target: float


TASKS = (
    _Task("semeval14_restaurants", None, 0.78),
    _Task("mit_movie_trivia", None, 0.60),
    _Task("ag_news", "topic", 0.86),
    _Task("snips", "intent", 0.95),
)


def run(data: Path, *, seeds: int = 1, rows: int = 500) -> BenchmarkTable:
    """Mine the test rows of each set with ``rows`` human annotations of its training rows.

    The score is F1 of exact spans, or accuracy, with the 95% interval over test rows of the first seed; with several
    seeds their mean and range.

    Raises:
        CorpusError: the data is not there.
    """
    results = [_measured(data, task, seeds, rows) for task in TASKS]
    table = [
        (
            r["name"],
            r["metric"],
            f"{r['mean']:.3f}" + (f" ({min(r['scores']):.3f} to {max(r['scores']):.3f})" if seeds > 1 else ""),
            f"{r['low']:.3f} to {r['high']:.3f}",
            f"{r['target']:.2f}",
            f"{r['seconds']:.0f}",
        )
        for r in results
    ]
    reached = sum(r["mean"] >= r["target"] for r in results)
    return {
        "title": f"{rows} human labels, {seeds} seed(s)",
        "columns": ["data set", "metric", "score", "95% interval", "target", "training s"],
        "rows": table,
        "verdict": f"{reached} of {len(results)} targets reached",
        "tasks": results,
    }


def data_file(data: Path, *parts: str) -> Path:
    """A file in the folder of the data sets. Raises ``CorpusError`` if it is not there."""
    path = data.joinpath(*parts)
    if not path.is_file():
        raise CorpusError(f"{path} is not there; name the folder of the data sets with --data")
    return path


def meta_of(data: Path, name: str) -> DataSetMeta:
    """Read the meta data of a dataset. Raises ``CorpusError`` if it is not there."""
    meta: DataSetMeta = json.loads(data_file(data, name, "meta.json").read_text("utf-8"))
    return meta


def rows_of(data: Path, name: str, *parts: str) -> list[HumanRow]:
    """The rows of a data set's ``train``, ``test``, or both. Raises ``CorpusError`` if it is not there."""
    rows: list[HumanRow] = []
    for part in parts:
        with data_file(data, name, f"{part}.jsonl").open(encoding="utf-8") as lines:
            rows += map(json.loads, lines)
    return rows


def _measured(data: Path, task: _Task, seeds: int, rows: int) -> dict[str, Any]:
    plan, corpus = plan_of(meta_of(data, task.name), task.label), data_file(data, task.name, "test.jsonl")
    train, test = (rows_of(data, task.name, part) for part in ("train", "test"))
    runs = [_one(plan, task, train, test, corpus, seed, rows) for seed in range(seeds)]
    scores = [estimate.value for estimate, _ in runs]
    low, high = runs[0][0].interval
    return {
        "name": task.name,
        "metric": "accuracy" if task.label else "F1",
        "mean": sum(scores) / len(scores),
        "scores": scores,
        "low": low,
        "high": high,
        "target": task.target,
        "seconds": max(seconds for _, seconds in runs),
    }


def _one(
    plan: Plan, task: _Task, train: list[Any], test: list[Any], corpus: Path, seed: int, rows: int
) -> tuple[Any, float]:
    train = [*train]
    random.Random(seed).shuffle(train)
    with tempfile.TemporaryDirectory() as home:
        annotations = Path(home) / "annotations.jsonl"
        with annotations.open("w", encoding="utf-8") as out:
            for row in train[:rows]:
                out.write(json.dumps(annotation_of(row, plan, task.label), ensure_ascii=False) + "\n")
        # No test text is seen in training, not even without its labels.
        settings = MineSettings.model_validate({"seed": seed, "train": {"seed": seed}, "unlabelled": 0})
        falconer = Falconer(annotations=annotations, home=home, settings=settings)
        result = falconer.mine(plan.instruction, corpus, plan=plan)
        assert result.summary.training is not None
        seconds = result.summary.training.seconds
        predicted: list[Any] = list(result.rows())
    if task.label:
        step = plan.steps[0].id
        gold = [row["labels"][task.label] for row in test]
        return label_scores(gold, [row["labels"][step]["value"] for row in predicted]).accuracy, seconds
    pairs = [(step.id, i) for i in range(len(test)) for step in plan.steps]
    gold = [annotation_of(row, plan, None)["spans"] for row in test]
    gold_spans = [[tuple(s) for s in gold[i][step]] for step, i in pairs]
    predicted_spans = [[(s["start"], s["end"]) for s in predicted[i]["spans"][step]] for step, i in pairs]
    return span_scores(gold_spans, predicted_spans, texts=[i for _, i in pairs]).f1, seconds


def plan_of(meta: DataSetMeta, label: str | None) -> Plan:
    """The plan that asks a data set's own question: one label task, or all its span types."""
    if label:
        task = meta["instructions"]["labels"][label]
        classes = task["classes"] if isinstance(task["classes"], dict) else dict.fromkeys(task["classes"])
        options = tuple(LabelOption(name=k, description=v if v != k else None) for k, v in classes.items())
        step = LabelStep(id=_id(label), instruction=task["prompt"], labels=options)
        return Plan(instruction=task["prompt"], steps=(step,))
    spans = meta["instructions"]["spans"]
    steps = tuple(SpanStep(id=_id(name), instruction=instruction) for name, instruction in spans.items())
    return Plan(instruction=f"Extract {', '.join(spans)}", steps=steps)


def annotation_of(row: HumanRow, plan: Plan, label: str | None) -> AnnotationRow:
    """A human-labelled row as an annotation of ``plan``."""
    if label:
        return {"text": row["text"], "labels": {_id(label): row["labels"][label]}}
    spans: dict[str, list[list[int]]] = {step.id: [] for step in plan.steps}
    for span in row["spans"]:
        spans[_id(span["label"])].append([span["start"], span["end"]])
    return {"text": row["text"], "spans": spans}


def _id(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
