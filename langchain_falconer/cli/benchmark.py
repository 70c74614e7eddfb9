"""``falconer benchmark``: measure Falconer on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli.console import print_benchmark, print_score, progress_bars, stderr
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import (
    AsJson,
    Base,
    Concurrency,
    Data,
    Home,
    LLMName,
    Rows,
    Seeds,
    Sets,
    Timeout,
    make_llm,
)
from langchain_falconer.errors import SettingsError
from langchain_falconer.settings import DEFAULT_BASE

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM

app = typer.Typer(no_args_is_help=True, help="Measure Falconer on this machine.")


class Part(str, Enum):
    """A part of the benchmark of proxies."""

    zero_shot = "zero-shot"
    few = "few"
    noisy_labels = "noisy-labels"
    calibration = "calibration"
    rounds = "rounds"
    continual = "continual"
    pace = "pace"


class PlanningPart(str, Enum):
    """A part of the planning benchmark."""

    development = "development"
    test = "test"


@app.command()
def planning(
    llm: LLMName = None,
    part: Annotated[
        PlanningPart, typer.Option("--part", help="A third of the instructions for tuning, or the others.")
    ] = PlanningPart.development,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Plan instructions over twelve kinds of texts, and compare the rows of the plans with those of right ones."""
    from langchain_falconer.benchmarks import planning

    def show(outcome: planning.Outcome) -> None:
        stderr.print(f"{outcome.case.id}: {outcome.reason or 'right'}", markup=False, highlight=False)

    print_benchmark(planning.run(_required(llm, timeout_s=timeout), part.value, show), as_json=as_json)


@app.command()
def coverage(
    runs: Annotated[int, typer.Option("--runs", help="Corpora per setting.", min=1)] = 500, as_json: AsJson = False
) -> None:
    """Simulate corpora, and count how often the intervals of corrected counts hold the true ones."""
    from langchain_falconer.benchmarks import coverage as simulated

    print_benchmark(simulated.run(runs), as_json=as_json)


@app.command()
def labels(data: Data, seeds: Seeds = 1, rows: Rows = 500, as_json: AsJson = False) -> None:
    """Train on human labels of four public datasets, and score on their test rows."""
    from langchain_falconer.benchmarks import human_labels

    print_benchmark(human_labels.run(data, seeds=seeds, rows=rows), as_json=as_json)


@app.command()
def guarantee(
    data: Data,
    seeds: Seeds = 3,
    rows: Rows = 300,
    certify: Annotated[int, typer.Option("--certify", min=1, help="Rows drawn to certify targets.")] = 300,
    joint: Annotated[bool, typer.Option("--joint", help="Compare one error budget with a split, untrained.")] = False,
    as_json: AsJson = False,
) -> None:
    """Certify targets on two public datasets with human labels, and check whether the guarantees hold."""
    from langchain_falconer.benchmarks import certification, joint_targets

    if joint:
        print_benchmark(joint_targets.run(data, certify=certify), as_json=as_json)
        return
    print_benchmark(certification.run(data, seeds=seeds, rows=rows, certify=certify), as_json=as_json)


