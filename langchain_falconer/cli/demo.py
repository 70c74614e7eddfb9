"""``falconer demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import print_result, progress_bars, stderr
from langchain_falconer.cli.options import AsJson, Home, LLMName, Timeout, make_llm


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the rows.")] = Path("demo.jsonl"),
    llm: LLMName = None,
    home: Home = None,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Mine 2,000 real film reviews: from the positive ones, the people they name and the ratings they give.

    Without an LLM, 300 annotations that were made by hand stand in for those of one; training and the run are live.
    """
    from langchain_falconer.demo import Recording

    recording = Recording.shipped()
    model = make_llm(llm, timeout_s=timeout) if llm else None
    if model is None:
        stderr.print(
            f"[yellow]No --llm named:[/yellow] the plan and {recording.texts} annotations were made by hand "
            f"({recording.date}), in place of a strong LLM's."
        )
        stderr.print(
            "Training and the run over all reviews are live. "
            "To have your own LLM plan and annotate: falconer demo --llm openai:gpt-4.1-mini",
            markup=False,
        )
    with progress_bars() as bars:
        result = recording.mine(output, model, home=home, on_event=bars)
    print_result(result, output.with_suffix(".html"), as_json=as_json)
    if model is None:
        total = result.summary.corpus.documents
        stderr.print(
            f"An LLM would take about {recording.llm_tokens(recording.texts):,} tokens for these {recording.texts} "
            f"annotations, and about {recording.llm_tokens(total):,} to read all {total:,} reviews."
        )
