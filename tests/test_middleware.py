"""Long tool results become corpora: nothing of them passes through the agent, and what it answers is in the rows."""

import asyncio
import datetime
import json
import shutil
from collections import Counter
from decimal import Decimal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolCallLimitMiddleware, ToolRetryMiddleware
from langchain.tools.tool_node import ToolCallRequest
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.types import Command
from laptops import PLAN, is_positive, reviews

from langchain_falconer import CorpusMiddleware, FalconerToolkit
from langchain_falconer.errors import SettingsError
from langchain_falconer.execute import read_rows
from langchain_falconer.settings import MineSettings

POSITIVE = PLAN["positive"].instruction
FILLER = "It came in a box with a cable and a small book. " * 12


def found(n):
    """Reviews of a web shop as a search tool returns them, with their pages: 700 bytes each, of six months."""
    return [
        Document(
            text, metadata={"url": f"https://shop.example/{i % 5}", "date": f"2026-0{i % 6 + 1}-03", "page": FILLER}
        )
        for i, text in enumerate(reviews(n))
    ]


def searching(n=30):
    """A search tool."""
    return tool("search", description="Search the web.")(lambda query: found(n))


class Shopper(BaseChatModel):
    """Searches, asks about the corpus that a note names, and answers with the counts of the tool."""

    seen: list = []
    prompts: list = []

    @property
    def _llm_type(self):
        return "shopper"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.seen.append(max(len(m.text.encode()) / 3 for m in messages))
        self.prompts.append("".join(m.text for m in messages if isinstance(m, SystemMessage)))
        answers = [json.loads(m.content) for m in messages if isinstance(m, ToolMessage)]
        calls = []
        if not answers:
            calls = [{"name": "search", "args": {"query": "laptops"}, "id": "1"}]
        elif len(answers) == 1:
            arguments = {"corpus": answers[0]["corpus"], "instruction": POSITIVE}
            calls = [{"name": "get_label", "args": arguments, "id": "2"}]
        message = AIMessage("" if calls else json.dumps(answers[1]["steps"]["label"]["counts"]), tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.fixture
def toolkit(proxy_folder, tmp_path):
    """A toolkit with a trained proxy and no LLM."""
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")
    settings = MineSettings.model_validate({"run": {"backend": "onnx"}})
    return FalconerToolkit(home=tmp_path, settings=settings)


def rows_of(toolkit, message):
    return list(read_rows(toolkit.falconer.home.folder / "results" / f"{message.artifact['result']}.parquet"))


def test_three_thousand_documents_never_enter_the_conversation(toolkit):
    model = Shopper()
    documents = found(3_000)
    agent = create_agent(model, tools=[searching(3_000)], middleware=[CorpusMiddleware(toolkit)])
    state = agent.invoke({"messages": [("user", "Are people happy with their laptops?")]})
    assert len(str(documents)) > 2_000_000
    assert max(model.seen) <= 1_500
    note, answer = (m for m in state["messages"] if isinstance(m, ToolMessage))
    assert json.loads(note.content)["texts"] == 3_000
    assert len(json.loads(note.content)["samples"]) == 3
    rows = rows_of(toolkit, answer)
    counts = Counter(str(row["labels"]["label"]["value"]).lower() for row in rows)
    assert json.loads(state["messages"][-1].content) == counts
    assert [row["labels"]["label"]["value"] for row in rows] == [is_positive(d.page_content) for d in documents]
    provenance = {"tool": "search", "tool_call": "1", "url": "https://shop.example/0", "date": "2026-01-03"}
    assert rows[0]["metadata"].items() >= provenance.items()
    assert FILLER not in str(state), "the state holds more than three short samples"


def test_the_names_of_corpora_outlive_the_messages_that_gave_them(toolkit):
    model = Shopper()
    agent = create_agent(model, tools=[searching()], middleware=[CorpusMiddleware(toolkit)], system_prompt="Be brief.")
    state = agent.invoke({"messages": [("user", "?")]})
    (name,) = state["corpora"]
    assert state["corpora"][name]["texts"] == 30
    assert model.prompts[0] == "Be brief."
    assert model.prompts[1].startswith("Be brief.")
    assert f"'{name}' (30 texts of search)" in model.prompts[1]
    forgetful = agent.invoke({"messages": [("user", "and now?")], "corpora": state["corpora"]})
    assert name in model.prompts[-1]
    assert forgetful["corpora"].keys() >= {name}


class Counting(AgentMiddleware):
    """Another middleware, which counts calls in both ways."""

    def __init__(self):
        self.sync = self.native = 0

    def wrap_tool_call(self, request, handler):
        self.sync += 1
        return handler(request)

    async def awrap_tool_call(self, request, handler):
        self.native += 1
        return await handler(request)


@pytest.mark.parametrize("is_first", [True, False])
def test_sync_and_async_are_equal_between_two_other_middlewares(is_first, toolkit):
    counting, ours = Counting(), CorpusMiddleware(toolkit)
    others = [ToolRetryMiddleware(max_retries=1), counting, ToolCallLimitMiddleware(run_limit=9)]
    stack = [ours, *others] if is_first else [*others, ours]
    agent = create_agent(Shopper(), tools=[searching()], middleware=stack)
    one = agent.invoke({"messages": [("user", "?")]})
    two = asyncio.run(agent.ainvoke({"messages": [("user", "?")]}))
    assert [m.content for m in one["messages"]][-1] == [m.content for m in two["messages"]][-1]
    notes = [json.loads(state["messages"][2].content) for state in (one, two)]
    assert notes[1].pop("duplicates") == 30, "the second search found the same texts"
    assert notes[0] == notes[1]
    assert one["corpora"] == two["corpora"]
    assert (counting.sync, counting.native) == (2, 2)


def test_inside_deepagents_results_become_corpora_not_files(toolkit):
    deepagents = pytest.importorskip("deepagents")
    model = Shopper()
    agent = deepagents.create_deep_agent(model, tools=[searching()], middleware=[CorpusMiddleware(toolkit)])
    state = agent.invoke({"messages": [("user", "Are people happy?")]})
    assert json.loads(state["messages"][-1].content) == {"true": 20, "false": 10}
    assert not state.get("files")
    assert len(state["corpora"]) == 1


# ---- one call, without an agent


def kept(toolkit, result, name="search", **options):
    """What the middleware makes of a tool's result, and the texts and metadata of the corpus that it made."""
    middleware = CorpusMiddleware(toolkit, **{"max_tokens": 100, **options})
    call = {"name": name, "args": {"query": "x"}, "id": "7", "type": "tool_call"}
    request = ToolCallRequest(tool_call=call, tool=None, state={}, runtime=None)
    if not isinstance(result, ToolMessage | Command):
        returns = tool(name, description="A tool.")(lambda query: result)
        result = returns.invoke(call)
    message = middleware.wrap_tool_call(request, lambda _: result)
    stored = toolkit.falconer.list_corpora()
    return message, [(one.text, one.metadata) for corpus in stored for one in corpus]


DATA = [{"title": f"T{i}", "body": f"Body {i}: {text}", "stars": i % 5} for i, text in enumerate(reviews(20))]


@pytest.mark.parametrize(
    ("result", "metadata"),
    [
        (DATA, {"title": "T0", "stars": 0}),
        ({"query": "x", "took": 3, "results": DATA}, {"title": "T0", "stars": 0}),
        ({"hits": {"total": 20, "hits": DATA}}, {"title": "T0", "stars": 0}),
        ("\n".join(map(json.dumps, DATA)), {"title": "T0", "stars": 0}),
        (str(DATA), {"title": "T0", "stars": 0}),
        ([Document(one["body"], metadata={"stars": one["stars"]}) for one in DATA], {"stars": 0}),
        ([one["body"] for one in DATA], {}),
        ([{"type": "text", "text": one["body"]} for one in DATA], {}),
        ([{"type": "text", "text": json.dumps(one)} for one in DATA], {"title": "T0", "stars": 0}),
        (
            str([(i, one["body"], datetime.date(2026, 1, 2), Decimal("9.90")) for i, one in enumerate(DATA)]),
            {"column_1": 0, "column_3": "2026-01-02", "column_4": "9.90"},
        ),
    ],
    ids=["list", "object", "nested", "json-lines", "repr", "documents", "strings", "blocks", "mcp", "sql"],
)
def test_texts_of_every_form_come_with_their_metadata(result, metadata, toolkit):
    message, rows = kept(toolkit, result)
    assert [text for text, _ in rows] == [one["body"] for one in DATA]
    assert rows[0][1].items() >= {**metadata, "tool": "search", "tool_call": "7"}.items()
    assert json.loads(message.content)["texts"] == 20
    assert (message.tool_call_id, message.name) == ("7", "search")


def test_rows_without_a_text_are_read_as_names_and_values(toolkit):
    _, rows = kept(toolkit, [{"name": f"n{i}", "price": i} for i in range(50)])
    assert rows[3][0] == "name: n3; price: 3"
    assert rows[3][1]["price"] == 3


def test_a_long_page_is_cut_into_passages_and_none_is_lost(toolkit):
    page = "\n\n".join(f"Paragraph {i}. {'It goes on and on. ' * 20}".strip() for i in range(60))
    _, rows = kept(toolkit, {"url": "https://a.example", "content": page, "links": ["b", "c"]})
    assert len(rows) > 10
    assert " ".join(page.split()) == " ".join(" ".join(text for text, _ in rows).split())
    assert [metadata["passage"] for _, metadata in rows] == list(range(1, len(rows) + 1))
    assert {metadata["url"] for _, metadata in rows} == {"https://a.example"}


def test_documents_in_the_artifact_are_used_and_do_not_stay_in_the_state(toolkit):
    documents = [Document(text, metadata={"url": f"u{i}"}) for i, text in enumerate(reviews(20))]
    text = "\n\n".join(document.page_content for document in documents)
    message, rows = kept(toolkit, ToolMessage(text, tool_call_id="7", name="search", artifact=documents))
    assert [(text, metadata["url"]) for text, metadata in rows] == [
        (d.page_content, d.metadata["url"]) for d in documents
    ]
    assert "love" not in str(message.artifact)


def test_what_is_no_text_stays_and_a_command_is_looked_into(toolkit):
    image = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
    blocks = [{"type": "text", "text": json.dumps(DATA)}, image]
    message = ToolMessage(blocks, tool_call_id="7", name="search")
    command, _ = kept(toolkit, Command(update={"messages": [message], "files": {"a": 1}}))
    assert command.update["files"] == {"a": 1}
    note, other = command.update["messages"][0].content
    assert json.loads(note["text"])["texts"] == 20
    assert other == image


@pytest.mark.parametrize(
    ("options", "name", "n"),
    [
        ({"max_tokens": 100_000}, "search", 0),
        ({"exclude": ["search"]}, "search", 0),
        ({}, "read_results", 0),
        ({}, "list_corpora", 0),
        ({"corpus": "research"}, "search", 20),
    ],
)
def test_short_results_and_those_of_own_tools_are_not_touched(options, name, n, toolkit):
    message, rows = kept(toolkit, DATA, name, **options)
    assert len(rows) == n
    assert (json.loads(message.content) == DATA) == (n == 0)


def test_results_of_several_calls_can_share_a_corpus(toolkit):
    kept(toolkit, DATA, corpus="research")
    message, rows = kept(toolkit, reviews(40), "read_page", corpus="research")
    assert json.loads(message.content)["texts"] == len(rows) == 60
    assert Counter(metadata["tool"] for _, metadata in rows) == {"search": 20, "read_page": 40}


def test_what_cannot_be_kept_is_cut_and_says_why(toolkit):
    message, _ = kept(toolkit, "x" * 10_000, corpus="Not A Name", max_tokens=300)
    answer = json.loads(message.content)
    assert "could not be kept" in answer["error"]
    assert "lower-case letters" in answer["error"]
    assert answer["beginning"].startswith("xxx")
    assert len(message.content) / 3 <= 400
    blank, _ = kept(toolkit, [" "] * 1_000)
    assert "none of its" in json.loads(blank.content)["error"]


@pytest.mark.parametrize("text", ["[" * 5_000 + "]" * 5_000, "(" * 90_000 + ")", "{" * 3_000, "[\0" + "x" * 900 + "]"])
def test_hostile_results_are_text(text, toolkit):
    message, rows = kept(toolkit, ToolMessage(text + " \ud800", tool_call_id="7", name="search"))
    assert rows
    assert json.loads(message.content)["corpus"]


def test_a_limit_of_no_token_is_refused(toolkit):
    with pytest.raises(SettingsError, match="at least 1"):
        CorpusMiddleware(toolkit, max_tokens=0)
