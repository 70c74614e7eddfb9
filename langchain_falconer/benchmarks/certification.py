"""The cascade on human labels: what is certified from a draw, and what the labels of all texts say of it."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer.annotate import Annotation, read_annotations
from langchain_falconer.benchmarks.human_labels import AnnotationRow, HumanRow, annotation_of, meta_of, plan_of, rows_of
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.corpus import open_corpus
from langchain_falconer.evaluate import Proportion, proportion
from langchain_falconer.execute import Cascade, Run, choose_backend, read_rows
from langchain_falconer.plan import LabelStep, Plan, matches
from langchain_falconer.settings import Targets, TrainSettings
from langchain_falconer.train import calibrate, train_proxy

_HELD_OUT = 0.2  # of the labels to learn from, as in a run


@dataclass(frozen=True)
class Task:
    """A data set, the label task and class (yes or no; or None for its spans), and targets."""

    name: str
    label: tuple[str, str] | None
    targets: Mapping[str, float]


TASKS = (
    Task("sms_spam", ("spam", "spam"), {"agreement": 0.98, "recall": 0.9, "precision": 0.9}),
    Task("semeval14_restaurants", None, {"agreement": 0.9, "spans": 0.9}),
)


def run(data: Path, *, seeds: int = 3, rows: int = 300, certify: int = 300) -> BenchmarkTable:
    """Certify targets at 95% confidence, with the human labels as the one to agree with, over all rows of each set.

    By each seed, ``rows`` labels are sampled to learn from (a fifth of them to calibrate), and ``certify`` more for the
    certificates. What the proxy is not sure enough of is answered by the labels. What is achieved is the worst seed's.

    Raises:
        CorpusError: the data is not there.
    """
    results = [one for task in TASKS for one in _measured(data, task, seeds, rows, certify)]
    table = [
        (
            one["name"],
            f"{one['kind']} {one['target']:.2f}",
            f"{one['certified']} of {seeds}",
            f"{one['achieved']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
            f"{one['alone']:.3f}",
            f"{one['sent']:.1%}",
            f"{one['annotated']:.1%}",
            f"{one['training_seconds']:.0f}",
            f"{one['run_seconds']:.0f}",
        )
        for one in results
    ]
    n_held = sum(one["held"] for one in results)
    return {
        "title": f"{rows} human labels to learn from, {certify} to certify at 95% confidence, {seeds} seed(s)",
        "columns": [
            "data set",
            "target",
            "certified",
            "achieved",
            "95% interval",
            "proxy alone",
            "sent for it",
            "annotated",
            "training s",
            "run s",
        ],
        "rows": table,
        "verdict": f"{n_held} of {sum(one['certified'] for one in results)} certified targets held",
        "tasks": results,
    }


def _measured(data: Path, task: Task, seeds: int, rows: int, certify: int) -> list[dict[str, Any]]:
    plan, gold = read_task(data, task, "train", "test")
    trials = [_one(plan, gold, task, seed, rows, certify) for seed in range(seeds)]
    return [_summed(task.name, [trial[kind] for trial in trials]) for kind in task.targets]


def _summed(name: str, tries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    worst: Proportion = min((one["achieved"] for one in tries), key=lambda estimate: estimate.value)
    certified = [one for one in tries if one["certified"]]
    return {
        "name": name,
        "kind": tries[0]["kind"],
        "target": tries[0]["target"],
        "certified": len(certified),
        "held": sum(one["achieved"].value >= one["target"] for one in certified),
        "achieved": worst.value,
        "low": worst.low,
        "high": worst.high,
        **{
            share: statistics.mean(one[share] for one in tries)
            for share in ("alone", "sent", "annotated", "training_seconds", "run_seconds")
        },
    }


def _one(
    plan: Plan, gold: list[Annotation], task: Task, seed: int, rows: int, certify: int
) -> dict[str, dict[str, Any]]:
    """Measure each target with one seed's labels."""
    labelled = random.Random(seed).sample(gold, rows)
    held_out = labelled[: round(rows * _HELD_OUT)]
    began = time.monotonic()
    proxy = train_proxy(plan, labelled[len(held_out) :], settings=TrainSettings(seed=seed))
    calibrate(proxy, held_out)
    training_seconds = time.monotonic() - began
    texts = [a.text for a in gold]
    places = random.Random(f"{seed} certify").sample(range(len(gold)), certify)
    annotation_of = dict(zip(texts, gold, strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        proxy.save(folder / "proxy")
        proxy.export()
        choose_backend(proxy, texts[:256], "auto")
        began = time.monotonic()
        scored = Run(proxy, open_corpus(texts=texts), folder / "shards", known=labelled, scored=True)
        report = scored()
        scoring_seconds = time.monotonic() - began
        results = {}
        for kind, target in task.targets.items():
            began = time.monotonic()
            targets = Targets.model_validate({kind: target, "escalate": 1.0})
            cascade = Cascade(scored, targets, {place: gold[place] for place in places}, folder / "completed")
            done, guarantee = cascade(
                lambda texts, limit: [annotation_of[t] for t in texts[:limit]], report, folder / "out.jsonl"
            )
            run_seconds = scoring_seconds + time.monotonic() - began
            assert done.output is not None
            results[kind] = {
                "kind": kind,
                "target": target,
                "certified": guarantee.certified,
                "achieved": _achieved(kind, plan, list(read_rows(done.output)), gold),
                "alone": _achieved(kind, plan, list(scored.rows), gold).value,
                "sent": guarantee.escalated / len(gold),
                "annotated": len({*places, *(texts.index(a.text) for a in labelled)}) / len(gold),
                "training_seconds": training_seconds,
                "run_seconds": run_seconds,
            }
    return results


def _achieved(kind: str, plan: Plan, rows: Sequence[Mapping[str, Any]], gold: Sequence[Annotation]) -> Proportion:
    """The share that a target is about, over all rows."""
    pairs = list(zip(rows, gold, strict=True))
    match kind:
        case "recall":
            right = [row["match"] for row, annotation in pairs if matches(plan, annotation.answers)]
        case "precision":
            right = [matches(plan, annotation.answers) for row, annotation in pairs if row["match"]]
        case "spans":
            right = [_spans(annotation) <= _found(row) for row, annotation in pairs]
        case _:
            right = [
                _spans(annotation) == _found(row)
                and all(
                    row["labels"][step]["value"] == label.value for step, label in annotation.answers.labels.items()
                )
                for row, annotation in pairs
            ]
    return proportion(sum(right), len(right))


def _spans(annotation: Annotation) -> set[tuple[str, int, int]]:
    return {(step, s.start, s.end) for step, spans in annotation.answers.spans.items() for s in spans}


def _found(row: Mapping[str, Any]) -> set[tuple[str, int, int]]:
    return {(step, s["start"], s["end"]) for step, spans in row["spans"].items() for s in spans}


def read_task(data: Path, task: Task, *parts: str) -> tuple[Plan, list[Annotation]]:
    """Return the plan of a task, and the annotations of all different texts of these parts of its set."""
    meta = meta_of(data, task.name)
    if task.label is None:
        plan = plan_of(meta, None)
    else:
        prompt = meta["instructions"]["labels"][task.label[0]]["prompt"]
        plan = Plan(instruction=prompt, steps=(LabelStep(id=task.label[0], instruction=prompt),))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "annotations.jsonl"
        with file.open("w", encoding="utf-8") as out:
            for row in rows_of(data, task.name, *parts):
                out.write(json.dumps(_annotation_row(row, plan, task), ensure_ascii=False) + "\n")
        return plan, list({a.text: a for a in read_annotations(file, plan)}.values())


def _annotation_row(row: HumanRow, plan: Plan, task: Task) -> AnnotationRow:
    if task.label is None:
        return annotation_of(row, plan, None)
    label, positive = task.label
    return {"text": row["text"], "labels": {label: row["labels"][label] == positive}}
