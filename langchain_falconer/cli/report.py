"""``falconer report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import stdout
from langchain_falconer.cli.options import Home
from langchain_falconer.errors import RunError, SettingsError


def report(
    run_id: Annotated[str | None, typer.Argument(help="Id of the run.", show_default="the newest")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file.", show_default="report.html, where there is none yet"),
    ] = None,
    home: Home = None,
) -> None:
    """Write the HTML report of a finished run again, and show its summary."""
    from langchain_falconer.falconer import MiningResult
    from langchain_falconer.files import read_json
    from langchain_falconer.graph import Home as HomeFolder
    from langchain_falconer.report import RunSummary, print_summary

    output, is_named = output or Path("report.html"), output is not None
    if output.exists() and not is_named:
        raise SettingsError("report.html is there already; name the file (-o report.html replaces it)")
    summary = read_json(HomeFolder.at(home).finished_run(run_id) / "summary.json")
    result = MiningResult(RunSummary.model_validate(summary))
    if not result.output.is_file():
        raise RunError(f"the rows of that run are gone from {result.output}; run the same mine command again")
    print_summary(result.summary.model_copy(update={"report": str(result.report(output))}), stdout)
