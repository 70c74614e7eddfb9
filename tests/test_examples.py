"""The examples and the graphs that `langgraph dev` serves, run with a scripted LLM."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from laptops import PLAN, is_positive, reviews, teacher, write_corpus
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer, FalconerToolkit, Proxy

ROOT = Path(__file__).parent.parent
SEARCHES, QUESTION = ["laptop"], "Extract the prices from positive reviews"


def load(path, monkeypatch):
    """The module of an example, loaded from its file."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def scripted(request):
    """A teacher who plans research and writes reports, too."""
    schema = json.dumps(request.get("response_format", {}))
    if '"searches"' in schema:
        return json.dumps({"searches": SEARCHES, "questions": [QUESTION]})
    if '"report"' in schema:
        return json.dumps(
            {"report": "Of {F1} reviews, {F2} are by happy people. About 99 of them lie. Nobody paid {F99}."}
        )
    return teacher(request)


@pytest.fixture
def server():
    with ChatServer(scripted) as server:
        yield server


@pytest.fixture
def llm(server):
    return llm_at(server)


@pytest.fixture
def falconer(llm, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("FALCONER_HOME", str(tmp_path / "default"))
    monkeypatch.delenv("FALCONER_LLM", raising=False)
    return Falconer(llm, home=tmp_path / "home", settings=settings.model_copy(update={"base": "falconer-small"}))


class Scripted(FakeMessagesListChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


def test_the_plain_agent(falconer, monkeypatch):
    calls = [{"name": "mine_corpus", "args": {"instruction": QUESTION, "corpus": "reviews"}, "id": "1"}]
    model = Scripted(responses=[AIMessage("", tool_calls=calls), AIMessage("They paid $999 and $1299.")])
    assert load(Path("examples/agent.py"), monkeypatch).main(model, falconer=falconer) == "They paid $999 and $1299."


@pytest.fixture
def no_key(tmp_path, monkeypatch):
    """No key of OpenAI, and no LLM."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delitem(sys.modules, "scripted_model", raising=False)
    return tmp_path / "home"


def test_long_results_without_a_key(no_key, monkeypatch):
    example = load(Path("examples/long_results.py"), monkeypatch)
    example.DOCUMENTS = 600
    state = example.main(home=no_key)
    assert max(len(message.text.encode()) / 3 for message in state["messages"]) <= 1_500
    note, answer = (message.artifact for message in state["messages"] if isinstance(message, ToolMessage))
    assert [kept["texts"] for kept in note["kept"].values()] == [600]
    counts = [group["count"] for group in answer["groups"][0]["values"]]
    assert sum(counts) == answer["steps"]["label"]["counts"]["true"]
    assert counts[-1] > counts[0], "there are more complaints than there were"
    assert answer["untrained"] is True


def test_the_plain_agent_without_a_key(no_key, monkeypatch):
    assert load(Path("examples/agent.py"), monkeypatch).main(home=no_key).startswith("The reviews name ")


def test_the_walk_through_without_a_key(no_key, monkeypatch):
    prices = load(Path("examples/walkthrough.py"), monkeypatch).main(Falconer(home=no_key))
    assert "$999" in prices


def test_the_subgraph_without_a_key(no_key, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "reviews.jsonl", reviews(9))
    headline = load(Path("examples/subgraph.py"), monkeypatch).main([str(corpus)], home=no_key)
    assert "of 9 texts match" in headline


def test_the_environment_of_langgraph_dev_is_described():
    declared = json.loads((ROOT / "graphs" / "langgraph.json").read_text("utf-8"))
    described = (ROOT / "graphs" / f"{declared['env']}.example").read_text("utf-8")
    code = "".join(file.read_text("utf-8") for file in (ROOT / "graphs").glob("*.py"))
    read = set(re.findall(r"FALCONER_\w+", code))
    assert read == set(re.findall(r"^(FALCONER_\w+)=", described, re.MULTILINE))


def test_the_walk_through_the_python_api(falconer, monkeypatch):
    prices = load(Path("examples/walkthrough.py"), monkeypatch).main(falconer)
    assert prices[0] == "$999"


def test_labels_of_ones_own(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    load(Path("examples/own_labels.py"), monkeypatch).main(Falconer(home=tmp_path / "home", settings=settings))
    assert Proxy.load(tmp_path / "customers.proxy").plan.instruction == "Find what happy customers paid"
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_subgraph_reviews_through_its_parent(llm, tmp_path, settings, monkeypatch):
    corpus = write_corpus(tmp_path / "reviews.jsonl", reviews(45))
    example = load(Path("examples/subgraph.py"), monkeypatch)
    headline = example.main([str(corpus)], llm, home=tmp_path / "home", settings=settings)
    assert headline.startswith("For Ada: ")
    assert "of 45 texts match" in headline


async def test_the_mcp_client(proxy_folder, tmp_path, monkeypatch):
    pytest.importorskip("mcp")
    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    example = load(Path("examples/mcp_client.py"), monkeypatch)
    page = await example.main("--home", str(tmp_path / "home"), instruction="Is this a positive review?")
    assert len(page["page"]) == page["rows"]
    assert all(row["labels"] == {"label": True} for row in page["page"])
    assert {row["id"] for row in page["page"]} <= {d.id for d in Falconer(home=tmp_path / "home").corpus("notes")}


def test_research_counts_and_every_number_links_to_its_rows(falconer, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "archive.jsonl", reviews(12))
    output = load(Path("examples/research.py"), monkeypatch).main(str(corpus), "What do people pay?", falconer)
    read = next(t for t in FalconerToolkit(falconer).get_tools() if t.name == "read_results")
    assert {fact["number"] for fact in output["facts"]} >= {12, sum(map(is_positive, reviews(12)))}
    for fact in output["facts"]:
        called = {"type": "tool_call", "id": "1", "name": read.name, "args": fact["rows"]}
        message = read.invoke(called)
        assert isinstance(message, ToolMessage)
        answer = message.artifact
        if "count_by" in fact["rows"]:
            counts = {one["value"]: one["count"] for one in answer["values"]}
            assert counts[fact["rows"]["value"]] == fact["number"]
        else:
            assert answer["rows"] == fact["number"]
    text, _, notes = output["report"].partition("[^F1]: ")
    assert text.startswith("Of 12[^F1] reviews, 8[^F2] are by happy people.")
    assert "99" not in text
    assert "2 left out" in text
    assert '"only_matches": true' in notes


def test_langgraph_dev_serves_the_graphs_and_runs_up_to_the_review(tmp_path):
    if importlib.util.find_spec("langgraph_cli") is None or importlib.util.find_spec("langgraph_api") is None:
        pytest.skip("langgraph-cli[inmem] is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    environment = {**os.environ, "FALCONER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "LANGSMITH_TRACING": "false"}
    log = (tmp_path / "served.log").open("wb")
    served = subprocess.Popen(command, cwd=ROOT / "graphs", env=environment, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        thread = _post(f"{base}/threads", served, {})["thread_id"]
        corpus, labels = write_corpus(tmp_path / "few.jsonl", reviews(2)), str(tmp_path / "labels.jsonl")
        inputs = {"instruction": "x", "corpus": [str(corpus)], "annotations": labels, "plan": PLAN.to_dict()}
        _post(f"{base}/threads/{thread}/runs/wait", served, {"assistant_id": "falconer", "input": inputs})
        state = _post(f"{base}/threads/{thread}/state", served)
        assert state["next"] == ["review"]
        assert state["values"]["plan"] == PLAN.to_dict()
        assert {a["graph_id"] for a in _post(f"{base}/assistants/search", served, {})} == {"falconer", "deep_research"}
    finally:
        served.terminate()
        served.wait(20)
        log.close()


def _post(url, served, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert served.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server did not answer"
            time.sleep(0.5)
