"""``falconer train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import print_json, progress_bars, stdout
from langchain_falconer.cli.options import AsJson, Base, mine_settings, read_file
from langchain_falconer.settings import MineSettings


def _sample(paths: list[str], settings: MineSettings) -> list[str]:
    """Draw passages uniformly from a corpus."""
    from langchain_falconer.corpus import Document, open_corpus_files, sample_uniform, split_passages

    rows = open_corpus_files(paths, settings.corpus)
    documents = (row.text for row in rows if isinstance(row, Document))
    passages = (text[a:b] for text in documents for a, b in split_passages(text, settings.passage_chars))
    return sample_uniform(passages, settings.unlabelled, settings.seed, key=str)


def train(
    plan_file: Annotated[Path, typer.Option("--plan", help="The plan (JSON).")],
    annotations: Annotated[Path, typer.Option("--annotations", help="Your labels (JSONL).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new proxy.")],
    unlabelled: Annotated[
        list[str] | None,
        typer.Option("--unlabelled", help="A corpus like the one to be read: self-training uses some of its texts."),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option("--text-column", help="Column that holds the text.", show_default="detected by its name"),
    ] = None,
    base: Base = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of sample and weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a proxy for a plan on annotations of your own, all of them, and export it through Optimum."""
    from langchain_falconer.annotate import read_annotations
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.model import check_destination
    from langchain_falconer.plan import Plan

    check_destination(output)
    plan = Plan.parse(read_file(plan_file))
    known = read_annotations(annotations, plan)
    settings = mine_settings(
        seed=seed, train={"seed": seed}, corpus={"text_column": text_column}, **({"base": base} if base else {})
    )
    texts = _sample(unlabelled, settings) if unlabelled else []
    with progress_bars() as bars:
        proxy = Falconer(settings=settings).train(
            plan,
            known,
            unlabelled=texts,
            on_step=lambda step, total, loss: bars({"stage": "train", "done": step, "total": total}),
        )
        proxy.save(output)
        difference = proxy.export()
    training = proxy.manifest["training"]
    if as_json:
        facts = {"proxy": str(output), "annotations": len(known), "unlabelled": len(texts), "training": training}
        print_json({**facts, "export_difference": difference})
    else:
        stdout.print(f"trained on {len(known)} texts in {training['seconds']} s; the proxy is in [bold]{output}[/bold]")
