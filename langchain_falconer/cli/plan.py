"""``falconer plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import print_code, print_decision, print_json, stderr, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import AsJson, Home, LLMOptions
from langchain_falconer.errors import SettingsError


@grouped
def plan(
    instruction: str,
    llm: LLMOptions,
    cost: Annotated[
        str | None,
        typer.Option("--cost", metavar="CORPUS", help="Also estimate its cost on this file, folder or stored corpus."),
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
        written = falconer.plan(instruction)
        decision = None
        if cost is not None:
            is_file = "://" in cost or Path(cost).exists()
            decision = falconer.estimate(written, as_place(cost) if is_file else falconer.corpus(cost))
    if as_json:
        extra = {"costs": decision.model_dump(mode="json")} if decision else {}
        print_json({**written.to_dict(), **extra})
        return
    print_code(to_pseudocode(written), stdout)
    if decision:
        print_decision(decision)
