"""Traces: a span a stage, with what it did, and no text of the corpus unless that is asked for."""

import json

import pytest
from langchain_core.tracers.base import BaseTracer
from langchain_openai import ChatOpenAI
from laptops import INSTRUCTION, PLAN, annotation_row, reviews, teacher, write_corpus, write_lines
from loopback import ChatServer

from langchain_falconer import Falconer, FalconerToolkit, create_falconer_graph

MARKER = "zanzibar marker"
TEXTS = [f"{text} {MARKER}" for text in reviews(40)]
STAGES = ["plan", "sample", "annotate", "train", "evaluate", "execute", "report"]


class Kept(BaseTracer):
    """Every run that a trace would hold, flat."""

    def __init__(self):
        super().__init__()
        self.runs = []

    def _persist_run(self, run):
        self.runs.append(run)

    def _walk(self, runs):
        for run in runs:
            yield run
            yield from self._walk(run.child_runs)

    @property
    def all(self):
        return list(self._walk(self.runs))


@pytest.fixture
def given(tmp_path):
    write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    write_lines(tmp_path / "labels.jsonl", map(annotation_row, TEXTS))
    named = {"corpus": [str(tmp_path / "corpus.jsonl")], "annotations": str(tmp_path / "labels.jsonl")}
    return {"instruction": INSTRUCTION, "plan": PLAN.to_dict(), "auto_approve": True, **named}


def test_a_stage_is_a_span_that_says_what_it_did_in_numbers(given, tmp_path, settings):
    kept = Kept()
    create_falconer_graph(home=tmp_path / "home", settings=settings).invoke(given, {"callbacks": [kept]})
    stages = {run.name: run for run in kept.all if run.name in STAGES}
    assert list(stages) == STAGES
    assert stages["annotate"].outputs["annotation"]["tokens"] == 0
    assert stages["sample"].outputs["sample"]["documents"] == len(TEXTS)
    assert stages["train"].outputs["proxy"].startswith(PLAN.fingerprint)
    assert stages["execute"].outputs["rows"]["total"] == len(TEXTS)
    told = json.dumps([[run.inputs, run.outputs] for run in stages.values()])
    assert MARKER not in told
    assert "$101" not in told


def test_texts_are_in_traces_where_they_are_asked_for(given, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("FALCONER_TRACE_TEXTS", "1")
    kept = Kept()
    create_falconer_graph(home=tmp_path / "home", settings=settings).invoke(given, {"callbacks": [kept]})
    execute = next(run for run in kept.all if run.name == "execute")
    assert execute.outputs["execution"]["rows"]["spans"]["price"]["top"]


@pytest.mark.parametrize("asked", ["0", "1"])
def test_what_the_llm_is_asked_about_texts_is_traced_only_where_that_is_asked_for(
    asked, tmp_path, settings, monkeypatch
):
    monkeypatch.setenv("FALCONER_TRACE_TEXTS", asked)
    with ChatServer(teacher) as server:
        llm = ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback", max_retries=0)
        falconer = Falconer(llm, home=tmp_path, settings=settings)
        falconer.add_documents("few", texts=TEXTS[:4])
        tool = next(t for t in FalconerToolkit(falconer).get_tools() if t.name == "get_label")
        kept = Kept()
        asked_for = {"instruction": "Is the writer happy?", "corpus": "few"}
        tool.invoke({"type": "tool_call", "id": "1", "name": "get_label", "args": asked_for}, {"callbacks": [kept]})
        assert server.calls
    prompts = [run for run in kept.all if run.run_type in ("llm", "chat_model") and MARKER in str(run.inputs)]
    assert bool(prompts) == (asked == "1")
    calls = [run for run in kept.all if run.run_type in ("llm", "chat_model")]
    assert len(calls) == server.calls


def test_usage_handlers_see_every_call(tmp_path, settings):
    from langchain_core.callbacks import UsageMetadataCallbackHandler

    with ChatServer(teacher) as server:
        llm = ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback", max_retries=0)
        usage, kept = UsageMetadataCallbackHandler(), Kept()
        graph = create_falconer_graph(llm, home=tmp_path / "home", settings=settings)
        corpus = write_corpus(tmp_path / "c.jsonl", TEXTS)
        state = {"instruction": INSTRUCTION, "plan": PLAN.to_dict(), "auto_approve": True, "corpus": [str(corpus)]}
        final = graph.invoke(state, {"callbacks": [usage, kept]})
    cost = final["summary"]["cost"]
    (found,) = usage.usage_metadata.values()
    assert (found["input_tokens"], found["output_tokens"]) == (cost["input_tokens"], cost["output_tokens"])
    assert MARKER not in json.dumps([[run.inputs, run.outputs] for run in kept.all], default=str)


def test_an_answer_of_a_tool_is_a_span_with_its_way_proxy_and_cost(proxy_folder, tmp_path):
    import shutil

    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    falconer = Falconer(home=tmp_path / "home")
    falconer.add_documents("reviews", texts=TEXTS)
    tool = next(t for t in FalconerToolkit(falconer).get_tools() if t.name == "mine_corpus")
    kept = Kept()
    tool.invoke({"instruction": INSTRUCTION, "corpus": "reviews"}, {"callbacks": [kept]})
    (run,) = [run for run in kept.all if run.name == "falconer.route"]
    assert run.outputs["strategy"] == "registry"
    assert (run.outputs["proxy"], run.outputs["texts"]) == ("laptops", len(TEXTS))
    assert run.parent_run_id is not None
    assert MARKER not in json.dumps(run.outputs)
