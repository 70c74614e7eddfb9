"""The whole job with a real LLM: it plans and annotates sentences, and both it and the proxy face human labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_falconer.benchmarks.human_labels import data_file, rows_of
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.errors import RunError
from langchain_falconer.evaluate import span_scores
from langchain_falconer.falconer import Falconer, ProgressCallback
from langchain_falconer.llm import LLM
from langchain_falconer.plan import SpanStep
from langchain_falconer.records import ResultRow
from langchain_falconer.settings import MineSettings

INSTRUCTION = "Extract the aspects of the restaurant that the reviewer talks about."


def run(
    data: Path, llm: LLM, home: Path, *, annotations: int = 300, on_event: ProgressCallback | None = None
) -> BenchmarkTable:
    """Mine the 3,034 training sentences of semeval14_restaurants, and score against their human aspects.

    F1 is of exact spans. The LLM is scored on the sentences that it annotated, the proxy on all others.

    Raises:
        CorpusError: the data is not there.
        RunError: the LLM's plan extracts nothing.
    """
    corpus = data_file(data, "semeval14_restaurants", "train.jsonl")
    settings = MineSettings.model_validate({"annotations": annotations, "annotate": {"texts_per_call": 1}})
    result = Falconer(llm, home=home, settings=settings).mine(INSTRUCTION, corpus, on_event=on_event)
    step = next((s.id for s in result.plan.top_level if isinstance(s, SpanStep)), None)
    if step is None:
        raise RunError("the LLM's plan extracts nothing; try again with a larger model")
    gold = [[(s["start"], s["end"]) for s in row["spans"]] for row in rows_of(data, "semeval14_restaurants", "train")]
    predictions = [(row["decided_by"].get(step), _spans(row, step)) for row in result.rows()]
    rows = [_scored(who, label, gold, predictions) for who, label in (("llm", "LLM"), ("proxy", "proxy"))]
    pace = result.summary.pace
    proxy_seconds, llm_seconds = 1 / (pace.texts_per_second or math.nan), pace.llm_seconds_per_text or math.nan
    rows[0].append(f"{llm_seconds:.2f}")
    rows[1].append(f"{proxy_seconds:.5f}")
    return {
        "title": f"{llm.name} and its proxy against human labels: {INSTRUCTION}",
        "columns": ["who", "sentences", "precision", "recall", "F1", "95% interval", "seconds a text"],
        "rows": rows,
        "verdict": f"the proxy takes 1/{llm_seconds / proxy_seconds:,.0f} of the LLM's time a text",
        "summary": result.summary.model_dump(mode="json"),
    }


def _spans(row: ResultRow, step: str) -> list[tuple[int, int]]:
    return [(s["start"], s["end"]) for s in row["spans"].get(step, [])]


def _scored(who: str, label: str, gold: Sequence[Any], predictions: Sequence[tuple[str | None, Any]]) -> list[str]:
    rows = [i for i, (decided, _) in enumerate(predictions) if decided == who]
    scores = span_scores([gold[i] for i in rows], [predictions[i][1] for i in rows])
    f1 = scores.f1
    return [
        label,
        f"{len(rows):,}",
        f"{scores.precision.value:.3f}",
        f"{scores.recall.value:.3f}",
        f"{f1.value:.3f}",
        f"{f1.low:.3f} to {f1.high:.3f}",
    ]
