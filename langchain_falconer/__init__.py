"""Falconer: an LLM's judgement over a large corpus at a small encoder's price (arXiv 2510.01427).

``import langchain_falconer`` is light: torch, transformers, faiss and langgraph load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_falconer.annotate import Annotation, read_annotations
    from langchain_falconer.errors import FalconerError
    from langchain_falconer.execute import Targets
    from langchain_falconer.falconer import Falconer, MiningResult
    from langchain_falconer.graph import FalconerContext, MineSettings, build_falconer, create_falconer_graph
    from langchain_falconer.llm import LLM, LLMSettings
    from langchain_falconer.plan import LabelOption, LabelStep, Plan, Planner, SpanStep
    from langchain_falconer.proxy import Proxy, TrainSettings
    from langchain_falconer.records import Label, Record, Span
    from langchain_falconer.tools import FalconerToolkit

_HOMES = {
    "Annotation": "annotate",
    "Falconer": "falconer",
    "FalconerContext": "graph",
    "FalconerError": "errors",
    "FalconerToolkit": "tools",
    "LLM": "llm",
    "LLMSettings": "llm",
    "Label": "records",
    "LabelOption": "plan",
    "LabelStep": "plan",
    "MineSettings": "graph",
    "MiningResult": "falconer",
    "Plan": "plan",
    "Planner": "plan",
    "Proxy": "proxy",
    "Record": "records",
    "Span": "records",
    "SpanStep": "plan",
    "Targets": "execute",
    "TrainSettings": "proxy",
    "build_falconer": "graph",
    "create_falconer_graph": "graph",
    "read_annotations": "annotate",
}

__all__ = [
    "LLM",
    "Annotation",
    "Falconer",
    "FalconerContext",
    "FalconerError",
    "FalconerToolkit",
    "LLMSettings",
    "Label",
    "LabelOption",
    "LabelStep",
    "MineSettings",
    "MiningResult",
    "Plan",
    "Planner",
    "Proxy",
    "Record",
    "Span",
    "SpanStep",
    "Targets",
    "TrainSettings",
    "build_falconer",
    "create_falconer_graph",
    "read_annotations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
