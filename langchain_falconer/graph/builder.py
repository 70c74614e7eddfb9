"""The LangGraph state machine.

plan → pilot → review → route → sample → annotate (→ sample) → train → evaluate → (annotate | execute) → report; the
route of a question may lead from an earlier answer to the end, or from a proxy that is trusted to the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import get_runtime
from langgraph.types import TracePolicy

from langchain_falconer.cancellation import raise_if_cancelled, run_in_thread
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.home import Home
from langchain_falconer.graph.nodes import (
    annotate,
    evaluate,
    execute,
    pilot,
    plan,
    report,
    review,
    route,
    sample,
    train,
)
from langchain_falconer.graph.state import FalconerInput, FalconerOutput, FalconerState
from langchain_falconer.llm import LLM, on_wait
from langchain_falconer.settings import MineSettings
from langchain_falconer.tracing import with_texts

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.store.base import BaseStore

Node = Callable[[FalconerState, NodeContext], Update]
_NODES: dict[str, Node] = {
    "plan": plan.plan,
    "pilot": pilot.pilot,
    "route": route.route,
    "sample": sample.sample,
    "annotate": annotate.annotate,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "execute": execute.execute,
    "report": report.report,
}


@dataclass(frozen=True)
class FalconerContext:
    """The context of a run; never checkpointed. Fields left None fall back to those of the graph.

    Attributes:
        llm: Plans and annotates.
        home: Folder for annotations, proxies and runs; ``$FALCONER_HOME`` or ``~/.falconer`` by default.
        settings: How to mine.
        recorded: Source in the annotation store whose answers stand in for an LLM.
        addresses: Whole addresses of URLs, credentials included, by what the state shows of them.
    """

    llm: LLM | BaseChatModel | str | None = None
    home: str | Path | None = None
    settings: MineSettings | None = None
    recorded: str | None = None
    addresses: Mapping[str, str] | None = None


def build_falconer(
    llm: LLM | BaseChatModel | str | None = None,
    *,
    home: str | Path | None = None,
    settings: MineSettings | None = None,
    recorded: str | None = None,
    addresses: Mapping[str, str] | None = None,
) -> StateGraph[FalconerState, FalconerContext, FalconerInput, FalconerOutput]:
    """Build the uncompiled state machine, to add nodes of your own.

    Args:
        llm: Plans and annotates; a chat model, or a string such as ``"openai:gpt-4.1-mini"``. None where a plan and
            annotations (or a recording) are passed.
        home: Folder for annotations, proxies and runs; ``$FALCONER_HOME`` or ``~/.falconer`` by default.
        settings: How to mine.
        recorded: Without an LLM, the source in the annotation store whose recorded answers are used.
        addresses: Whole addresses of URLs, credentials included, by what the state shows of them.
    """
    defaults = FalconerContext(llm, home, settings, recorded, addresses)
    llms: dict[object, LLM] = {}  # one per model, so that its rate limit and its output mode survive nodes
    graph = StateGraph(
        FalconerState, context_schema=FalconerContext, input_schema=FalconerInput, output_schema=FalconerOutput
    )
    for name, node in _NODES.items():
        graph.add_node(name, _Stage(name, node, defaults, llms), trace_policy=_TRACED)
    graph.add_node("review", review.review)
    graph.add_node("reject", review.reject)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "pilot")
    graph.add_edge("pilot", "review")
    graph.add_conditional_edges("review", review.after_review, ["route", "review", "reject"])
    graph.add_edge("reject", END)
    graph.add_conditional_edges("route", route.after_route, ["sample", "report", END])
    graph.add_edge("sample", "annotate")
    graph.add_conditional_edges("annotate", sample.after_annotate, ["sample", "train"])
    graph.add_conditional_edges("train", _after_train, ["evaluate", "execute"])
    graph.add_conditional_edges("evaluate", _after_evaluate, ["annotate", "train"])
    graph.add_edge("execute", "report")
    graph.add_edge("report", END)
    return graph


def create_falconer_graph(
    llm: LLM | BaseChatModel | str | None = None,
    *,
    home: str | Path | None = None,
    settings: MineSettings | None = None,
    recorded: str | None = None,
    addresses: Mapping[str, str] | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
    name: str = "falconer",
) -> CompiledStateGraph[FalconerState, FalconerContext, FalconerInput, FalconerOutput]:
    """Build and compile the state machine; see :func:`build_falconer` for the first five arguments.

    Without a checkpointer it inherits that of a parent graph. The review is an ``interrupt()``: resume with
    ``Command(resume="approve")``, ``{"action": "edit", "plan": {..}}`` or ``{"action": "reject", "reason": ..}``; an
    answer that is not understood is asked for again. The input ``auto_approve=True`` skips it.
    """
    graph = build_falconer(llm, home=home, settings=settings, recorded=recorded, addresses=addresses)
    return graph.compile(checkpointer=checkpointer, store=store, name=name)


class _Stage(Runnable[FalconerState, Update]):
    """A node that holds the lock of its job while it works: whoever waits finds what was done, and pays nothing.

    In a graph that runs on an event loop it works in a thread, and the LLM is awaited on the loop.
    """

    def __init__(self, name: str, node: Node, defaults: FalconerContext, llms: dict[object, LLM]) -> None:
        self.name = name
        self._node = node
        self._defaults = defaults
        self._llms = llms

    def invoke(self, input: FalconerState, config: RunnableConfig | None = None, **kwargs: Any) -> Update:  # noqa: A002
        runtime, defaults = get_runtime(), self._defaults
        # As a subgraph we are passed the parent's context, which may be of any type.
        own = runtime.context if isinstance(runtime.context, FalconerContext) else FalconerContext()

        def emit(event: Mapping[str, object]) -> None:
            raise_if_cancelled()
            runtime.stream_writer({"type": "falconer", "stage": self.name, **event})

        context = NodeContext(
            Home.at(own.home or defaults.home),
            _client(own.llm or defaults.llm, self._llms),
            own.settings or defaults.settings or MineSettings(),
            own.recorded or defaults.recorded,
            emit,
            own.addresses or defaults.addresses or {},
        )
        job_id = input["run_id"] if self.name != "plan" else context.job_id(input)
        with context.locked(job_id), on_wait(lambda wait: context.emit({"note": str(wait)})):
            return self._node(input, context)

    async def ainvoke(self, input: FalconerState, config: RunnableConfig | None = None, **kwargs: Any) -> Update:  # noqa: A002
        def run() -> Update:
            var_child_runnable_config.set(config)  # Python 3.10 does not hand it to a coroutine
            return self.invoke(input, config)

        return await run_in_thread(run)


def _client(model: LLM | BaseChatModel | str | None, llms: dict[object, LLM]) -> LLM | None:
    if model is None or isinstance(model, LLM):
        return model
    key = model if isinstance(model, str) else id(model)  # the LLM holds its model, so that no id is used twice
    return llms.get(key) or llms.setdefault(key, LLM(model))


def _after_train(state: FalconerState) -> Literal["evaluate", "execute"]:
    return "execute" if train.was_measured(state) else "evaluate"


def _after_evaluate(state: FalconerState) -> Literal["annotate", "train"]:
    return "annotate" if state.get("needs_annotation") else "train"


def _without_texts(value: Any) -> dict[str, Any]:
    """Return what a trace holds of a state, or of an update of it: counts and names, no text of the corpus."""
    if with_texts() or not isinstance(value, dict):
        return value if isinstance(value, dict) else {}
    names = ("run_id", "round", "sample", "annotation", "quality", "seconds")
    facts = {key: value[key] for key in names if key in value}
    facts |= {"proxy": Path(value["proxy"]).name} if value.get("proxy") else {}
    if rows := (value.get("execution") or {}).get("rows"):
        facts["rows"] = {key: rows[key] for key in ("total", "matched", "failed")}
    return facts


_TRACED = TracePolicy(process_inputs=_without_texts, process_outputs=_without_texts)
