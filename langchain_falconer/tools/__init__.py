"""Agent tools, for ``create_agent``, ``deepagents``, MCP and every other LangChain host.

An agent names a corpus; no text has to pass through its context. Content is a compact JSON summary within a token
budget, with a result id to read on from; the artifact is the same as data.
"""

from langchain_falconer.tools.base import MAX_TEXTS, MAX_TOKENS, FalconerTool
from langchain_falconer.tools.corpora import AddDocumentsTool, ListCorporaTool
from langchain_falconer.tools.mcp_server import create_mcp_server
from langchain_falconer.tools.mining import GetLabelTool, GetSpanTool, MineCorpusTool
from langchain_falconer.tools.results_tool import ReadResultsTool
from langchain_falconer.tools.retriever import CorpusRetriever
from langchain_falconer.tools.toolkit import FalconerToolkit, create_falconer_subagent

__all__ = [
    "MAX_TEXTS",
    "MAX_TOKENS",
    "AddDocumentsTool",
    "CorpusRetriever",
    "FalconerTool",
    "FalconerToolkit",
    "GetLabelTool",
    "GetSpanTool",
    "ListCorporaTool",
    "MineCorpusTool",
    "ReadResultsTool",
    "create_falconer_subagent",
    "create_mcp_server",
]
