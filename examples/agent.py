"""An agent that analyses every text of a corpus through tools, without a text in its context.

Run it: python examples/agent.py (with OPENAI_API_KEY set, an LLM takes the place of the script)
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from scripted_model import LLM, ScriptedModel

from langchain_falconer import FalconerToolkit

REVIEWS = [
    {"text": "I love this laptop, fast and quiet. I paid $999 for it.", "url": "https://shop.example/1"},
    {"text": "It broke after a week, and it was $450.", "url": "https://shop.example/2"},
    {"text": "Love it! Worth every cent of $1299.", "url": "https://shop.example/3"},
    {"text": "The keyboard is awful.", "url": "https://shop.example/4"},
]


SCRIPT = ScriptedModel(
    script=[
        ("list_corpora", lambda answers: {}),
        ("get_span", lambda answers: {"corpus": "reviews", "instruction": "Extract the price"}),
    ],
    ending=lambda answers: "The reviews name " + ", ".join(one["value"] for one in answers[1]["steps"]["span"]["top"]),
)


def main(model: Any = LLM, **falconer: Any) -> str:
    """Run the agent.

    Args:
        model: The model of the agent; None for a script.
        falconer: Arguments of ``FalconerToolkit``, such as the LLM that annotates and the home.
    """
    toolkit = FalconerToolkit(**{"llm": model, **falconer})
    toolkit.falconer.add_documents("reviews", REVIEWS)  # the agent has a tool for this, too
    agent = create_agent(
        model or SCRIPT, tools=toolkit.get_tools(), system_prompt="Answer from the tools, and cite the result id."
    )
    state = agent.invoke({"messages": [("user", "What did happy customers pay, according to the reviews?")]})
    for message in state["messages"]:
        message.pretty_print()
    return str(state["messages"][-1].content)


if __name__ == "__main__":
    main()
