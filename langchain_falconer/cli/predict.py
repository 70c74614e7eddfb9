"""``falconer predict``."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import print_outcome, progress_bars
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
    from langchain_falconer.model import Proxy
    from langchain_falconer.plan import Plan

    settings = mine_settings(corpus=asdict(inputs), run=asdict(run))
    check_run(settings.run)
    proxy = Proxy.zero_shot(Plan.parse(read_file(proxy_path))) if proxy_path.is_file() else Proxy.load(proxy_path)
    documents = open_corpus_files(list(corpus), settings.corpus)
    first = [d.text for d in islice(documents, BACKEND_TEXTS) if isinstance(d, Document)]
    choose_backend(proxy, first, settings.run.backend, device=settings.run.device)
    target = as_place(output)
    with progress_bars() as bars:
        job = Run(proxy, documents, HomeFolder.at(home).run_folder("predict"), settings.run)
        done = job(target, lambda n: bars({"stage": "execute", "done": n, "total": None}))
        bars({"stage": "execute", "event": "end"})
    counts = done.statistics.counts()
    guessed = documents.guessed_columns
    text = f"; the text is the column {', '.join(guessed)}, by its name (--text-column)" if guessed else ""
    facts = {
        "texts_per_second": done.texts_per_second,
        "backend": proxy.session.name,
        "guessed_columns": guessed,
    }
    print_outcome(
        {"output": str(target), "rows": counts.model_dump(mode="json"), **facts},
        f"{counts.total:,} rows, {counts.matched:,} matched, in {target}{text}",
        as_json=as_json,
    )
