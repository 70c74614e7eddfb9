"""The tools as an MCP server, for hosts that are not LangChain agents (extra ``mcp``)."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import SettingsError
from langchain_falconer.tools.base import FalconerTool
from langchain_falconer.tools.toolkit import FalconerToolkit
from langchain_falconer.urls import LOOPBACK

if TYPE_CHECKING:
    from mcp.server.fastmcp import FastMCP

_INSTRUCTIONS = (
    "Tools over large collections of texts. Call list_corpora to see what there is, add_documents to add to it, "
    "mine_corpus to search through every text of a corpus for something said in plain words, and read_results to read "
    "the rows behind an answer. Never ask for a corpus to be read text by text."
)


def create_mcp_server(toolkit: FalconerToolkit, *, host: str = "127.0.0.1", port: int = 8000) -> FastMCP[Any]:
    """Create a ``FastMCP`` server: ``run()`` serves stdio, ``run("streamable-http")`` HTTP at /mcp.

    It listens on the loopback interface only and refuses requests that name another host or come from a page of
    another origin (DNS rebinding). Clients can read only the files of the toolkit's ``files_folder``.

    Args:
        toolkit: The tools.
        host: ``127.0.0.1``, ``localhost`` or ``::1``.
        port: Port for HTTP.

    Raises:
        SettingsError: The host is none of these, or the extra is not installed.
    """
    if host not in LOOPBACK:
        raise SettingsError(
            f"MCP is not served on '{host}', where others could reach it; use one of {', '.join(LOOPBACK)} behind a "
            "reverse proxy that authenticates its clients"
        )
    try:
        from mcp.server.fastmcp import FastMCP
        from mcp.server.transport_security import TransportSecuritySettings
    except ImportError as error:
        raise SettingsError("an MCP server needs its extra; run: pip install 'langchain-falconer[mcp]'") from error
    from langchain_falconer.tools.mcp_tool import McpTool

    hosts = [f"{name}:*" for name in ("127.0.0.1", "localhost", "[::1]")]
    local = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"http://{name}" for name in hosts])
    server: FastMCP[Any] = FastMCP(
        "falconer",
        instructions=_INSTRUCTIONS,
        tools=[McpTool.of(tool) for tool in toolkit.get_tools() if isinstance(tool, FalconerTool)],
        host=host,
        port=port,
        transport_security=local,
        log_level="WARNING",  # else there is a line for each request
    )
    server._mcp_server.version = version("langchain-falconer")  # FastMCP has no argument for it
    return server
