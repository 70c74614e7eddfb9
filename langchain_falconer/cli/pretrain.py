"""``falconer pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import print_json, progress_bars, stdout
from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import AsJson
from langchain_falconer.errors import SettingsError
from langchain_falconer.settings import DeviceName


@grouped
def pretrain(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the metamodel, or of the bundle.")],
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Folder of datasets; may be given several times.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Settings and datasets (JSON).", show_default="that of the release")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Duration.", min=0.01, show_default="that of the recipe")
    ] = None,
    device: Annotated[DeviceName, typer.Option("--device", help="Where; auto is a GPU where there is one.")] = "auto",
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Train nothing; write a folder that a GPU machine runs on its own.")
    ] = False,
    adopt: Annotated[
        Path | None, typer.Option("--adopt", help="Train nothing; make the metamodel that this bundle trained.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a metamodel, the checkpoint that proxies start from.

    The same command again resumes from the last checkpoint.
    """
    from langchain_falconer import pretrain as room

    if adopt:
        card = room.adopt(adopt, output)
    elif not data:
        raise SettingsError(
            "there is nothing to learn from; name folders of datasets with --data, or a bundle with --adopt"
        )
    else:
        chosen = room.Recipe.read(recipe or room.SHIPPED).lasting(minutes)
        if bundle:
            size = room.write_bundle(chosen, data, output)
            if as_json:
                print_json({"bundle": str(output), "bytes": size})
            else:
                stdout.print(f"the bundle in [bold]{output}[/bold] has {size / 2**20:.0f} MiB; there: python run.py")
            return
        with progress_bars() as bars:
            card = room.make(
                chosen,
                data,
                output,
                device=device,
                on_progress=lambda p: bars({"stage": "pretrain", "done": round(100 * p.share), "total": 100}),
            )
    if as_json:
        print_json({"metamodel": str(output), **card})
    else:
        stdout.print(f"the metamodel is in [bold]{output}[/bold]; train on it with --base {output}")
