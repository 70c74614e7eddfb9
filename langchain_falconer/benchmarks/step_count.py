"""Cost of steps: a plan of six steps against a plan of one, over the same texts."""

from __future__ import annotations

import gzip
import json
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_falconer.annotate import HUMAN, Annotation
from langchain_falconer.benchmarks.human_labels import HumanRow, data_file, rows_of
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.execute import choose_backend
from langchain_falconer.model import Proxy
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import train_proxy

TEXTS = 5_000
REPEATS = 5
_TOPICS = ("food", "service", "price", "ambience")


def run(data: Path) -> BenchmarkTable:
    """Time both plans over 5,000 short posts, in turns; medians of five rounds and the range of their ratio.

    The proxies are trained briefly on restaurant sentences: what they answer does not matter to the time they take
    as much as that they answer every step.
    """
    texts = short_posts(data, TEXTS)
    annotations = reviews(data)[:200]
    with TemporaryDirectory() as folder:
        one, six = (_ready(plan, annotations, Path(folder) / str(len(plan.steps)), texts) for plan in plans())
        rounds = [(_seconds(one, texts), _seconds(six, texts)) for _ in range(REPEATS)]
    ratios = [b / a for a, b in rounds]
    pace = [len(texts) / statistics.median(column) for column in zip(*rounds, strict=True)]
    rows = [("1", f"{pace[0]:,.0f}"), ("6", f"{pace[1]:,.0f}")]
    verdict = (
        f"6 steps take {statistics.median(ratios):.2f}x the time of 1 (range {min(ratios):.2f} to {max(ratios):.2f})"
    )
    return {
        "title": f"{len(texts):,} short posts, {REPEATS} rounds, backend {one.session.name}",
        "columns": ["steps", "texts/s"],
        "rows": rows,
        "verdict": verdict,
        "ratios": ratios,
    }


def short_posts(data: Path, most: int) -> list[str]:
    """The first posts of the large corpus.

    Raises:
        CorpusError: the data is not there.
    """
    with gzip.open(data_file(data, "short_posts", "corpus.jsonl.gz"), "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in islice(lines, most)]


def reviews(data: Path) -> list[Annotation]:
    """Restaurant sentences that answer the plan of six steps.

    Raises:
        CorpusError: the data is not there.
    """
    return [_annotation(row) for row in rows_of(data, "semeval14_restaurants", "train")]


def plans() -> tuple[Plan, Plan]:
    """A plan of one step, and one of six that has it too."""
    aspect = SpanStep(id="aspect", instruction="Extract what the reviewer talks about.")
    topics = tuple(LabelStep(id=t, instruction=f"Is this about the {t}?") for t in _TOPICS)
    feeling = LabelStep(
        id="feeling",
        instruction="How does the reviewer feel?",
        labels=("positive", "negative", "other"),
    )
    return Plan(instruction="aspects", steps=(aspect,)), Plan(instruction="all", steps=(aspect, *topics, feeling))


def _annotation(row: HumanRow) -> Annotation:
    feeling = row["labels"]["aspect_sentiment"]
    labels = {t: Label(t in row["labels"]["category"]) for t in _TOPICS}
    labels["feeling"] = Label(feeling if feeling in ("positive", "negative") else "other")
    spans = tuple(Span.at(row["text"], s["start"], s["end"]) for s in row["spans"])
    return Annotation(row["text"], Answers(labels, {"aspect": spans}), HUMAN)


def restricted(plan: Plan, annotations: Sequence[Annotation]) -> list[Annotation]:
    """Keep the annotations of a plan's own steps."""
    ids = {s.id for s in plan.steps}
    return [
        Annotation(a.text, Answers({k: v for k, v in a.answers.labels.items() if k in ids}, a.answers.spans), a.source)
        for a in annotations
    ]


def _ready(plan: Plan, annotations: list[Annotation], folder: Path, texts: list[str]) -> Proxy:
    proxy = train_proxy(plan, restricted(plan, annotations), settings=TrainSettings(epochs=3))
    proxy.save(folder)
    proxy.export()
    choose_backend(proxy, texts[:192])
    return proxy


def _seconds(proxy: Proxy, texts: list[str]) -> float:
    began = time.perf_counter()
    proxy.run(texts)
    return time.perf_counter() - began
