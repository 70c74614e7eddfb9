"""The agent tools, by LangChain's own standard tests and inside an agent."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from laptops import PLAN, is_positive, prices, reviews, teacher, write_corpus
from loopback import ChatServer

from langchain_falconer import Falconer, FalconerToolkit
from langchain_falconer.llm import LLM, LLMSettings
from langchain_falconer.tools import MAX_LLM_TEXTS

TEXTS = reviews(12, start=60)
POSITIVE, PRICE = (step.instruction for step in PLAN.steps)
EXAMPLES = {
    "get_label": {"texts": TEXTS, "instruction": POSITIVE},
    "get_span": {"texts": TEXTS, "instruction": PRICE},
    "mine_corpus": {"instruction": "Find the prices in positive reviews", "corpus": "reviews"},
}


@pytest.fixture(scope="module")
def server():
    with ChatServer(teacher) as server:
        yield server


@pytest.fixture(scope="module")
def toolkit(server, tiny_bert, tmp_path_factory):
    """Tools on a home without proxies, with an LLM and one corpus."""
    from conftest import TRAIN

    from langchain_falconer.graph import MineSettings

    folder = tmp_path_factory.mktemp("tools")
    write_corpus(folder / "reviews.jsonl", reviews(60))
    more = {"base": tiny_bert, "annotations": 30, "train": TRAIN, "run": {"backend": "onnx"}}
    model = ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback", max_retries=0)
    falconer = Falconer(
        LLM(model, LLMSettings(max_retries=0)), home=folder / "home", settings=MineSettings.model_validate(more)
    )
    return FalconerToolkit(falconer, corpora={"reviews": folder / "reviews.jsonl"})


@pytest.fixture
def trained(toolkit, proxy_folder, tmp_path):
    """Tools on a home with a trained proxy, and no LLM."""
    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    return {tool.name: tool for tool in FalconerToolkit(home=tmp_path / "home").get_tools()}


@pytest.fixture
def tools(toolkit):
    return {tool.name: tool for tool in toolkit.get_tools()}


class _Standard:
    name = ""

    @pytest.fixture(autouse=True)
    def _made(self, toolkit):
        self.made = next(tool for tool in toolkit.get_tools() if tool.name == self.name)

    @property
    def tool_constructor(self):
        return self.made

    @property
    def tool_invoke_params_example(self):
        return EXAMPLES[self.name]


class TestGetLabelUnit(_Standard, ToolsUnitTests):
    name = "get_label"


class TestGetLabelIntegration(_Standard, ToolsIntegrationTests):
    name = "get_label"


class TestGetSpanUnit(_Standard, ToolsUnitTests):
    name = "get_span"


class TestGetSpanIntegration(_Standard, ToolsIntegrationTests):
    name = "get_span"


class TestMineCorpusUnit(_Standard, ToolsUnitTests):
    name = "mine_corpus"


class TestMineCorpusIntegration(_Standard, ToolsIntegrationTests):
    name = "mine_corpus"


def call(tool, **arguments):
    return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})


def test_a_trained_proxy_answers_for_free(trained):
    labels = call(trained["get_label"], texts=TEXTS, instruction=POSITIVE)
    assert labels.status == "success"
    assert labels.artifact["decided_by"] == "proxy"
    assert labels.artifact["proxy"] == "laptops"
    assert [label["value"] for label in labels.artifact["labels"]] == [is_positive(t) for t in TEXTS]
    assert json.loads(labels.content) == labels.artifact
    spans = call(trained["get_span"], texts=TEXTS, instruction=PRICE)
    for text, found in zip(TEXTS, spans.artifact["spans"], strict=True):
        assert all(text[s["start"] : s["end"]] == s["text"] for s in found)
        if is_positive(text):
            assert [s["text"] for s in found] == prices(text)


def test_without_proxy_the_llm_answers_for_a_handful_once(tools, server):
    new = reviews(5, start=900)
    before = server.calls
    labels = call(tools["get_label"], texts=new, instruction="Is the writer happy?")
    assert labels.artifact["decided_by"] == "openai:loopback"
    assert [label["value"] for label in labels.artifact["labels"]] == [is_positive(t) for t in new]
    paid = server.calls
    assert paid > before
    call(tools["get_label"], texts=new, instruction="Is the writer happy?")
    assert server.calls == paid


def test_mining_gives_counts_and_references_and_no_corpus(tools):
    mined = call(tools["mine_corpus"], **EXAMPLES["mine_corpus"])
    facts = json.loads(mined.content)
    assert facts == mined.artifact
    assert facts["rows"] == 60
    assert facts["labels"]["positive"]["true"] > 0
    assert facts["spans"]["price"]["top"]
    assert len(mined.content) < 4_000
    assert len(Path(facts["result"]).read_text("utf-8").splitlines()) == 60
    assert reviews(1)[0] not in mined.content


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("mine_corpus", {"instruction": "x", "corpus": "/etc/passwd"}, ["no corpus '/etc/passwd'", "reviews"]),
        ("mine_corpus", {"instruction": "", "corpus": "reviews"}, ["instruction"]),
        ("mine_corpus", {"corpus": "reviews"}, ["instruction"]),
        ("get_label", {"texts": [], "instruction": "x"}, ["texts"]),
        ("get_label", {"texts": "one", "instruction": "x"}, ["texts"]),
        ("get_label", {"texts": ["a"], "instruction": "x", "labels": ["only"]}, ["labels"]),
        ("get_label", {"texts": ["a"], "instruction": "x", "labels": ["b", "b"]}, ["'b'"]),
        ("get_label", {"texts": ["a"], "instruction": "x", "multi_label": True}, ["multi_label needs labels"]),
        ("get_label", {"texts": ["a"] * (MAX_LLM_TEXTS + 1), "instruction": "new?"}, ["at most 50", "mine_corpus"]),
        ("get_span", {"texts": ["a"], "instruction": " "}, ["instruction"]),
    ],
)
def test_a_bad_call_is_told_what_to_do(tool, arguments, said, tools):
    message = call(tools[tool], **arguments)
    assert message.status == "error"
    assert "Traceback" not in message.content
    assert "\n" not in message.content
    for words in said:
        assert words in message.content


def test_without_proxy_and_llm_the_agent_is_told_to_mine_first(trained):
    message = call(trained["get_label"], texts=["x"], instruction="Is it a question nobody trained?")
    assert message.status == "error"
    assert "mine_corpus" in message.content


def test_a_trained_choice_and_a_trained_subset_answer(tiny_bert, tmp_path):
    from langchain_falconer import Annotation, Label, Plan
    from langchain_falconer.proxy import TrainSettings, train_proxy
    from langchain_falconer.records import Answers

    names = ["love", "terrible"]
    steps = [
        {"id": "one", "op": "get_label", "instruction": "Which?", "labels": names},
        {"id": "some", "op": "get_label", "instruction": "Which ones?", "labels": names, "multi_label": True},
    ]
    plan = Plan.parse({"instruction": "x", "steps": steps})
    said = {True: "love", False: "terrible"}
    known = [
        Annotation(t, Answers({"one": Label(said[is_positive(t)]), "some": Label([said[is_positive(t)]])}), "human")
        for t in reviews(24)
    ]
    proxy = train_proxy(plan, known, base=tiny_bert, settings=TrainSettings(epochs=30, learning_rate=5e-3))
    proxy.save(tmp_path / "home" / "proxies" / "p")
    tool = FalconerToolkit(home=tmp_path / "home").get_tools()[0]
    asked = {"texts": reviews(6), "labels": names}
    one = call(tool, instruction="Which?", **asked).artifact
    assert [a["value"] for a in one["labels"]] == [said[is_positive(t)] for t in reviews(6)]
    some = call(tool, instruction="Which ones?", multi_label=True, **asked).artifact
    assert all(isinstance(a["value"], list) for a in some["labels"])


# ---- inside an agent


class Scripted(FakeMessagesListChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


def script(*calls):
    tool_calls = [{"name": name, "args": args, "id": f"call_{i}"} for i, (name, args) in enumerate(calls)]
    return Scripted(responses=[AIMessage("", tool_calls=tool_calls), AIMessage("Done.")])


def test_an_agent_mines_labels_and_extracts(toolkit):
    calls = [(name, EXAMPLES[name]) for name in ("mine_corpus", "get_label", "get_span")]
    agent = create_agent(script(*calls), tools=toolkit.get_tools())
    result = agent.invoke({"messages": [("user", "What do people pay?")]})
    told = {m.name: m for m in result["messages"] if isinstance(m, ToolMessage)}
    assert {m.status for m in told.values()} == {"success"}
    assert json.loads(told["mine_corpus"].content)["rows"] == 60
    assert len(json.loads(told["get_span"].content)["spans"]) == len(TEXTS)


def test_an_agent_hears_of_errors_and_goes_on(toolkit):
    agent = create_agent(script(("mine_corpus", {"instruction": "x", "corpus": "nowhere"})), tools=toolkit.get_tools())

    async def run():
        return await agent.ainvoke({"messages": [("user", "?")]})

    messages = asyncio.run(run())["messages"]
    assert messages[-2].status == "error"
    assert messages[-1].content == "Done."


def test_mining_streams_its_progress_through_the_agent(toolkit):
    agent = create_agent(script(("mine_corpus", EXAMPLES["mine_corpus"])), tools=toolkit.get_tools())
    events = list(agent.stream({"messages": [("user", "?")]}, stream_mode="custom"))
    assert {e["falconer"]["stage"] for e in events} >= {"plan", "sample", "train", "execute", "report"}
