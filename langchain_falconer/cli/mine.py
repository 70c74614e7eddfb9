"""``falconer mine``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli.console import print_result, progress_bars
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import (
    AnnotationOptions,
    AnnotationsFile,
    AsJson,
    BudgetOptions,
    Corpora,
    Home,
    InputOptions,
    LLMOptions,
    Output,
    PlanFile,
    RunOptions,
    TargetOptions,
    TrainingOptions,
    mine_settings,
    read_file,
)
from langchain_falconer.cli.review import TerminalReviewer
from langchain_falconer.errors import RunError
from langchain_falconer.settings import MineSettings

if TYPE_CHECKING:
    from langchain_falconer.plan import Plan


@dataclass(frozen=True)
class SettingsOptions(AnnotationOptions, BudgetOptions, TargetOptions, InputOptions, TrainingOptions, RunOptions):
    """Every option that is a setting."""

    def make(self) -> MineSettings:
        """Make the settings. Raises ``SettingsError`` where they contradict each other."""
        return mine_settings(
            annotations=self.annotate,
            targets=TargetOptions.settings(self),
            seed=self.seed,
            metrics=self.metrics(),
            corpus=InputOptions.settings(self),
            annotate={"texts_per_call": self.texts_per_call},
            budget=BudgetOptions.settings(self),
            train={"seed": self.seed, "layers": self.layers},
            run=RunOptions.settings(self),
            **({"base": self.base} if self.base else {}),
        )


@dataclass(frozen=True)
class SourceOptions:
    """Options for what is already there: a plan, annotations, and the home."""

    plan_file: PlanFile = None
    annotations: AnnotationsFile = None
    home: Home = None

    def plan(self) -> Plan | None:
        """Read the plan; None where no file is named."""
        from langchain_falconer.plan import Plan

        return Plan.parse(read_file(self.plan_file)) if self.plan_file else None


@dataclass(frozen=True)
class ResultOptions:
    """Options for the result."""

    report: Annotated[Path | None, typer.Option("--report", help="Also write the HTML report here.")] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve the plan without asking.")] = False
    as_json: AsJson = False


@grouped
def mine(
    instruction: str,
    corpus: Corpora,
    output: Output,
    llm: LLMOptions,
    options: SettingsOptions,
    sources: SourceOptions,
    result: ResultOptions,
) -> None:
    """Mine CORPUS for INSTRUCTION: plan, annotate a few texts, train a proxy, run it over everything.

    The same command again resumes where it was stopped; no LLM call is paid twice.
    """
    from langchain_falconer.falconer import Falconer

    if result.report is not None and not result.report.absolute().parent.is_dir():
        raise RunError(f"the folder of the report '{result.report}' does not exist; create it first")
    falconer = Falconer(llm.make(), annotations=sources.annotations, home=sources.home, settings=options.make())
    plan = sources.plan()
    is_reviewed = plan is None and not result.yes and sys.stdin.isatty()
    with progress_bars() as bars:
        reviewer = TerminalReviewer(bars) if is_reviewed else None
        mined = falconer.mine(instruction, corpus, output, plan=plan, on_event=bars, reviewer=reviewer)
    print_result(mined, result.report, as_json=result.as_json)
