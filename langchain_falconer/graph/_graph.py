"""The LangGraph state machine: plan → review → sample → annotate → train → evaluate → (annotate | execute) → report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import TracePolicy, interrupt

from langchain_falconer._trace import with_texts
from langchain_falconer.graph._home import Home
from langchain_falconer.graph._settings import MineSettings
from langchain_falconer.graph._stages import Stages, Update
from langchain_falconer.graph._state import FalconerInput, FalconerOutput, FalconerState, Review
from langchain_falconer.llm import LLM

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langgraph.graph.state import CompiledStateGraph


@dataclass(frozen=True)
class FalconerContext:
    """What a run works with; never checkpointed. Fields left None fall back to what the graph was made with."""

    llm: LLM | BaseChatModel | str | None = None
    home: str | Path | None = None
    settings: MineSettings | None = None
    recorded: str | None = None


def build_falconer(
    llm: LLM | BaseChatModel | str | None = None,
    *,
    home: str | Path | None = None,
    settings: MineSettings | None = None,
    recorded: str | None = None,
) -> StateGraph[FalconerState, FalconerContext, FalconerInput, FalconerOutput]:
    """The uncompiled state machine, for those who want to add nodes of their own.

    Args:
        llm: plans and annotates; a chat model, or a string such as ``"openai:gpt-4.1-mini"``. None where a plan and
            annotations (or a recording) are given.
        home: the folder for annotations, proxies and runs; ``$FALCONER_HOME`` or ``~/.falconer`` by default.
        settings: how to mine.
        recorded: without an LLM, the source in the annotation store whose recorded answers are used.
    """
    defaults = FalconerContext(llm, home, settings, recorded)
    graph = StateGraph(
        FalconerState, context_schema=FalconerContext, input_schema=FalconerInput, output_schema=FalconerOutput
    )

    def node(name: str) -> Callable[..., Update]:
        def work(state: FalconerState, runtime: Runtime[FalconerContext]) -> Update:
            def emit(event: dict[str, Any]) -> None:
                runtime.stream_writer({"stage": name, **event})

            update: Update = getattr(_stages(runtime, defaults), name)(state, emit)
            return update

        return work

    def review(state: FalconerState, runtime: Runtime[FalconerContext]) -> Update:
        stages = _stages(runtime, defaults)
        if state.get("auto_approve"):
            return {"review": {"action": "approve"}}
        answer = interrupt(stages.question(state), response_schema=Review)
        return stages.reviewed(state, Review.model_validate(answer))

    def reject(state: FalconerState, runtime: Runtime[FalconerContext]) -> Update:
        return _stages(runtime, defaults).rejected(state)

    for name in ("plan", "sample", "annotate", "train", "evaluate", "execute", "report"):
        graph.add_node(name, node(name), trace_policy=_TRACED)
    graph.add_node("review", review)
    graph.add_node("reject", reject)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "review")
    graph.add_conditional_edges("review", _after_review, ["sample", "review", "reject"])
    graph.add_edge("reject", END)
    graph.add_edge("sample", "annotate")
    graph.add_edge("annotate", "train")
    graph.add_edge("train", "evaluate")
    graph.add_conditional_edges("evaluate", Stages.after_evaluate, ["annotate", "execute"])
    graph.add_edge("execute", "report")
    graph.add_edge("report", END)
    return graph


def create_falconer_graph(
    llm: LLM | BaseChatModel | str | None = None,
    *,
    home: str | Path | None = None,
    settings: MineSettings | None = None,
    recorded: str | None = None,
    checkpointer: Any = None,
    store: Any = None,
    name: str = "falconer",
) -> CompiledStateGraph[FalconerState, FalconerContext, FalconerInput, FalconerOutput]:
    """The compiled state machine; see :func:`build_falconer` for the arguments that are not LangGraph's own.

    Without a checkpointer it inherits that of a parent graph. The review is an ``interrupt()``: resume with
    ``Command(resume={"action": "approve"})``, ``{"action": "edit", "plan": {..}}`` or ``{"action": "reject"}``; input
    ``auto_approve=True`` passes it.
    """
    graph = build_falconer(llm, home=home, settings=settings, recorded=recorded)
    return graph.compile(checkpointer=checkpointer, store=store, name=name)


def _brief(value: Any) -> dict[str, Any]:
    """What a trace holds of a state, or of a stage's update of it: counts and names, no text of the corpus."""
    if with_texts() or not isinstance(value, dict):
        return value if isinstance(value, dict) else {}
    told = {
        key: value[key] for key in ("run_id", "round", "sample", "annotation", "quality", "seconds") if key in value
    }
    told |= {"proxy": Path(value["proxy"]).name} if value.get("proxy") else {}
    if rows := (value.get("execution") or {}).get("rows"):
        told["rows"] = {key: rows[key] for key in ("total", "matched", "failed")}
    return told


_TRACED = TracePolicy(process_inputs=_brief, process_outputs=_brief)


def _after_review(state: FalconerState) -> Literal["sample", "review", "reject"]:
    match state["review"]["action"]:
        case "approve":
            return "sample"
        case "reject":
            return "reject"
        case _:
            return "review"


def _stages(runtime: Runtime[FalconerContext], defaults: FalconerContext) -> Stages:
    """The stages for this run. As a subgraph we are handed the parent's context, which may be of any type."""
    given = runtime.context if isinstance(runtime.context, FalconerContext) else FalconerContext()
    llm = given.llm or defaults.llm
    return Stages(
        Home.at(given.home or defaults.home),
        LLM(llm) if llm is not None and not isinstance(llm, LLM) else llm,
        given.recorded or defaults.recorded,
        given.settings or defaults.settings or MineSettings(),
    )
