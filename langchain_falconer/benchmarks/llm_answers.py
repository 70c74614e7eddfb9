"""Answers of a real LLM against people's, step by step: what a proxy can learn from it at best."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.annotate import AnnotationStore, Annotator, Budget
from langchain_falconer.benchmarks.harness import Set, annotated, question, rows_in
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.evaluate import F1Scores, StepQuality, evaluate_plan
from langchain_falconer.files import digest
from langchain_falconer.llm import LLM
from langchain_falconer.settings import AnnotateSettings, BudgetSettings


@dataclass(frozen=True)
class Part:
    """A set, its task, and those of its span types that are asked about; all where there are none."""

    task: Set
    types: tuple[str, ...] = ()


PARTS = (
    Part(Set("semeval14_restaurants", None)),
    Part(Set("crossner_politics", None), ("politician", "politicalparty", "election")),
    Part(Set("sms_spam", "spam")),
    Part(Set("sst", "sentiment")),
    Part(Set("semeval14_restaurants", "aspect_sentiment")),
)


def run(
    data: Path, llm: LLM, home: Path, *, texts: int, settings: AnnotateSettings, parts: Sequence[Part] = PARTS
) -> BenchmarkTable:
    """Have an LLM annotate training rows of each set, the same ones each time, and score it against people.

    F1 is of exact spans, of a label its accuracy; answers are stored in ``home``, so that none is paid for twice.

    Raises:
        CorpusError: The data is not there.
        FalconerError: The LLM stopped answering.
    """
    rows = []
    with AnnotationStore(home / "annotations.sqlite") as store:
        for part in parts:
            whole = question(data, part.task)
            steps = tuple(step for step in whole.steps if not part.types or step.id in part.types)
            plan = whole.model_copy(update={"steps": steps})
            drawn = rows_in(data, part.task, "train")
            random.Random(0).shuffle(drawn)
            gold = annotated(drawn[:texts], whole, part.task.label)
            budget = Budget(store, digest("answers", llm.name), BudgetSettings(), priced=llm.price() is not None)
            report = Annotator(llm, store, plan, budget, settings).annotate([a.text for a in gold])
            if report.error is not None:
                raise report.error
            quality = evaluate_plan(plan, [a.answers for a in gold], [a.answers for a in report.annotations])
            rows += [_row(part.task.name, name, step) for name, step in quality.steps.items()]
    return {
        "title": f"{llm.name} against people: {texts} training rows each",
        "columns": ["data set", "step", "texts", "metric", "score", "95% interval", "precision", "recall"],
        "rows": rows,
        "verdict": "no proxy that learns from these answers can be expected to be much better",
    }


def _row(name: str, step: str, quality: StepQuality) -> list[str]:
    score, details = quality.score, quality.details
    spans = (
        (f"{details.precision.value:.2f}", f"{details.recall.value:.2f}") if isinstance(details, F1Scores) else ("", "")
    )
    return [
        name,
        step,
        str(quality.n),
        quality.metric,
        f"{score.value:.3f}",
        f"{score.low:.3f} to {score.high:.3f}",
        *spans,
    ]
