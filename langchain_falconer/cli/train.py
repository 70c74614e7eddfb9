"""``falconer train``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli.console import print_outcome, progress_bars
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import AsJson, Base, Home, Seed, TextColumn, TrainMinutes, mine_settings, read_file
from langchain_falconer.settings import DEFAULT_BASE, DeviceName

if TYPE_CHECKING:
    from langchain_falconer.plan import Plan


@dataclass(frozen=True)
class StartOptions:
    """Options for how training starts and ends."""

    base: Base = DEFAULT_BASE
    seed: Seed = 0
    train_minutes: TrainMinutes = 5.0
    device: Annotated[DeviceName, typer.Option("--device", help="Where; auto is a GPU where there is one.")] = "auto"


@grouped
def train(
    plan_file: Annotated[Path, typer.Option("--plan", help="The plan (JSON).")],
    annotations: Annotated[Path, typer.Option("--annotations", help="Your labels (JSONL).")],
    start: StartOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the new proxy.", show_default="in the home")
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option("--unlabelled", help="A corpus like the one to be read: self-training uses some of its texts."),
    ] = None,
    text_column: TextColumn = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train a proxy for a plan on annotations of your own, all of them, and export it to ONNX."""
    from langchain_falconer.annotate import read_annotations
    from langchain_falconer.corpus import Document, open_corpus_files, sample_uniform, split_passages
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.graph import Home as HomeFolder
    from langchain_falconer.model import check_destination
    from langchain_falconer.plan import Plan

    plan = Plan.parse(read_file(plan_file))
    place = HomeFolder.at(home)
    target = output or place.registry.path(_name(plan))
    check_destination(target)
    labelled = read_annotations(annotations, plan)
    settings = mine_settings(
        seed=start.seed,
        base=start.base,
        train={"seed": start.seed, "max_minutes": start.train_minutes or None, "device": start.device},
        corpus={"text_column": text_column},
    )
    rows = open_corpus_files(unlabelled, settings.corpus) if unlabelled else ()
    documents = (row.text for row in rows if isinstance(row, Document))
    passages = (text[a:b] for text in documents for a, b in split_passages(text, settings.passage_chars))
    with progress_bars() as bars:
        with bars.stage("sample"):
            texts = sample_uniform(passages, settings.unlabelled, start.seed, key=str)
        with bars.stage("train"):
            proxy = Falconer(home=place.folder, settings=settings).train(
                plan,
                labelled,
                unlabelled=texts,
                on_step=lambda step, total, loss: bars({"stage": "train", "done": step, "total": total}),
            )
        with bars.stage("export"):
            proxy.save(target)
            difference = proxy.export()
    training = proxy.manifest["training"]
    facts = {"proxy": str(target), "annotations": len(labelled), "unlabelled": len(texts), "training": training}
    print_outcome(
        {**facts, "export_difference": difference},
        f"trained on {len(labelled)} texts in {training['seconds']} s; the proxy is in {target}",
        as_json=as_json,
    )


def _name(plan: Plan) -> str:
    """Return the name that a proxy of the home has, by its plan."""
    words = re.sub(r"[^a-z0-9]+", "-", plan.instruction.lower()).strip("-")
    return f"{words[:40].strip('-') or 'proxy'}-{plan.fingerprint[:8]}"
