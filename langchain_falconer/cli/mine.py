"""``falconer mine``."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli import options
from langchain_falconer.cli.console import print_result, progress_bars, stderr, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.pipes import PIPE, check_rows_output, print_rows, stored_corpus
from langchain_falconer.cli.plan_review import TerminalReviewer
from langchain_falconer.errors import RunError
from langchain_falconer.settings import MineSettings


@dataclass(frozen=True)
class SettingsOptions:
    """Every option that is a setting."""

    annotation: options.AnnotationOptions
    budget: options.BudgetOptions
    targets: options.TargetOptions
    corpus: options.InputOptions
    train: options.TrainingOptions
    run: options.RunOptions

    def make(self) -> MineSettings:
        """Make the settings. Raises ``SettingsError`` where they contradict each other."""
        return options.mine_settings(
            annotations=self.annotation.annotate,
            max_rounds=self.annotation.max_rounds,
            round_annotations=self.annotation.round_annotations,
            targets={name: value for name, value in asdict(self.targets).items() if value is not None} or None,
            seed=self.train.seed,
            base=self.train.base,
            metrics=self.train.metrics(),
            corpus=asdict(self.corpus),
            annotate={"texts_per_call": self.annotation.texts_per_call, "batch": self.annotation.batch}
            | ({"pilot": 0} if self.annotation.no_pilot else {}),
            budget=asdict(self.budget),
            train={
                "seed": self.train.seed,
                "layers": self.train.layers,
                "max_minutes": self.train.train_minutes or None,
                "device": self.run.device,
            },
            run=asdict(self.run),
        )


@dataclass(frozen=True)
class SourceOptions:
    """Options for what is already there: a plan, annotations, and the home."""

    plan: Annotated[
        Path | None, typer.Option("--plan", help="A plan (JSON) to use instead of asking the LLM for one.")
    ] = None
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="Your own labels (JSONL); no LLM is asked about texts.")
    ] = None
    corrections: Annotated[
        Path | None,
        typer.Option("--corrections", help="Your corrections of the LLM's answers (JSONL); they count from now on."),
    ] = None
    home: options.Home = None


@dataclass(frozen=True)
class ResultOptions:
    """Options for the result."""

    report: Annotated[Path | None, typer.Option("--report", help="Also write the HTML report here.")] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve the plan without asking.")] = False
    as_json: options.AsJson = False


@grouped
def mine(
    instruction: str,
    corpus: options.Corpora,
    output: options.Output,
    llm: options.LLMOptions,
    settings: SettingsOptions,
    sources: SourceOptions,
    result: ResultOptions,
) -> None:
    """Mine CORPUS for INSTRUCTION: plan, annotate a few texts, train a proxy, run it over everything.

    The same command again resumes where it was stopped; no LLM call is paid twice.
    """
    check_rows_output(output, settings.run.row_unit, as_json=result.as_json)
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.plan import Plan

    if result.report is not None and not result.report.absolute().parent.is_dir():
        raise RunError(f"the folder of the report '{result.report}' does not exist; create it first")
    falconer = Falconer(
        llm.make(),
        annotations=sources.annotations,
        corrections=sources.corrections,
        home=sources.home,
        settings=settings.make(),
    )
    files = stored_corpus(corpus, falconer.home.corpora, settings.corpus.format)
    plan = Plan.parse(options.read_file(sources.plan)) if sources.plan else None
    is_reviewed = plan is None and not result.yes and sys.stdin.isatty()
    with progress_bars() as bars:
        reviewer = TerminalReviewer(bars) if is_reviewed else None
        target = None if output == PIPE else output
        mined = falconer.mine(instruction, files, target, plan=plan, on_event=bars, reviewer=reviewer)
    print_result(mined, result.report, as_json=result.as_json, console=stderr if output == PIPE else stdout)
    if output == PIPE:
        print_rows(mined.output)
