"""The sieve on real posts: a selective plan with and without it, what it gains and what it loses."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain_falconer.annotate import Annotation
from langchain_falconer.benchmarks.labels import rows_of
from langchain_falconer.benchmarks.steps import reviews, short_posts
from langchain_falconer.corpus import open_corpus
from langchain_falconer.evaluate import proportion
from langchain_falconer.execute import Run, RunReport, RunSettings, choose_backend, read_rows
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.proxy import Proxy, TrainSettings, train_proxy
from langchain_falconer.records import Answers, Label

_FOOD = LabelStep(id="food", instruction="Is this about food or eating out?")
_NAMED = SpanStep.model_validate(
    {"id": "named", "instruction": "Extract what is eaten", "where": {"step": "food", "equals": True}}
)
PLAN = Plan(instruction="What do posts about food speak of?", steps=(_FOOD, _NAMED))
_LEARNT = 150
_OTHERS = {"broad_twitter": 80, "toxic_spans": 40, "clinc150": 30}


def run(data: Path, *, texts: int) -> dict[str, Any]:
    """Run a plan that few posts pass, with ``sieve`` off and on ``auto``, over the same short posts.

    The proxy learns from restaurant sentences, which are about food, and from as many tweets and requests, which are
    not. Seconds are those of whole runs in this process, the making of the sieve included; those of the CPU tell more
    on a machine that does other work, too.

    Raises:
        CorpusError: the data is not there.
    """
    posts = short_posts(data, texts)
    with TemporaryDirectory() as name:
        folder = Path(name)
        proxy = train_proxy(PLAN, _labels(data), settings=TrainSettings(epochs=4))
        proxy.save(folder / "proxy")
        proxy.export()
        choose_backend(proxy, posts[:192])
        _timed(proxy, posts[:200], folder, RunSettings())  # what is made once
        whole, without = _timed(proxy, posts, folder, RunSettings())
        sifted, with_it = _timed(proxy, posts, folder, RunSettings(sieve="auto"))
        rows = [list(read_rows(one.output)) for one in (whole, sifted) if one.output]
    kept = [after["labels"]["food"]["value"] for before, after in zip(*rows, strict=True) if _passes(before)]
    matched = [after["match"] for before, after in zip(*rows, strict=True) if before["match"]]
    lost = proportion(kept.count(False), len(kept))
    facts = sifted.sieve or {}
    return {
        "title": f"{len(posts):,} short posts, {len(kept) / len(posts):.1%} of them about food, backend "
        f"{proxy.session.name}",
        "columns": ["sieve", "seconds", "CPU seconds", "passed and lost", "matched and lost"],
        "rows": [
            ("off", f"{without[0]:.1f}", f"{without[1]:.1f}", "", ""),
            (
                "auto",
                f"{with_it[0]:.1f}",
                f"{with_it[1]:.1f}",
                f"{kept.count(False)} of {len(kept)} ({lost.value:.2%}, {lost.interval.low:.2%} to "
                f"{lost.interval.high:.2%})",
                f"{matched.count(False)} of {len(matched)}",
            ),
        ],
        "verdict": f"{without[0] / with_it[0]:.2f} times the pace, {without[1] / with_it[1]:.2f} by CPU seconds, its "
        f"making included; {facts.get('said', '')}",
        "sieve": facts,
    }


def _passes(row: dict[str, Any]) -> bool:
    return "labels" in row and bool(row["labels"]["food"]["value"])


def _labels(data: Path) -> list[Annotation]:
    draw = random.Random(0)
    food = [
        Annotation(a.text, Answers({"food": Label(True)}, {"named": a.answers.spans["aspect"]}), "human")
        for a in draw.sample(reviews(data), _LEARNT)
    ]
    others = [row["text"] for name, n in _OTHERS.items() for row in draw.sample(rows_of(data, name, "train"), n)]
    return [*food, *(Annotation(text, Answers({"food": Label(False)}), "human") for text in others)]


def _timed(
    proxy: Proxy, posts: Sequence[str], folder: Path, settings: RunSettings
) -> tuple[RunReport, tuple[float, float]]:
    """What a run did, and its seconds, by the clock and of the CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    done = Run(proxy, open_corpus(posts), folder / str(len(posts)), settings)(folder / f"{settings.sieve}.jsonl")
    return done, (time.perf_counter() - began, time.process_time() - cpu)
