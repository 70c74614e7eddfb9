"""The application: its commands, and errors as one line with an exit code."""

from __future__ import annotations

import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli import (
    benchmark,
    check,
    demo,
    init,
    mcp,
    mine,
    plan,
    predict,
    pretrain,
    proxies,
    report,
    review,
    serve,
    train,
)
from langchain_falconer.cli.config import FILE, use_file
from langchain_falconer.cli.console import stderr, stdout
from langchain_falconer.errors import FalconerError, SettingsError
from langchain_falconer.llm import on_wait

app = typer.Typer(
    name="falconer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(show: bool) -> None:
    if show:
        stdout.print(version("langchain-falconer"), highlight=False)
        raise typer.Exit


@app.callback()
def falconer(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="File of options (see falconer init).", show_default=f"./{FILE}")
    ] = None,
) -> None:
    """Mine a large corpus with an LLM's judgement at a small encoder's price."""
    use_file(context, config)


for command in (
    check.check,
    plan.plan,
    mine.mine,
    train.train,
    predict.predict,
    report.report,
    review.review,
    demo.demo,
    init.init,
    mcp.mcp,
    serve.serve,
    pretrain.pretrain,
):
    app.command()(command)
app.add_typer(proxies.app, name="proxies")
app.add_typer(benchmark.app, name="benchmark")


def main() -> None:
    """Run the command; errors become one line on stderr and an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # torch's threads would spin while they wait: beside another busy process (a local LLM) training then takes many
    # times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A run makes millions of objects and few cycles: looking for cycles at the usual rate takes a twelfth of the time.
    gc.set_threshold(100_000, 50, 100)
    try:
        # What a command waits for; the graph's stages say it beside their progress.
        with on_wait(lambda wait: stderr.print(str(wait), markup=False, highlight=False, soft_wrap=True)):
            app()
    except FalconerError as error:
        stderr.print("[red]falconer:[/red] ", end="")
        stderr.print(" ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except KeyboardInterrupt:
        stderr.print("\nstopped; the same command again resumes from here")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
