"""``falconer mcp``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.grouping import grouped
from langchain_falconer.cli.options import BudgetOptions, Home, LLMOptions, mine_settings
from langchain_falconer.errors import SettingsError


@grouped
def mcp(
    llm: LLMOptions,
    budget: BudgetOptions,
    home: Home = None,
    corpora: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus", metavar="NAME=PATH", help="A file, folder or URL that may be asked about by this name."
        ),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option("--files", help="The only folder that clients may add files from.", show_default="none"),
    ] = None,
    http: Annotated[
        int | None, typer.Option("--http", metavar="PORT", help="Serve HTTP on this port.", min=1, show_default="stdio")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address of the HTTP server: 127.0.0.1, localhost or ::1.")
    ] = "127.0.0.1",
) -> None:
    """Serve the agent tools over MCP: on stdio, or as streamable HTTP at /mcp on the loopback interface."""
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.tools import FalconerToolkit, create_mcp_server

    named = dict(one.partition("=")[::2] for one in corpora or [])
    missing = (path or name for name, path in named.items() if not path or not ("://" in path or Path(path).exists()))
    if (wrong := next(missing, None)) is not None:
        raise SettingsError(f"there is no file '{wrong}'; write --corpus NAME=PATH with a path that exists")
    falconer = Falconer(llm.make(), home=home, settings=mine_settings(budget=asdict(budget)))
    toolkit = FalconerToolkit(falconer, corpora=named, files_folder=files)
    server = create_mcp_server(toolkit, host=host, port=http or 8000)
    server.run("streamable-http" if http else "stdio")
