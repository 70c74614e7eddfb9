"""``falconer review``."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli import options
from langchain_falconer.cli.console import stderr
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.errors import RunError

if TYPE_CHECKING:
    from langchain_falconer.evaluate import Quality
    from langchain_falconer.llm import LLM
    from langchain_falconer.records import JsonObject
    from langchain_falconer.report.review_server import ReviewServer


@grouped
def review(
    llm: options.LLMOptions,
    run_id: Annotated[str | None, typer.Argument(help="Id of the run.", show_default="the newest")] = None,
    home: options.Home = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the page.", show_default="free")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Correct a finished run in the browser: the page is served on this machine alone.

    Corrections go into the annotation store as they are made; r in the page trains the proxy again.
    """
    server = review_server(run_id, home, llm.make(), port)
    stderr.print(f"Reviewing at {server.url} (Ctrl-C ends)", markup=False, highlight=False, soft_wrap=True)
    if not no_browser:
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        stderr.print("\nevery correction is saved; falconer review goes on from here")


def review_server(run_id: str | None, home: Path | None, llm: LLM | None = None, port: int = 0) -> ReviewServer:
    """Return a server of the page of a finished run.

    Args:
        run_id: Beginning of the id of the run; the newest by default.
        home: Its home.
        llm: The LLM of the run, for what a correction leaves open; by default the one that the run names.
        port: The port; 0 for any that is free.

    Raises:
        RunError: There is no such run, or its rows are gone.
    """
    from langchain_falconer.annotate.corrections import CorrectionsFile
    from langchain_falconer.falconer import Falconer, MiningResult
    from langchain_falconer.files import read_json
    from langchain_falconer.graph import Home, Job, Review
    from langchain_falconer.llm import LLM
    from langchain_falconer.report import Evidence, RunSummary
    from langchain_falconer.report.html import page
    from langchain_falconer.report.review_server import Emit, ReviewServer

    place = Home.at(home)
    folder = place.finished_run(run_id)

    def result() -> MiningResult:
        return MiningResult(RunSummary.model_validate(read_json(folder / "summary.json")))

    first = result()
    if not first.output.is_file():
        raise RunError(f"the rows of that run are gone from {first.output}; run the same mine command again")
    corrections = CorrectionsFile(folder / "corrections.jsonl", first.plan)

    def shown() -> bytes:
        current, evidence = result(), Evidence.of(folder)
        return page(current.summary, current.rows(), evidence=evidence, corrections=corrections.rows())

    def save(rows: list[JsonObject], removed: list[str]) -> int:
        with place.store() as store:
            return corrections.apply(store, rows, removed)

    def retrain(emit: Emit) -> str:
        if not corrections.rows():
            raise RunError("nothing was corrected yet")
        job = Job.load(folder)
        used = folder / "corrections-used.jsonl"
        used.write_bytes(corrections.path.read_bytes())
        asked = llm or (LLM(job.llm) if job.llm else None)
        falconer = Falconer(asked, annotations=job.annotations, corrections=used, home=home, settings=job.settings)
        before = result().quality
        after = falconer.mine(
            job.instruction,
            list(job.corpus),
            job.output,
            plan=job.plan,
            recorded=job.recorded,
            on_event=emit,
            reviewer=lambda _: Review(action="edit", plan=first.plan.to_dict()),
        )
        if Path(after.summary.report or "").parent != folder:
            raise RunError("corpus, annotations or LLM are no longer those of the run; run falconer mine --corrections")
        return _in_words(before, after.quality)

    return ReviewServer(shown, save, retrain, port)


def _in_words(before: Quality | None, after: Quality | None) -> str:
    if before is None or after is None:
        return "the proxy was trained again, and the rows were written again"
    return (
        f"the proxy was trained again, and the rows were written again; agreement on test texts was "
        f"{before.agreement.value:.0%}, and is {after.agreement.value:.0%}"
    )
