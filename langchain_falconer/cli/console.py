"""Output of the commands: progress bars, tables, code and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

    from langchain_falconer.falconer import MiningResult
    from langchain_falconer.report import Decision

stderr = Console(stderr=True)
stdout = Console()

_STAGES = {
    "distil": "labelling (LLM)",
    "pretrain": "pretraining",
    "plan": "planning",
    "pilot": "trying the questions out",
    "route": "choosing a strategy",
    "sample": "reading the corpus",
    "index": "indexing the corpus",
    "annotate": "annotating (LLM)",
    "train": "training the proxy",
    "export": "exporting to ONNX",
    "evaluate": "measuring",
    "load": "loading the proxy",
    "backend": "choosing a backend",
    "execute": "running the proxy",
    "report": "writing the report",
}


class ProgressBars:
    """Progress bars on stderr: one line per stage, with pace and time left. Called with progress events."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        progress = self._progress
        if note := event.get("note"):
            progress.console.print(note, markup=False, highlight=False, soft_wrap=True)
            return
        stage = event["stage"]
        if stage not in self._tasks:
            self._tasks[stage] = progress.add_task(_STAGES.get(stage, stage), total=None, pace="")
        task = self._tasks[stage]
        if event.get("event") == "end":
            total = progress.tasks[task].total or progress.tasks[task].completed or 1
            progress.update(task, total=total, completed=total)
        elif "done" in event:
            progress.update(task, completed=event["done"], total=event.get("total"))
            if speed := progress.tasks[task].finished_speed or progress.tasks[task].speed:
                progress.update(task, pace=f"{speed:,.1f}/s")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage while the block runs."""
        self({"stage": name, "event": "start"})
        yield
        self({"stage": name, "event": "end"})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop drawing while a person is asked."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Show progress bars while the block runs."""
    from rich import progress

    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description:22}"),
        progress.BarColumn(28),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[pace]}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=stderr) as bars:
        yield ProgressBars(bars)


def print_result(result: MiningResult, report: Path | None, *, as_json: bool, console: Console = stdout) -> None:
    """Print the summary of a result, and write its report where one is wanted."""
    from langchain_falconer.report import print_summary

    summary = result.summary
    if report:
        summary = summary.model_copy(update={"report": str(result.report(report))})
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        print_summary(summary, console)


def print_code(code: str, console: Console) -> None:
    """Print Python code in colour."""
    from rich.syntax import Syntax

    console.print(Syntax(code, "python", word_wrap=True, background_color="default"))


def print_decision(decision: Decision) -> None:
    """Print every strategy, the one that would be tried first on top, and the break-even point of training."""
    from rich.table import Table

    columns = ("strategy", "texts for the LLM", "tokens", "USD", "seconds", "reason")
    table = Table(*columns, title="Strategies (estimates)")
    for one in (decision.chosen, *decision.others):
        usd = "?" if one.usd is None else f"{one.usd:.4f}"
        table.add_row(one.name, f"{one.texts:,}", f"{one.tokens:,}", usd, f"{one.seconds:,.0f}", one.reason)
    if decision.prices:
        table.caption = f"prices: {decision.prices}"
    stdout.print(table)
    even = decision.break_even
    by_seconds = f"{even.texts_by_seconds:,}" if even.texts_by_seconds is not None else "never"
    stdout.print(
        f"training costs less than asking the LLM about each text from {even.texts_by_tokens:,} texts on in tokens, "
        f"in seconds from {by_seconds}"
    )


def print_benchmark(table: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the table of a benchmark and its verdict."""
    from rich.table import Table

    if as_json:
        print_json(table)
        return
    shown = Table(*table["columns"], title=table["title"])
    for row in table["rows"]:
        shown.add_row(*map(str, row))
    stdout.print(shown)
    stdout.print(table["verdict"], markup=False)


def print_score(name: str, seed: int, **scores: float) -> None:
    """Print a score of a benchmark as it comes."""
    stderr.print(f"{name}, seed {seed}: {', '.join(f'{k} {v:.3f}' for k, v in scores.items())}")


def print_outcome(data: Mapping[str, object], sentence: str, *, as_json: bool, console: Console = stdout) -> None:
    """Print what a command did, as one JSON object or one sentence."""
    if as_json:
        print_json(data)
    else:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_json(data: Mapping[str, object]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
