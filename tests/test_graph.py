"""The state machine: review, rounds, budgets, checkpoints; and the facade that drives it."""

import asyncio
import json
import operator
import re
import zlib
from pathlib import Path
from typing import Annotated

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from laptops import INSTRUCTION, PLAN, annotation_row, asked, is_planning, reviews, teacher, write_corpus, write_lines
from loopback import ChatServer, llm_at
from typing_extensions import TypedDict

from langchain_falconer import Falconer, FalconerContext, Plan, create_falconer_graph
from langchain_falconer.annotate import splits
from langchain_falconer.errors import BudgetError, ProxyError, RunError, SettingsError
from langchain_falconer.graph import Review
from langchain_falconer.model import Proxy
from langchain_falconer.settings import BudgetSettings, CorpusSettings, Targets, TrainSettings

MARKER = "zanzibar marker"
TEXTS = [f"{text} {MARKER}" for text in reviews(90)]
THREAD = {"configurable": {"thread_id": "1"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A corpus and a person's annotations, in a folder with a home: what was trained once is found again."""
    folder = tmp_path_factory.mktemp("graph")
    write_corpus(folder / "corpus.jsonl", TEXTS)
    write_lines(folder / "labels.jsonl", map(annotation_row, TEXTS[:40]))
    return folder


@pytest.fixture
def given(files):
    return {
        "instruction": INSTRUCTION,
        "corpus": [str(files / "corpus.jsonl")],
        "output": str(files / "out.jsonl"),
        "plan": PLAN.to_dict(),
        "annotations": str(files / "labels.jsonl"),
    }


@pytest.fixture
def graph(files, settings):
    return create_falconer_graph(home=files / "home", settings=settings, checkpointer=InMemorySaver())


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# ---- review


def test_an_approved_plan_is_run(graph, given, files):
    asked_for = graph.invoke(given, THREAD)
    (question,) = asked_for["__interrupt__"]
    assert question.value["plan"] == PLAN.to_dict()
    assert "def pipeline(text):" in question.value["pseudocode"]
    assert "estimate" not in question.value  # a person's labels cost nothing
    assert question.value["mermaid"].startswith("flowchart")
    assert not (files / "out.jsonl").exists()
    result = graph.invoke(Command(resume={"action": "approve"}), THREAD)
    assert set(result) == {"plan", "summary"}
    assert result["summary"]["rows"]["total"] == len(TEXTS)
    assert result["summary"]["quality"]["steps"].keys() == {"positive", "price"}
    assert result["summary"]["cost"]["calls"] == 0
    assert [row["text"] for row in rows(files / "out.jsonl")] == TEXTS
    json.dumps(result)


def test_the_review_shows_what_annotation_will_cost_and_a_cap_that_cannot_hold_is_refused_before(files, settings):
    request = {"instruction": INSTRUCTION, "corpus": [str(files / "corpus.jsonl")], "plan": PLAN.to_dict()}
    with ChatServer(teacher) as server:
        graph = create_falconer_graph(
            llm_at(server), home=files / "estimated", settings=settings, checkpointer=InMemorySaver()
        )
        (question,) = graph.invoke(request, THREAD)["__interrupt__"]
        capped = settings.model_copy(update={"budget": BudgetSettings(max_usd=1)})
        other = create_falconer_graph(
            llm_at(server), home=files / "estimated", settings=capped, checkpointer=InMemorySaver()
        )
        with pytest.raises(SettingsError, match="price"):
            other.invoke(request, THREAD)
        assert server.calls == 0
    estimate = question.value["estimate"]
    assert (estimate["texts"], estimate["calls"], estimate["usd"]) == (30, 2 * (15 + 3), None)
    assert estimate["tokens"] > 0
    assert estimate["minutes"] > 0
    assert "no price known" in estimate["summary"]


def test_an_edited_plan_is_run_and_an_invalid_edit_asked_about_again(graph, given):
    graph.invoke(given, THREAD)
    wrong = {**PLAN.to_dict(), "steps": [PLAN.to_dict()["steps"][1]]}
    again = graph.invoke(Command(resume={"action": "edit", "plan": wrong}), THREAD)
    (question,) = again["__interrupt__"]
    assert "refers to step 'positive'" in question.value["error"]
    assert question.value["plan"] == PLAN.to_dict()
    edited = {**PLAN.to_dict(), "instruction": "Prices that happy people paid"}
    result = graph.invoke(Command(resume={"action": "edit", "plan": edited}), THREAD)
    assert result["plan"] == edited
    assert result["summary"]["plan"] == edited


def test_a_rejected_plan_costs_nothing(graph, given, tmp_path, settings):
    graph = create_falconer_graph(home=tmp_path, settings=settings, checkpointer=InMemorySaver())
    graph.invoke(given, THREAD)
    result = graph.invoke(Command(resume={"action": "reject", "reason": "not what I meant"}), THREAD)
    assert result["summary"]["rejected"] == "not what I meant"
    assert not (tmp_path / "proxies").exists()


@pytest.mark.parametrize("answer", ["aprove", "perhaps", {"action": "aprove"}, {"plan": {}}, {"do": "it"}, 7, []])
@pytest.mark.parametrize("word", ["reject", "No.", {"action": "Reject"}, False])
def test_an_answer_that_is_none_is_asked_for_again_and_plain_words_do(answer, word, tmp_path, given, settings):
    graph = create_falconer_graph(home=tmp_path, settings=settings, checkpointer=InMemorySaver())
    assert graph.invoke(given, THREAD)["__interrupt__"][0].response_schema["anyOf"]
    (again,) = graph.invoke(Command(resume=answer), THREAD)["__interrupt__"]
    assert "say approve or reject" in again.value["error"]
    assert again.value["plan"] == PLAN.to_dict()
    assert graph.invoke(Command(resume=word), THREAD)["summary"]["rejected"]


@pytest.mark.parametrize("word", ["approve", "yes", " OK ", "Y", {"action": "Approve"}, True])
def test_plain_words_approve(word):
    assert Review.model_validate(word).action == "approve"


def test_it_runs_asynchronously_too(graph, given):
    async def run():
        await graph.ainvoke(given, THREAD)
        return await graph.ainvoke(Command(resume={"action": "approve"}), THREAD)

    assert asyncio.run(run())["summary"]["rows"]["total"] == len(TEXTS)


def test_the_facades_reviewer_may_edit_and_reject(files, settings, given):
    def mine(reviewer):
        falconer = Falconer(annotations=given["annotations"], home=files / "home", settings=settings)
        return falconer.mine(INSTRUCTION, given["corpus"][0], plan=PLAN, reviewer=reviewer)

    edited = {**PLAN.to_dict(), "instruction": "Edited"}
    seen = []

    def careful(question):
        seen.append(question.get("error"))
        return Review(action="edit", plan={} if len(seen) == 1 else edited)

    assert mine(careful).plan.to_dict() == edited
    assert seen[0] is None
    assert seen[1]
    with pytest.raises(RunError, match="no good"):
        mine(lambda question: Review(action="reject", reason="no good"))


@pytest.mark.parametrize("wanted", [1_000, 5, 0])
def test_the_proxy_learns_from_texts_that_nobody_annotated_too(settings, given, tmp_path, wanted):
    """The corpus holds 60 texts, 40 of which are annotated, and one row that cannot be read."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(Path(given["corpus"][0]).read_text("utf-8") + "{broken\n", "utf-8")
    changed = {"unlabelled": wanted, "corpus": settings.corpus.model_copy(update={"on_bad_row": "record"})}
    falconer = Falconer(
        annotations=given["annotations"], home=tmp_path / "home", settings=settings.model_copy(update=changed)
    )
    result = falconer.mine(INSTRUCTION, corpus, plan=PLAN)
    data = result.proxy.manifest["data"]
    assert (data["annotations"], data["unlabelled"]) == (40, min(wanted, len(TEXTS) - 40))
    assert result.summary.training.unlabelled == data["unlabelled"]
    assert result.summary.rows.total == len(TEXTS) + 1


# ---- where it lives


class Parent(TypedDict):
    instruction: str
    corpus: list[str]
    plan: dict
    annotations: str
    auto_approve: bool
    summary: dict
    log: Annotated[list[str], operator.add]


class ParentContext(TypedDict):
    user: str


@pytest.mark.parametrize("context", [{"user": "ada"}, None])
def test_as_a_subgraph_it_does_not_mind_its_parents_context(context, files, settings, given):
    parent = StateGraph(Parent, context_schema=ParentContext)
    parent.add_node("falconer", create_falconer_graph(home=files / "home", settings=settings))
    parent.add_node("after", lambda state: {"log": [f"{state['summary']['rows']['total']} rows"]})
    parent.add_edge(START, "falconer")
    parent.add_edge("falconer", "after")
    parent.add_edge("after", END)
    compiled = parent.compile(checkpointer=InMemorySaver())
    first = {k: given[k] for k in ("instruction", "corpus", "plan", "annotations")} | {"log": []}
    stopped = compiled.invoke(first, THREAD, context=context)
    assert stopped["__interrupt__"][0].value["question"] == "Is this plan right?"
    result = compiled.invoke(Command(resume={"action": "approve"}), THREAD, context=context)
    assert result["log"] == [f"{len(TEXTS)} rows"]


def test_the_context_comes_before_what_the_graph_was_made_with(given, tmp_path, files, settings):
    graph = create_falconer_graph(home=tmp_path / "unused")
    context = FalconerContext(home=files / "home", settings=settings)
    result = graph.invoke({**given, "auto_approve": True}, context=context)
    assert result["summary"]["proxy"].startswith(str(files / "home"))
    assert not (tmp_path / "unused").exists()


def test_progress_is_streamed_stage_by_stage(graph, given):
    events = list(graph.stream({**given, "auto_approve": True}, THREAD, stream_mode="custom"))
    begun = [e["stage"] for e in events if e.get("event") == "begin"]
    assert begun == ["plan", "sample", "annotate", "train", "evaluate", "train", "execute", "report"]
    assert [e["stage"] for e in events if e.get("event") == "end"] == begun
    done = [e for e in events if e["stage"] == "execute" and "done" in e]
    assert done[-1]["done"] == done[-1]["total"] == len(TEXTS)


def test_the_proxy_that_runs_learns_from_the_held_out_texts_once_they_have_measured(files, settings, given):
    falconer = Falconer(annotations=given["annotations"], home=files / "measured-home", settings=settings)
    summary = falconer.mine(INSTRUCTION, given["corpus"][0], plan=PLAN).summary
    parts = summary.annotations
    n = parts.train + parts.development + parts.test
    assert parts.test > 0
    assert summary.training.on_all
    manifest = Proxy.load(summary.proxy).manifest
    assert manifest["data"]["annotations"] == len(manifest["seen"]) == n
    assert len(manifest["training"]["selected_after"]) == 2
    (before,) = (Proxy.load(p.parent).manifest for p in (files / "measured-home").rglob("measured/*/manifest.json"))
    assert before["data"]["annotations"] == parts.train
    assert before["quality"] == manifest["quality"] == summary.quality.without_texts().model_dump(mode="json")
    assert before["calibration"] == manifest["calibration"]
    assert any(f"{parts.train} of the {n} annotations" in message for message in summary.messages)


def test_checkpoints_hold_references_and_no_texts(files, settings, given):
    home = files / "quiet-home"
    falconer = Falconer(annotations=given["annotations"], home=home, settings=settings)
    falconer.mine(INSTRUCTION, given["corpus"][0], plan=PLAN)
    kept = b"".join(p.read_bytes() for p in home.glob("*.sqlite*"))
    assert INSTRUCTION.encode() in kept
    assert MARKER.encode() not in kept
    manifests = [file.read_text("utf-8") for file in home.rglob("manifest.json")]
    assert manifests
    assert not any(MARKER in manifest for manifest in manifests)
    assert sum(p.stat().st_size for p in home.glob("checkpoints.sqlite*")) < 1_000_000


# ---- with an LLM


def test_an_llm_plans_and_annotates_and_a_second_run_asks_nothing(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    events = []
    with ChatServer(teacher) as server:
        falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
        result = falconer.mine(INSTRUCTION, corpus, tmp_path / "out.jsonl", on_event=events.append)
        calls = server.calls
        first = result.output.read_bytes()
        again = falconer.mine(INSTRUCTION, corpus, tmp_path / "out.jsonl")
        assert server.calls == calls
    assert again.output.read_bytes() == first
    assert result.plan.to_dict()["steps"] == PLAN.to_dict()["steps"]
    assert result.cost.calls == calls
    assert result.cost.input_tokens == 10 * calls
    assert sum(is_planning(request.json) for request in server.requests) == 1
    texts = [t for r in server.requests if not is_planning(r.json) for t in asked(r.json).values()]
    assert len(set(texts)) == 30
    assert len(texts) - len(set(texts)) == sum("love" in t for t in set(texts))
    assert {row["decided_by"]["positive"] for row in rows(result.output)} == {"llm", "proxy"}
    assert sum(row["decided_by"]["positive"] == "llm" for row in rows(result.output)) == 30
    assert result.quality.agreement.value > 0.5
    assert {e["stage"] for e in events} == {
        "plan",
        "sample",
        "index",
        "annotate",
        "train",
        "evaluate",
        "execute",
        "report",
    }
    assert MARKER in result.report(tmp_path / "report.html").read_text()


def test_it_annotates_again_until_the_target_and_a_second_run_pays_nothing(settings, tmp_path):
    """The annotator contradicts itself, so the target is out of reach: every round is used."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    more = {"targets": Targets(agreement=0.999), "round_annotations": 10, "max_rounds": 3}
    settings = settings.model_copy(update={**more, "train": settings.train.model_copy(update={"epochs": 2.0})})

    def moody(request):
        if is_planning(request) or "Extract the price" in request["messages"][-1]["content"]:
            return teacher(request)
        return json.dumps({key: zlib.crc32(text.encode()) % 2 == 0 for key, text in asked(request).items()})

    with ChatServer(moody) as server:
        falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
        events = []
        result = falconer.mine(INSTRUCTION, corpus, tmp_path / "out.jsonl", on_event=events.append)
        calls, first = server.calls, result.output.read_bytes()
        again = falconer.mine(INSTRUCTION, corpus, tmp_path / "out.jsonl")
        assert server.calls == calls
    assert [e["stage"] for e in events if e.get("event") == "begin"].count("annotate") == 3
    assert any("cannot be certified at 0.999" in e.get("note", "") for e in events if e["stage"] == "evaluate")
    assert result.summary.annotations.rounds == 3
    assert result.summary.learning_curve.ended_by == "limit"
    assert result.summary.annotations.train == 21 + 2 * 10
    assert (result.summary.annotations.development, result.summary.annotations.test) == (3, 6)
    assert result.summary.guarantee.drawn == len(TEXTS) - 24 - 2 * 10 - 6
    assert again.output.read_bytes() == first
    assert again.summary.annotations == result.summary.annotations


def test_a_target_that_is_met_ends_the_annotating(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    with ChatServer(teacher) as server:
        falconer = Falconer(
            llm_at(server),
            home=tmp_path / "home",
            settings=settings.model_copy(update={"targets": Targets(agreement=0.01, annotations=10)}),
        )
        result = falconer.mine(INSTRUCTION, corpus, plan=PLAN)
    assert result.summary.annotations.rounds == 1
    assert result.summary.learning_curve.ended_by == "target"
    assert not any("annotation ended early" in message for message in result.summary.messages)


def test_answers_that_are_too_rare_to_be_learnt_are_named_with_the_fix(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)

    def rarely(request):
        if "Extract the price" in request["messages"][-1]["content"]:
            return json.dumps({key: [] for key in asked(request)})
        return json.dumps({key: bool(re.search(r"unit \d*[147]\.", text)) for key, text in asked(request).items()})

    with ChatServer(rarely) as server:
        result = Falconer(llm_at(server), home=tmp_path / "home", settings=settings).mine(
            INSTRUCTION, corpus, plan=PLAN
        )
    happy, price = [message for message in result.summary.messages if "too few to learn from" in message]
    assert re.fullmatch(
        r"of 30 answers to step 'positive' in the training data, 'yes' \d times: too few to learn from; "
        r"annotate more texts, or choose its threshold with --metric positive=f1",
        happy,
    )
    assert price.startswith("of ")
    assert "'something' 0 times" in price
    assert "--metric" not in price


def test_a_training_that_held_out_texts_speak_against_goes_back_and_says_so(settings, tmp_path, monkeypatch):
    """The answers that are held out say the opposite of those that are learnt."""
    monkeypatch.setattr(splits, "_stratum", lambda answers: "")  # the same texts are held out whatever their labels
    told = [{"text": text, "labels": {"happy": "love" in text}} for text in reviews(220)]
    plan = Plan.parse({"instruction": "x", "steps": [{"id": "happy", "op": "get_label", "instruction": "Is it good?"}]})
    slowly = TrainSettings(epochs=30, batch_size=64, learning_rate=5e-3)
    settings = settings.model_copy(update={"held_out": 0.75, "train": slowly, "unlabelled": 0})

    def mined(name, held_out=()):
        labels = [{**row, "labels": {"happy": row["labels"]["happy"] != (row["text"] in held_out)}} for row in told]
        file = write_lines(tmp_path / f"{name}.jsonl", labels)
        falconer = Falconer(annotations=file, home=tmp_path / name, settings=settings)
        return falconer.mine("x", write_corpus(tmp_path / "corpus.jsonl", reviews(20)), plan=plan).summary

    usual = mined("usual")
    assert usual.training.selected_after == (1.0, 1.0)
    assert not any("stopped early" in message for message in usual.messages)
    (sample,) = (tmp_path / "usual").glob("runs/*/sample-0.json")
    opposed = mined("opposed", json.loads(sample.read_text())["development"])
    assert opposed.training.selected_after[0] < 1
    assert "stopped early" in opposed.messages[0]
    assert opposed.quality.agreement.n == 110  # the test texts, which chose nothing


def test_a_budget_that_is_too_small_is_an_error_and_raising_it_goes_on(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)

    def mine(server, calls):
        capped = settings.model_copy(update={"budget": BudgetSettings(max_calls=calls)})
        return Falconer(llm_at(server), home=tmp_path / "home", settings=capped).mine(INSTRUCTION, corpus, plan=PLAN)

    with ChatServer(teacher) as server:
        with pytest.raises(BudgetError, match=r"too few to train on: .*max_calls of 3; raise it"):
            mine(server, 3)
        assert server.calls == 3
        result = mine(server, 1000)
        paid = [
            json.dumps(asked(request.json)) + request.json["messages"][-1]["content"][:40]
            for request in server.requests
        ]
    assert len(paid) == len(set(paid))
    assert result.cost.calls == len(paid)


def test_a_budget_that_ends_early_leaves_the_rest_to_the_proxy_and_says_so(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    capped = settings.model_copy(update={"budget": BudgetSettings(max_calls=20)})
    with ChatServer(teacher) as server:
        result = Falconer(llm_at(server), home=tmp_path / "home", settings=capped).mine(INSTRUCTION, corpus, plan=PLAN)
        assert server.calls == 20
    assert any("annotation ended early" in message for message in result.summary.messages)
    assert result.summary.learning_curve.ended_by == "budget"
    for row in rows(result.output):
        assert ("price" in row["spans"]) is row["labels"]["positive"]["value"], row


def test_a_budget_in_usd_needs_a_price(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    capped = settings.model_copy(update={"budget": BudgetSettings(max_usd=1.0)})
    with ChatServer(teacher) as server, pytest.raises(SettingsError, match="--price"):
        Falconer(llm_at(server), home=tmp_path / "home", settings=capped).mine(INSTRUCTION, corpus, plan=PLAN)
    assert server.calls == 0


# ---- mended and tried again


def test_annotations_that_were_mended_are_read_again(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    labels = write_lines(tmp_path / "labels.jsonl", [annotation_row(t) for t in TEXTS[:40] if "Terrible" in t])
    falconer = Falconer(annotations=labels, home=tmp_path / "home", settings=settings)
    with pytest.raises(ProxyError, match="step 'price' has no annotation"):
        falconer.mine(INSTRUCTION, corpus, plan=PLAN)
    write_lines(labels, map(annotation_row, TEXTS[:40]))
    result = falconer.mine(INSTRUCTION, corpus, plan=PLAN)
    assert sum(getattr(result.summary.annotations, part) for part in ("train", "development", "test")) == 40


def test_a_corpus_that_grew_is_read_again(settings, files, given, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:50])
    falconer = Falconer(annotations=given["annotations"], home=files / "home", settings=settings)
    assert falconer.mine(INSTRUCTION, corpus, plan=PLAN).summary.rows.total == 50
    write_corpus(corpus, TEXTS[:60])
    result = falconer.mine(INSTRUCTION, corpus, plan=PLAN)
    assert result.summary.rows.total == 60
    assert result.summary.corpus.documents == 60


def test_rows_reports_and_frames_are_the_same_from_parquet(settings, files, given, tmp_path):
    falconer = Falconer(annotations=given["annotations"], home=files / "home", settings=settings)
    one = falconer.mine(INSTRUCTION, given["corpus"][0], tmp_path / "out.jsonl", plan=PLAN)
    other = falconer.mine(INSTRUCTION, given["corpus"][0], tmp_path / "out.parquet", plan=PLAN)
    assert list(one.rows()) == list(other.rows())
    assert one.to_pandas().equals(other.to_pandas())
    pages = [result.report(tmp_path / f"{i}.html").read_text() for i, result in enumerate((one, other))]
    assert pages[0].count(MARKER) == pages[1].count(MARKER) > 0


def test_other_columns_are_kept_and_may_be_edited_without_new_work(settings, tmp_path, monkeypatch):
    def mined(stars, **corpus):
        lines = [{"id": str(i), "review": t, "stars": stars, "labels": "own"} for i, t in enumerate(TEXTS)]
        file, read = write_lines(tmp_path / "c.jsonl", lines), CorpusSettings(**corpus)
        changed = settings.model_copy(update={"corpus": read})
        falconer = Falconer(annotations=labels, home=tmp_path / "home", settings=changed)
        return falconer.mine(INSTRUCTION, file, plan=PLAN, on_event=events.append)

    labels, events = write_lines(tmp_path / "labels.jsonl", map(annotation_row, TEXTS[:40])), []
    frame = mined(4).to_pandas()
    assert (frame["stars"].tolist(), frame["labels"].tolist()) == ([4] * len(TEXTS), ["own"] * len(TEXTS))
    assert any("column 'review'" in event.get("note", "") for event in events)
    monkeypatch.setattr("langchain_falconer.graph.nodes.train.train_proxy", None)
    monkeypatch.setattr("langchain_falconer.graph.nodes.train.train_student", None)
    edited = mined(5)
    assert edited.summary.corpus.guessed_columns == ("review",)
    assert {row["metadata"]["stars"] for row in edited.rows()} == {5}
    assert [row["labels"]["positive"]["value"] for row in edited.rows()] == frame["positive"].tolist()
    assert not any("metadata" in row for row in mined(5, keep="none").rows())


def test_texts_in_memory_are_mined_like_files(settings, files, given):
    falconer = Falconer(annotations=given["annotations"], home=files / "home", settings=settings)
    result = falconer.mine(INSTRUCTION, texts=TEXTS[:30], plan=PLAN)
    assert [row["text"] for row in result.rows()] == TEXTS[:30]
    assert Plan.parse(result.summary.plan) == PLAN
    assert result.proxy.plan == PLAN
