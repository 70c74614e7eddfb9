"""``falconer predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli.console import print_outcome, progress_bars, stderr, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import (
    AsJson,
    Corpora,
    Home,
    InputOptions,
    Output,
    RunOptions,
    mine_settings,
    read_file,
)
from langchain_falconer.cli.pipes import PIPE, check_rows_output, print_rows, stored_corpus

if TYPE_CHECKING:
    from langchain_falconer.execute import RowCounts
    from langchain_falconer.model import Proxy


@grouped
def predict(
    proxy_path: Annotated[
        Path,
        typer.Argument(metavar="PROXY", help="Folder of a proxy; or a plan (JSON), answered untrained from its words."),
    ],
    corpus: Corpora,
    output: Output,
    inputs: InputOptions,
    run: RunOptions,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Run a proxy over CORPUS: a trained one, or an untrained one of a plan. No LLM is involved.

    The same command again resumes where it was stopped.
    """
    from langchain_falconer.corpus import Document, as_place, open_corpus_files
    from langchain_falconer.execute import BACKEND_TEXTS, Run, check_run, choose_backend
    from langchain_falconer.graph import Home as HomeFolder

    settings = mine_settings(corpus=asdict(inputs), run=asdict(run))
    check_run(settings.run)
    check_rows_output(output, settings.run.row_unit, as_json=as_json)
    folder = HomeFolder.at(home)
    documents = open_corpus_files(stored_corpus(corpus, folder.corpora, settings.corpus.format), settings.corpus)
    with progress_bars() as bars:
        with bars.stage("load"):
            proxy = _proxy(proxy_path, settings.passage_chars)
        with bars.stage("backend"):
            first = [row.text for row in islice(documents, BACKEND_TEXTS) if isinstance(row, Document)]
            choose_backend(proxy, first, settings.run.backend, device=settings.run.device)
        with bars.stage("execute"):
            job = Run(proxy, documents, folder.run_folder("predict"), settings.run)
            target = folder.run_folder("predict") / f"{proxy.fingerprint}.jsonl" if output == PIPE else as_place(output)
            done = job(target, lambda n: bars({"stage": "execute", "done": n, "total": None}))
    counts, guessed = done.statistics.counts(), documents.guessed_columns
    facts = {
        "texts_per_second": done.texts_per_second,
        "backend": proxy.session.name,
        "guessed_columns": guessed,
    }
    print_outcome(
        {"output": str(target), "rows": counts.model_dump(mode="json"), **facts},
        _outcome(counts, "stdout" if output == PIPE else str(target), guessed),
        as_json=as_json,
        console=stderr if output == PIPE else stdout,
    )
    if output == PIPE:
        print_rows(target)


def _proxy(path: Path, passage_chars: int) -> Proxy:
    from langchain_falconer.model import Proxy
    from langchain_falconer.plan import Plan

    if path.is_file():
        return Proxy.zero_shot(Plan.parse(read_file(path)), passage_chars=passage_chars)
    return Proxy.load(path)


def _outcome(counts: RowCounts, target: str, guessed: Sequence[str]) -> str:
    notes = [f"{counts.total:,} rows, {counts.matched:,} matched, in {target}"]
    notes += [f"{counts.empty:,} have no text"] if counts.empty else []
    notes += [f"{failed:,} failed (their error says why)"] if (failed := counts.failed - counts.empty) else []
    notes += [f"the text is the column {', '.join(guessed)}, by its name (--text-column)"] if guessed else []
    return "; ".join(notes)
