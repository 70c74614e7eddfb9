"""An agent asks three questions about many posts: none passes through its context, and each number is one of the rows.

``FALCONER_POSTS=20000`` asks about so many real posts, of the data sets in ``FALCONER_DATA``, with the real encoder.
"""

import gzip
import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from laptops import asked, is_planning
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer, FalconerToolkit
from langchain_falconer.execute import read_rows
from langchain_falconer.settings import MineSettings
from langchain_falconer.tools import MAX_TOKENS

POSTS = int(os.environ.get("FALCONER_POSTS", "0"))
DATA = Path(os.environ.get("FALCONER_DATA", Path(__file__).parents[2] / "shared" / "data"))
INSTRUCTION, ASKS, NAMES = "Who is asked a question?", "Does the post ask a question?", "Extract the user names."
DRAFT = {
    "texts": "posts",
    "filters": [{"only": "ask a question", "id": "asks", "question": ASKS, "keep_if": "true"}],
    "wanted": ["find the user names"],
    "steps": [
        {
            "id": "name",
            "ask": "find_spans",
            "instruction": NAMES,
            "labels": [],
            "of": "",
            "where": [],
            "where_join": "all",
        }
    ],
}


QUESTIONS = (
    ("mine_corpus", {"instruction": INSTRUCTION, "corpus": "posts"}),
    ("get_label", {"instruction": ASKS, "corpus": "posts"}),
    ("get_span", {"instruction": NAMES, "corpus": "posts"}),
)


def post(i):
    question = "have you seen this one?" if i % 3 else "I have seen this one and liked it."
    return f"@user{i} number {i}, {question}" if i % 2 else f"number {i}, {question}"


def scripted(request):
    """A teacher who plans, and reads posts by rule."""
    if is_planning(request):
        return json.dumps(DRAFT)
    names = f"Task: {NAMES}" in request["messages"][-1]["content"]
    return json.dumps({k: re.findall(r"@\w+", t) if names else "?" in t for k, t in asked(request).items()})


class Researcher(BaseChatModel):
    """Asks three questions, one after another, and counts the rows behind each."""

    @property
    def _llm_type(self):
        return "researcher"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answers = [json.loads(m.content) for m in messages if isinstance(m, ToolMessage)]
        turn = len(answers)
        if turn == 6:
            return ChatResult(generations=[ChatGeneration(message=AIMessage("Done."))])
        if turn % 2:
            counted = ("name", "label", "span")[turn // 2]
            name, arguments = "read_results", {"result": answers[-1]["result"], "count_by": counted}
        else:
            name, arguments = QUESTIONS[turn // 2]
        call = {"name": name, "args": arguments, "id": str(turn)}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("", tool_calls=[call]))])


@pytest.fixture
def posts():
    if not POSTS:
        return [post(i) for i in range(300)]
    file = DATA / "short_posts" / "corpus.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; FALCONER_DATA names the folder of the data sets")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(POSTS), strict=False)]


@pytest.mark.timeout(3_600)
def test_three_questions_over_many_posts(posts, tiny_bert, tmp_path, settings):
    small = settings.model_copy(update={"annotations": 100, "base": tiny_bert})
    chosen = MineSettings(annotations=100) if POSTS else small
    with ChatServer(scripted) as server:
        falconer = Falconer(llm_at(server), home=tmp_path, settings=chosen)
        falconer.add_documents("posts", texts=posts)
        agent = create_agent(Researcher(), tools=FalconerToolkit(falconer).get_tools())
        messages, calls, began = [], [], time.monotonic()
        for step in agent.stream({"messages": [("user", "What do people ask?")]}, stream_mode="updates"):
            for message in step.get("tools", {}).get("messages", ()):
                messages.append(message)
                calls.append(server.calls)
                took = time.monotonic() - began
                print(f"{message.name}: {took:.1f} s, {len(message.content.encode()) / 3:.0f} tokens")
                began = time.monotonic()
    tool_names = [tool for tool, _ in QUESTIONS]
    assert [m.name for m in messages] == [name for tool in tool_names for name in (tool, "read_results")]
    assert all(len(m.content.encode()) / 3 <= MAX_TOKENS for m in messages)
    assert calls[0] == calls[-1] > 0, "only the first question is paid for"
    answers = [m.artifact for m in messages[::2]]
    assert [a["decision"]["strategy"] for a in answers[1:]] == ["registry", "registry"]
    for answer, read in zip(answers, messages[1::2], strict=True):
        rows = list(read_rows(falconer.home.folder / "results" / f"{answer['result']}.parquet"))
        assert answer["rows"] == len(rows) == len(set(posts))
        assert answer["matched"] == sum(row["match"] for row in rows)
        for step, facts in answer["steps"].items():
            if "counts" in facts:
                counts = Counter(str(row["labels"][step]["value"]).lower() for row in rows)
                assert facts["counts"] == counts
            else:
                counts = Counter(s["text"] for row in rows for s in row["spans"].get(step, ()))
                assert facts["spans"] == counts.total()
                assert facts["texts_with"] == sum(bool(row["spans"].get(step)) for row in rows)
                assert {one["value"]: one["count"] for one in facts["top"]}.items() <= counts.items()
            if step == read.artifact["count_by"]:
                assert read.artifact["distinct"] == len(counts)
                assert {one["value"]: one["count"] for one in read.artifact["values"]}.items() <= counts.items()
