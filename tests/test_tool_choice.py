"""A small local LLM as an agent's own model: does it pick the right tool, with arguments that are valid?

Runs where ``FALCONER_LOCAL_LLM`` names an OpenAI-compatible server, e.g. that of ``../shared/tools/local-llm``.
"""

import json
import os
import re

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from laptops import reviews, write_corpus
from pydantic import ValidationError

from langchain_falconer import FalconerToolkit

SERVER = os.environ.get("FALCONER_LOCAL_LLM")

REQUESTS = [
    ("Which corpora can I ask about?", {"list_corpora"}, ""),
    (
        "From the corpus 'reviews', extract the prices from good reviews.",
        {"mine_corpus"},
        "reviews",
    ),
    ("How many texts of the corpus 'reviews' are complaints?", {"mine_corpus", "get_label"}, "reviews"),
    ("Is this a complaint? Text: 'My order never arrived, and nobody answers.'", {"get_label"}, "texts"),
    ("Extract all dates from this text: 'They met on 4 May 2021 and again on 9 June.'", {"get_span"}, "texts"),
    ("Extract the company names from all texts of the corpus 'news'.", {"get_span", "mine_corpus"}, "news"),
    (
        "Sort all texts of the corpus 'news' into sports, politics and business.",
        {"get_label", "mine_corpus"},
        "news",
    ),
    ("Show me the matching rows of the result 3f2a9c77d01be415.", {"read_results"}, "3f2a9c77d01be415"),
    ("For the result 3f2a9c77d01be415, count the rows by source.", {"read_results"}, "source"),
    (
        "Add this document to the corpus 'notes': 'The bridge was closed on Monday.' (source: The Herald)",
        {"add_documents"},
        "notes",
    ),
]


class FencedCalls(ChatOpenAI):
    """The local model writes a tool call as a fenced JSON block, which the server leaves in the text."""

    def _generate(self, *args, **kwargs):
        result = super()._generate(*args, **kwargs)
        message = result.generations[0].message
        if not message.tool_calls and (call := first_call(str(message.content))):
            result.generations[0].message = AIMessage("", tool_calls=[{**call, "id": "1", "type": "tool_call"}])
        return result


def first_call(text):
    for start in re.finditer(r"\{", text):
        try:
            data, _ = json.JSONDecoder().raw_decode(text[start.start() :])
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("name"), str):
            return {"name": data["name"], "args": data.get("arguments") or {}}
    return None


@pytest.mark.skipif(SERVER is None, reason="FALCONER_LOCAL_LLM names no server")
@pytest.mark.timeout(1200)
def test_a_small_model_picks_the_right_tool_with_valid_arguments(tmp_path):
    corpora = {name: write_corpus(tmp_path / f"{name}.jsonl", reviews(5)) for name in ("reviews", "news")}
    tools = {t.name: t for t in FalconerToolkit(home=tmp_path / "home", corpora=corpora).get_tools()}
    model = FencedCalls(base_url=SERVER, api_key="none", model="local", temperature=0, timeout=300)
    agent = create_agent(model, tools=list(tools.values()), interrupt_before=["tools"])
    right = [is_right(agent, tools, *request) for request in REQUESTS]
    assert sum(right) >= 8, [request for (request, *_), one in zip(REQUESTS, right, strict=True) if not one]


def is_right(agent, tools, request, wanted, argument):
    calls = agent.invoke({"messages": [("user", request)]})["messages"][-1].tool_calls
    print(request, "->", [(c["name"], c["args"]) for c in calls])
    if not calls or calls[0]["name"] not in wanted:
        return False
    try:
        tools[calls[0]["name"]].args_schema.model_validate(calls[0]["args"])
    except ValidationError:
        return False
    values = calls[0]["args"]
    return not argument or argument in values or argument in values.values()
