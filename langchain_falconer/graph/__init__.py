"""The graph room: Falconer as a LangGraph state machine, and the home that it keeps its work in.

LangGraph loads when something of the state machine is first used; home and settings need none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from langchain_falconer.graph._home import Home, default_home, digest, file_digest, read_json, write_json
from langchain_falconer.graph._settings import MineSettings

if TYPE_CHECKING:
    from langchain_falconer.graph._graph import FalconerContext, build_falconer, create_falconer_graph
    from langchain_falconer.graph._planning import planned
    from langchain_falconer.graph._stages import HUMAN
    from langchain_falconer.graph._state import FalconerInput, FalconerOutput, FalconerState, Review

_PLACES = {
    "FalconerContext": "_graph",
    "FalconerInput": "_state",
    "FalconerOutput": "_state",
    "FalconerState": "_state",
    "HUMAN": "_stages",
    "Review": "_state",
    "build_falconer": "_graph",
    "create_falconer_graph": "_graph",
    "planned": "_planning",
}

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


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
