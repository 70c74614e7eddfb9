"""``falconer pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import print_json, progress_bars, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import AsJson, Data, LLMOptions
from langchain_falconer.errors import SettingsError


@grouped
def pretrain(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the metamodel.")],
    llm: LLMOptions,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Settings and mixture (JSON).", show_default="that of the release")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="An LLM's labels of raw texts.", show_default="those of the release"),
    ] = None,
    n_texts: Annotated[
        int, typer.Option("--ask", help="First have the LLM label, and mark, this many texts, into --answers.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a metamodel, the checkpoint that proxies start from.

    The same command again resumes from the last checkpoint.
    """
    from langchain_falconer.pretrain import ANSWERS, LABELS, MARKS, SHIPPED, Recipe, askable, distil, make, markable

    file = answers or ANSWERS
    if n_texts and (llm.llm is None or answers is None):
        raise SettingsError("--ask needs an LLM and a file for its answers; name them with --llm and --answers")
    with progress_bars() as bars:
        model = llm.make()
        if n_texts and model is not None:
            for survey, texts in ((LABELS, askable(data)[:n_texts]), (MARKS, markable(data)[:n_texts])):
                distil(model, survey, texts, file, llm.concurrency, lambda n: bars({"stage": "distil", "done": n}))
        card = make(
            Recipe.read(recipe or SHIPPED),
            data,
            output,
            file,
            lambda p: bars({"stage": "pretrain", "done": p.step, "total": p.steps}),
        )
    if as_json:
        print_json({"metamodel": str(output), **card})
    else:
        stdout.print(f"the metamodel is in [bold]{output}[/bold]; train on it with --base {output}")
