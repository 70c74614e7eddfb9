"""Falconer as a subgraph: its parent has another state and context, and resumes the review of the plan.

Run it: python examples/subgraph.py reviews.jsonl (without OPENAI_API_KEY: a plan, and the untrained model)
"""

from __future__ import annotations

import sys
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from scripted_model import LLM
from typing_extensions import NotRequired, TypedDict

from langchain_falconer import create_falconer_graph

PLAN = {
    "instruction": "Extract the prices from positive reviews",
    "steps": [
        {"id": "positive", "op": "get_label", "instruction": "Is this a positive review?"},
        {
            "id": "price",
            "op": "get_span",
            "instruction": "Extract the price",
            "where": {"step": "positive", "equals": True},
        },
    ],
}


class Desk(TypedDict):
    """The state of an imaginary news desk."""

    question: str
    files: list[str]
    headline: NotRequired[str]


class Reader(TypedDict):
    """The context of the parent's runs, which Falconer does not use."""

    name: str


def main(files: list[str], llm: Any = LLM, **options: Any) -> str:
    """Run the parent graph over files, and approve the plan.

    Args:
        files: Files of the corpus.
        llm: The LLM; None for a plan of our own and the untrained model.
        options: Options of ``create_falconer_graph``, such as home and settings.
    """
    falconer = create_falconer_graph(llm, **options)

    def mine(state: Desk) -> dict[str, Any]:
        job = {"instruction": state["question"], "corpus": state["files"]}
        summary = falconer.invoke(job if llm else {**job, "plan": PLAN, "ask": {}})["summary"]
        return {"headline": f"{summary['rows']['matched']} of {summary['rows']['total']}"}

    def greet(state: Desk, runtime: Runtime[Reader]) -> dict[str, Any]:
        return {"headline": f"For {runtime.context['name']}: {state['headline']} texts match '{state['question']}'"}

    parent = StateGraph(Desk, context_schema=Reader)
    parent.add_node("mine", mine)
    parent.add_node("greet", greet)
    parent.add_edge(START, "mine")
    parent.add_edge("mine", "greet")
    parent.add_edge("greet", END)
    desk = parent.compile(checkpointer=InMemorySaver())

    config: Any = {"configurable": {"thread_id": "1"}}
    reader = Reader(name="Ada")
    paused = desk.invoke(
        {"question": "Extract the prices from positive reviews", "files": files}, config, context=reader
    )
    print(paused["__interrupt__"][0].value["pseudocode"])
    finished = desk.invoke(Command(resume="yes"), config, context=reader)
    print(finished["headline"])
    return str(finished["headline"])


if __name__ == "__main__":
    main(sys.argv[1:])
