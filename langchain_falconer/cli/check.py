"""``falconer check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from langchain_falconer.cli.console import print_json, stderr, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import AsJson, LLMOptions
from langchain_falconer.errors import SettingsError

if TYPE_CHECKING:
    from langchain_falconer.annotate import CallCheck, LLMCheck


@grouped
def check(llm: LLMOptions, as_json: AsJson = False) -> None:
    """Check whether an LLM can annotate: a few harmless calls, what works, and what it takes."""
    from langchain_falconer.annotate import check_llm

    model = llm.make()
    if model is None:
        raise SettingsError("there is no LLM to check; name one with --llm, e.g. --llm openai:gpt-4.1-mini")
    with stderr.status("asking…"):
        found = check_llm(model)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)
    if not found.works:
        stderr.print(f"falconer: {found.reason}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _print(found: LLMCheck) -> None:
    from langchain_falconer.report import formatting as fmt
    from langchain_falconer.report.terminal import grid

    price = found.usd_per_million_tokens
    each = f"${price[0]:g} and ${price[1]:g} per million tokens in and out ({found.prices})" if price else None
    context = f"context {fmt.count(found.context_tokens)}" if found.context_tokens else "context unknown"
    longest = f"a reply {fmt.count(found.max_output_tokens)}" if found.max_output_tokens else "a reply unknown"
    outcome = f"works by {found.output_mode}" if found.works else "does not work"
    spent = f"{fmt.count(found.n_calls)} calls, {fmt.count(found.tokens)} tokens, {fmt.usd(found.usd)}"
    rows = [
        ("model", f"{found.model}{f' at {found.base_url}' if found.base_url else ''}"),
        *map(_row, found.calls),
        ("price", each or "unknown; give it with --price IN,OUT"),
        ("tokens", f"{context}, {longest}, cut off at {fmt.count(found.output_limit)}"),
        ("reasoning", "yes" if found.is_reasoning else "no"),
        ("annotating", f"{outcome} ({spent})"),
    ]
    stdout.print(grid(rows, "bold", ""))


def _row(call: CallCheck) -> tuple[str, str]:
    name = f"{call.name} question" if call.name in ("label", "span") else call.name
    outcome = "works" if call.works else f"fails: {call.reason}"
    if call.is_right is False:
        outcome = "works, but the answer is wrong"
    return name, f"{outcome} ({call.input_tokens} + {call.output_tokens} tokens, {call.seconds:.1f} s)"
