"""``falconer serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_falconer.cli.console import stderr
from langchain_falconer.cli.options import read_file


def serve(
    proxy_path: Annotated[
        Path,
        typer.Argument(metavar="PROXY", help="Folder of a proxy; or a plan (JSON), answered untrained from its words."),
    ],
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8100,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow an address that others can reach; there is no password.")
    ] = False,
) -> None:
    """Serve a proxy over HTTP: typed questions (POST /v1/systemone), and its plan (POST /v1/classifications)."""
    from langchain_falconer.model import Proxy
    from langchain_falconer.plan import Plan
    from langchain_falconer.tools import serve_decisions

    proxy = Proxy.zero_shot(Plan.parse(read_file(proxy_path))) if proxy_path.is_file() else Proxy.load(proxy_path)
    stderr.print(f"serving {proxy_path.name} at http://{host}:{port} (Ctrl-C stops it)", highlight=False, markup=False)
    serve_decisions(proxy, host=host, port=port, allow_remote=allow_remote)
