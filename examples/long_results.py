"""An agent whose search tool returns 3,000 documents: they become a corpus, and the model reads a note of 300 tokens.

Run it: python examples/long_results.py (with OPENAI_API_KEY set, an LLM takes the place of the script)
"""

from __future__ import annotations

import random
from typing import Any

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.tools import tool
from scripted_model import LLM, ScriptedModel

from langchain_falconer import CorpusMiddleware, FalconerToolkit

DOCUMENTS = 3_000
PRAISE = ("I love it, fast and quiet.", "Works perfectly, a bargain.", "The best laptop I have had.")
COMPLAINTS = ("It broke after a week.", "Terrible, the screen flickers.", "Awful battery, I sent it back.")


@tool
def search(query: str) -> list[Document]:
    """Search the web for documents."""
    random.seed(0)
    documents = []
    for i in range(DOCUMENTS):
        month = i % 6 + 1
        sentences = COMPLAINTS if random.random() < month / 10 else PRAISE
        text = f"{random.choice(sentences)} I paid ${random.randrange(300, 2000)} for number {i}."
        documents.append(Document(text, metadata={"url": f"https://shop.example/{i}", "date": f"2026-0{month}-15"}))
    return documents


SCRIPT = ScriptedModel(
    script=[
        ("search", lambda answers: {"query": "laptop reviews"}),
        (
            "get_label",
            lambda answers: {
                "corpus": answers[0]["corpus"],
                "instruction": "Is the customer unhappy?",
                "by": "month",
            },
        ),
    ],
    ending=lambda answers: (
        "Unhappy by month: "
        + ", ".join(f"{group['value']} {group['share']['counted']:.0%}" for group in answers[1]["groups"][0]["values"])
    ),
)


def main(model: Any = LLM, **falconer: Any) -> dict[str, Any]:
    """Run the agent, and return its state.

    Args:
        model: The model of the agent; None for a script.
        falconer: Arguments of ``FalconerToolkit``, such as the LLM that annotates and the home.
    """
    toolkit = FalconerToolkit(**{"llm": model, **falconer})
    agent = create_agent(model or SCRIPT, tools=[search], middleware=[CorpusMiddleware(toolkit)])
    question = "Search for laptop reviews. Are customers less happy than they were? Give the share of each month."
    state: dict[str, Any] = agent.invoke({"messages": [("user", question)]})
    for message in state["messages"]:
        message.pretty_print()
    return state


if __name__ == "__main__":
    main()
