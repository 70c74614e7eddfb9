"""Names of the package, imported when they are first used."""

from .base import MAX_TEXTS as MAX_TEXTS
from .base import MAX_TOKENS as MAX_TOKENS
from .base import FalconerTool as FalconerTool
from .corpora import AddDocumentsTool as AddDocumentsTool
from .corpora import ListCorporaTool as ListCorporaTool
from .decision_server import create_decision_app as create_decision_app
from .decision_server import serve_decisions as serve_decisions
from .mcp_server import create_mcp_server as create_mcp_server
from .middleware import CorpusMiddleware as CorpusMiddleware
from .middleware import CorpusState as CorpusState
from .middleware import KeptResult as KeptResult
from .mining import GetLabelTool as GetLabelTool
from .mining import GetSpanTool as GetSpanTool
from .mining import MineCorpusTool as MineCorpusTool
from .results_tool import ReadResultsTool as ReadResultsTool
from .retriever import CorpusRetriever as CorpusRetriever
from .toolkit import FalconerToolkit as FalconerToolkit
from .toolkit import create_falconer_subagent as create_falconer_subagent

__all__ = [
    "MAX_TEXTS",
    "MAX_TOKENS",
    "AddDocumentsTool",
    "CorpusMiddleware",
    "CorpusRetriever",
    "CorpusState",
    "FalconerTool",
    "FalconerToolkit",
    "GetLabelTool",
    "GetSpanTool",
    "KeptResult",
    "ListCorporaTool",
    "MineCorpusTool",
    "ReadResultsTool",
    "create_decision_app",
    "create_falconer_subagent",
    "create_mcp_server",
    "serve_decisions",
]
