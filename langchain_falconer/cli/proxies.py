"""``falconer proxies``: list, show, export, import and delete trained proxies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_falconer.cli.console import print_json, print_outcome, stdout
from langchain_falconer.cli.options import AsJson, Home
from langchain_falconer.errors import SettingsError

if TYPE_CHECKING:
    from langchain_falconer.registry import Registry

app = typer.Typer(no_args_is_help=False, invoke_without_command=True, help="List and manage the trained proxies.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a proxy, as 'falconer proxies list' shows it.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names, as 'falconer proxies list' shows them.")]


@app.callback()
def proxies(context: typer.Context, home: Home = None, as_json: AsJson = False) -> None:
    """List and manage the trained proxies."""
    if context.invoked_subcommand:
        context.default_map = {context.invoked_subcommand: {"home": home, "as_json": as_json}}
    else:
        list_proxies(home, as_json)


@app.command("list")
def list_proxies(home: Home = None, as_json: AsJson = False) -> None:
    """List the trained proxies, the newest first."""
    from langchain_falconer.report import print_entries

    registry = _registry(home)
    entries = registry.entries()
    if as_json:
        print_json({"proxies": [entry.to_dict() for entry in entries]})
    elif entries:
        print_entries(entries, stdout)
    else:
        stdout.print(f"no proxy yet in {registry.folder}")


@app.command("show")
def show_proxy(name: Name, home: Home = None, as_json: AsJson = False) -> None:
    """Show a proxy: its plan, data, training, quality, backends and folder."""
    from langchain_falconer.report import print_entry

    entry = _registry(home).entry(name)
    if as_json:
        print_json({**entry.manifest, **entry.to_dict()})
    else:
        print_entry(entry, stdout)


@app.command("export")
def export_proxy(
    name: Name,
    path: Annotated[Path, typer.Argument(help="A folder, or a file that ends in .zip.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Copy a proxy to a folder or a zip file, to move it to another machine."""
    _registry(home).export_to(name, path)
    print_outcome({"name": name, "path": str(path)}, f"{name} is in {path}", as_json=as_json)


@app.command("import")
def import_proxy(
    path: Annotated[Path, typer.Argument(help="A folder or zip file that export wrote.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the proxy.", show_default="that of the file")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Add a proxy from a folder or zip file, after a check that it answers."""
    entry = _registry(home).import_from(path, name)
    print_outcome(entry.to_dict(), f"{path} is now the proxy {entry.name}", as_json=as_json)


@app.command("delete")
def delete_proxies(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Delete proxies for good."""
    registry = _registry(home)
    registry.check(*names)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("deleting needs a confirmation and this is not a terminal; add --yes")
        typer.confirm(f"Delete {', '.join(names)} for good?", abort=True, err=True)
    registry.delete(*names)
    print_outcome({"deleted": names}, f"deleted {', '.join(names)}", as_json=as_json)


def _registry(home: Path | None) -> Registry:
    from langchain_falconer.graph import Home as HomeFolder

    return HomeFolder.at(home).registry