@app.command()
def live(
    data: Data,
    llm: LLMName = None,
    annotate: Annotated[int, typer.Option("--annotate", help="Sentences that the LLM annotates.", min=10)] = 300,
    home: Home = None,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Run the whole job on 3,034 restaurant sentences with a real LLM; score it and its proxy on human labels."""
    from langchain_falconer.benchmarks import live_llm
    from langchain_falconer.graph import Home as HomeFolder

    model = _required(llm, timeout_s=timeout)
    with progress_bars() as bars:
        table = live_llm.run(data, model, HomeFolder.at(home).folder, annotations=annotate, on_event=bars)
    print_benchmark(table, as_json=as_json)


@app.command()
def answers(
    data: Data,
    llm: LLMName = None,
    texts: Annotated[int, typer.Option("--texts", help="Training rows of each dataset.", min=2)] = 300,
    texts_per_call: Annotated[int, typer.Option("--texts-per-call", help="Texts in one LLM call.", min=1)] = 4,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="Other prompts (JSON of Prompts).")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Only this dataset (repeatable).")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Score an LLM's annotations against people's: what a proxy can learn from it at best."""
    from langchain_falconer.benchmarks import llm_answers
    from langchain_falconer.graph import Home as HomeFolder
    from langchain_falconer.prompts import DEFAULT_PROMPTS, Prompts
    from langchain_falconer.settings import AnnotateSettings

    read = Prompts.model_validate_json(prompts.read_text("utf-8")) if prompts else DEFAULT_PROMPTS
    settings = AnnotateSettings(texts_per_call=texts_per_call, prompts=read)
    parts = [part for part in llm_answers.PARTS if not sets or part.task.name in sets]
    model, folder = _required(llm, timeout_s=600), HomeFolder.at(home).folder
    table = llm_answers.run(data, model, folder, texts=texts, settings=settings, parts=parts)
    print_benchmark(table, as_json=as_json)


@app.command()
def injection(
    data: Data,
    llm: LLMName = None,
    texts_per_call: Annotated[int, typer.Option("--texts-per-call", help="Texts in one LLM call.", min=1)] = 4,
    home: Home = None,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Count the answers about ordinary texts that change because hostile texts are annotated beside them."""
    from langchain_falconer.benchmarks import injection
    from langchain_falconer.graph import Home as HomeFolder

    folder = HomeFolder.at(home).folder
    table = injection.run(data, _required(llm, timeout_s=timeout), folder, texts_per_call=texts_per_call)
    print_benchmark(table, as_json=as_json)


@dataclass(frozen=True)
class DrawOptions:
    """Options for the rows that are drawn of each dataset."""

    annotate: Annotated[int, typer.Option("--annotate", help="Texts per dataset that the LLM annotates.", min=10)] = 120
    sample: Annotated[
        int, typer.Option("--sample", help="Texts per dataset from which asking about every text is projected.", min=10)
    ] = 120
    seeds: Seeds = 1
    sets: Sets = ""


@app.command()
@grouped
def agents(
    data: Data,
    draw: DrawOptions,
    llm: LLMName = None,
    home: Home = None,
    concurrency: Concurrency = 4,
    as_json: AsJson = False,
) -> None:
    """Count labels in three public datasets by an agent that reads, by the LLM on every text, and by Falconer."""
    from langchain_falconer.benchmarks import agent_costs
    from langchain_falconer.graph import Home as HomeFolder

    model = _required(llm, max_concurrency=concurrency)
    with progress_bars() as bars:
        counting = agent_costs.Counting(
            data,
            model,
            HomeFolder.at(home).folder,
            annotations=draw.annotate,
            sample=draw.sample,
            seeds=draw.seeds,
            sets=tuple(filter(None, draw.sets.split(","))),
            on_event=bars,
        )
        table = agent_costs.run(counting)
    print_benchmark(table, as_json=as_json)


@app.command()
def rare(
    data: Data,
    texts: Annotated[int, typer.Option("--texts", help="Posts, planted ones included.", min=1_000)] = 50_000,
    seeds: Seeds = 1,
    sets: Sets = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Find texts of half a percent of a corpus with 300 answers: with candidates from the index, and without."""
    from langchain_falconer.benchmarks import rare_labels
    from langchain_falconer.graph import Home as HomeFolder

    kinds = tuple(filter(None, sets.split(",")))
    with progress_bars() as bars:
        folder = HomeFolder.at(home).folder
        planting = rare_labels.Planting(data, folder, texts, seeds=seeds, kinds=kinds, on_event=bars)
        table = rare_labels.run(planting, print_score)
    print_benchmark(table, as_json=as_json)


@app.command()
def sembench(
    data: Data,
    llm: LLMName = None,
    annotate: Annotated[int, typer.Option("--annotate", help="Reviews that are annotated.", min=20)] = 256,
    seeds: Seeds = 3,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Answer the ten queries of SemBench about 2,000 film reviews; --data is a checkout of its repository.

    Without --llm the critics' own verdicts are the annotations, in the place of a strong LLM's.
    """
    from langchain_falconer.benchmarks import sembench as movies
    from langchain_falconer.settings import MineSettings

    model = make_llm(llm, timeout_s=timeout) if llm else None
    with progress_bars() as bars:
        job = MineSettings(annotations=annotate)
        settings = movies.Sembench(data, job, seeds, model, on_event=bars, on_score=print_score)
        table = movies.run(settings)
    print_benchmark(table, as_json=as_json)


@app.command()
def steps(data: Data, as_json: AsJson = False) -> None:
    """Time a plan of 6 steps against one of 1 step, over the same 5,000 texts."""
    from langchain_falconer.benchmarks import step_count

    print_benchmark(step_count.run(data), as_json=as_json)


@app.command()
def throughput(
    data: Data,
    texts: Annotated[int, typer.Option("--texts", help="Posts to run over, 240,398 at most.", min=1_000)] = 20_000,
    rounds: Annotated[int, typer.Option("--rounds", help="Repetitions.", min=1)] = 3,
    as_json: AsJson = False,
) -> None:
    """Run a trained plan over short posts: throughput beside a plain pipeline, memory, start-up."""
    from langchain_falconer.benchmarks import throughput

    print_benchmark(throughput.run(data, texts=texts, rounds=rounds, on_score=print_score), as_json=as_json)


@app.command()
def proxy(
    data: Data,
    part: Annotated[Part, typer.Option("--part", help="What to measure.")] = Part.zero_shot,
    rows: Rows = 100,
    seeds: Seeds = 5,
    sets: Sets = "",
    base: Base = DEFAULT_BASE,
    as_json: AsJson = False,
) -> None:
    """Measure proxies: zero-shot, from few human labels, task after task; what their scores are worth."""
    from langchain_falconer.benchmarks import Trial, continual, later_rounds, noisy_labels, proxy_quality, zero_shot

    trial = Trial(data, base, rows, seeds, tuple(filter(None, sets.split(","))), print_score)
    measure = {
        Part.zero_shot: zero_shot.zero_shot,
        Part.few: proxy_quality.few,
        Part.noisy_labels: noisy_labels.noisy_labels_scores,
        Part.calibration: proxy_quality.calibration,
        Part.rounds: later_rounds.second_round,
        Part.continual: continual.continual_learning,
        Part.pace: continual.pace,
    }[part]
    print_benchmark(measure(trial), as_json=as_json)


def _required(llm: str | None, **settings: float) -> LLM:
    if llm is None:
        raise SettingsError("this benchmark needs an LLM; name one with --llm")
    return make_llm(llm, **settings)
