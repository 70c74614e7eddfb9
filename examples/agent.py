"""An agent that analyses every text of a corpus through tools, without a text in its context.

Run it: OPENAI_API_KEY=… python examples/agent.py
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent

from langchain_falconer import FalconerToolkit

REVIEWS = [
    {"text": "I love this laptop, fast and quiet. I paid $999 for it.", "url": "https://shop.example/1"},
    {"text": "It broke after a week, and it was $450.", "url": "https://shop.example/2"},
    {"text": "Love it! Worth every cent of $1299.", "url": "https://shop.example/3"},
    {"text": "The keyboard is awful.", "url": "https://shop.example/4"},
]


def main(model: Any = "openai:gpt-4.1-mini", **falconer: Any) -> str:
    """Run the agent.

    Args:
        model: The model of the agent.
        falconer: Arguments of ``FalconerToolkit``, such as the LLM that annotates and the home.
    """
    toolkit = FalconerToolkit(**{"llm": model, **falconer})
    toolkit.falconer.add_documents("reviews", REVIEWS)  # the agent has a tool for this, too
    agent = create_agent(
        model, tools=toolkit.get_tools(), system_prompt="Answer from the tools, and cite the result id."
    )
    state = agent.invoke({"messages": [("user", "What did happy customers pay, according to the reviews?")]})
    for message in state["messages"]:
        message.pretty_print()
    return str(state["messages"][-1].content)


if __name__ == "__main__":
    main()
