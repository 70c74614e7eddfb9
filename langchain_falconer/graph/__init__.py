"""The graph room: Falconer as a LangGraph state machine, and the home that it keeps its work in."""

from langchain_falconer.graph._graph import FalconerContext, build_falconer, create_falconer_graph
from langchain_falconer.graph._home import Home, default_home, digest, file_digest, read_json, write_json
from langchain_falconer.graph._planning import planned
from langchain_falconer.graph._settings import MineSettings
from langchain_falconer.graph._stages import HUMAN
from langchain_falconer.graph._state import FalconerInput, FalconerOutput, FalconerState, Review

__all__ = [
    "HUMAN",
    "FalconerContext",
    "FalconerInput",
    "FalconerOutput",
    "FalconerState",
    "Home",
    "MineSettings",
    "Review",
    "build_falconer",
    "create_falconer_graph",
    "default_home",
    "digest",
    "file_digest",
    "planned",
    "read_json",
    "write_json",
]
