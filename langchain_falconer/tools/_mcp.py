"""The tools as an MCP server, for every host that is no LangChain agent (extra ``mcp``)."""

from __future__ import annotations

from typing import Any

from langchain_falconer.errors import SettingsError
from langchain_falconer.tools._toolkit import FalconerToolkit

_INSTRUCTIONS = (
    "Tools over large collections of texts. Call list_corpora to see what there is, add_documents to add to it, "
    "mine_corpus to search through every text of a corpus for something said in plain words, and read_results to read "
    "the rows behind an answer. Never ask for a corpus to be read text by text."
)


def create_mcp_server(toolkit: FalconerToolkit, *, port: int = 8000) -> Any:
    """A ``FastMCP`` server with the tools: ``run()`` for stdio, ``run("streamable-http")`` for HTTP at /mcp.

    It listens on the loopback interface only. Its clients read no files but those of the toolkit's ``files_folder``.

    Raises:
        SettingsError: the extra is not installed.
    """
    try:
        from langchain_mcp_adapters.tools import to_fastmcp
        from mcp.server.fastmcp import FastMCP
    except ImportError:
        raise SettingsError("an MCP server needs its extra; run: pip install 'langchain-falconer[mcp]'") from None
    tools = [to_fastmcp(tool) for tool in toolkit.get_tools()]
    return FastMCP("falconer", instructions=_INSTRUCTIONS, tools=tools, host="127.0.0.1", port=port)
