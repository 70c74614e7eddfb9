"""``falconer plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli.console import print_code, print_decision, print_json, stderr, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import AsJson, Home, LLMOptions
from langchain_falconer.errors import SettingsError

if TYPE_CHECKING:
    from langchain_falconer.corpus import Place, StoredCorpus


@grouped
def plan(
    instruction: str,
    llm: LLMOptions,
    cost: Annotated[
        str | None,
        typer.Option(
            "--cost", metavar="CORPUS", help="Plan for this file, folder or stored corpus, and estimate the cost."
        ),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Have the LLM plan INSTRUCTION, and show the plan. Nothing is annotated."""
    from langchain_falconer.corpus import as_place
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.plan import to_pseudocode

    if llm.llm is None:
        raise SettingsError("planning needs an LLM; name one with --llm, e.g. --llm openai:gpt-4.1-mini")
    with stderr.status("planning…"):
        falconer = Falconer(llm.make(), home=home)
        corpus: Place | StoredCorpus | None = None
        if cost is not None:
            corpus = as_place(cost) if "://" in cost or Path(cost).exists() else falconer.corpus(cost)
        questions: list[str] = []
        written = falconer.plan(instruction, corpus, on_question=questions.append)
        decision = falconer.estimate(written, corpus) if corpus is not None else None
    for question in questions:
        stderr.print(f"The planner asks: {question}", style="yellow", markup=False, highlight=False)
    if as_json:
        extra = {"costs": decision.model_dump(mode="json")} if decision else {}
        print_json({**written.to_dict(), **extra})
        return
    print_code(to_pseudocode(written), stdout)
    if decision:
        print_decision(decision)
