"""Faults that were reported once, each held down by what a user sees."""

import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import fsspec
import pytest
from laptops import INSTRUCTION, PLAN, STEPS, annotation_row, asked, reviews, teacher, write_corpus, write_lines
from loopback import ChatServer, llm_at

from langchain_falconer import (
    AnnotationError,
    AskOptions,
    BudgetError,
    Falconer,
    FalconerToolkit,
    Label,
    LLMError,
    MineSettings,
    Plan,
    PlanError,
    PlannerError,
    RunSummary,
    SettingsError,
    Span,
    Targets,
    Trust,
    Url,
    create_falconer_graph,
)
from langchain_falconer.annotate import AnnotationStore, Annotator, Budget
from langchain_falconer.corpus import as_place, open_corpus
from langchain_falconer.execute import RowStatistics
from langchain_falconer.report import find
from langchain_falconer.settings import AnnotateSettings, BudgetSettings, LLMSettings

TRUST = Trust(verify=10, agreement=0.6)


@pytest.fixture
def server():
    with ChatServer(teacher) as server:
        yield server


# ---- the review at the terminal


@pytest.mark.parametrize("saved", ["edited", "as it was", "no JSON"])
def test_a_plan_is_edited_at_the_terminal(saved, tmp_path, monkeypatch):
    from rich.progress import Progress

    from langchain_falconer.cli.console import ProgressBars
    from langchain_falconer.cli.plan_review import TerminalReviewer

    edits = {"edited": 's/"positive"/"good"/g', "as it was": "s/x/x/", "no JSON": "s/{/(/"}
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nsed -i '{edits[saved]}' \"$1\"; touch -d '+5 seconds' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "e")
    review = TerminalReviewer(ProgressBars(Progress()))({"plan": PLAN.to_dict(), "pseudocode": "def pipeline(): ..."})
    assert review.action == "edit"
    if saved == "no JSON":
        assert review.plan == {}  # which is asked about again
    else:
        assert Plan.parse(review.plan).steps[0].id == ("good" if saved == "edited" else "positive")


# ---- the LLM


@pytest.mark.parametrize("ask", ["mine", "ask"])
def test_an_unreachable_llm_is_an_llm_error_with_its_data(ask, settings, tmp_path):
    with ChatServer(teacher) as server:
        llm = llm_at(server, max_retries=0)
    falconer = Falconer(llm, home=tmp_path / "home", settings=settings)
    with pytest.raises(LLMError) as caught:
        getattr(falconer, ask)(PLAN.instruction if ask == "mine" else PLAN, texts=reviews(60), **(
            {"plan": PLAN} if ask == "mine" else {"trust": TRUST}
        ))  # fmt: skip
    assert (caught.value.model, caught.value.attempts) == ("openai:loopback", 1)
    assert not isinstance(caught.value, BudgetError)


def test_a_budget_error_names_its_limit(server, settings, tmp_path):
    capped = settings.model_copy(update={"budget": BudgetSettings(max_calls=2)})
    with pytest.raises(BudgetError) as caught:
        Falconer(llm_at(server), home=tmp_path / "home", settings=capped).mine("x", texts=reviews(60), plan=PLAN)
    assert (caught.value.cap, caught.value.limit, caught.value.spent) == ("max_calls", 2, 2)


def test_one_graph_has_one_llm(server, settings, tmp_path):
    """The way of asking is negotiated once, not once per node."""
    from langchain_openai import ChatOpenAI

    def picky(request):
        if request.get("response_format", {}).get("type") == "json_schema":
            return 400, {"error": {"message": "response_format is not supported"}}, {}
        return teacher(request)

    server.reply = picky
    model = ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback", max_retries=0)
    graph = create_falconer_graph(model, home=tmp_path / "home", settings=settings)
    corpus = write_corpus(tmp_path / "c.jsonl", reviews(60))
    state = {"instruction": "x", "plan": PLAN.to_dict(), "auto_approve": True}

    def refused():
        formats = [request.json.get("response_format", {}).get("type") for request in server.requests]
        return formats.count("json_schema")

    graph.invoke({**state, "corpus": [str(corpus)]})
    first = refused()
    assert 1 <= first <= LLMSettings().max_concurrency  # those that were in flight at once
    graph.invoke({**state, "corpus": [str(write_corpus(tmp_path / "d.jsonl", reviews(60, start=60)))]})
    assert refused() == first


# ---- nothing is paid twice


def test_two_annotators_on_one_store_pay_once(server, tmp_path):
    def annotate(name):
        with AnnotationStore(tmp_path / "store.sqlite") as store:
            budget = Budget(store, name, BudgetSettings(), priced=False)
            settings = AnnotateSettings(texts_per_call=1)
            return Annotator(llm_at(server), store, PLAN, budget, settings).annotate(reviews(10))

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(annotate, ["one", "other"])
    assert one.annotations == other.annotations
    questions = [json.dumps(request.json["messages"]) for request in server.requests]
    assert len(questions) == len(set(questions))


def test_two_jobs_at_once_pay_once_and_agree(server, settings, tmp_path):
    corpus = write_corpus(tmp_path / "c.jsonl", reviews(60))
    ready = threading.Barrier(2)

    def mine(name):
        falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
        ready.wait()
        return falconer.mine(INSTRUCTION, corpus, tmp_path / name, plan=PLAN).output.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(mine, ["one.jsonl", "other.jsonl"])
    assert one == other
    questions = [json.dumps(request.json["messages"]) for request in server.requests]
    assert len(questions) == len(set(questions))


def test_a_plan_is_written_once_for_showing_and_for_mining(server, settings, tmp_path):
    falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
    shown = falconer.plan(INSTRUCTION)
    calls = server.calls
    assert falconer.plan(INSTRUCTION) == shown
    result = falconer.mine(INSTRUCTION, texts=reviews(60))
    assert result.plan == shown
    assert server.calls == calls + result.cost.calls


# ---- answers given before


def test_an_earlier_answer_counts_for_the_same_question_only(proxy_folder, server, settings, tmp_path):
    import shutil

    labels = write_lines(tmp_path / "labels.jsonl", map(annotation_row, reviews(30)))
    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    plain = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
    corpus = write_corpus(tmp_path / "c.jsonl", reviews(40))
    first = plain.ask(PLAN, corpus, trust=TRUST)
    assert plain.ask(PLAN, corpus, trust=TRUST).summary.cached
    assert not plain.ask(PLAN, corpus, trust=TRUST, refresh=True).summary.cached
    others = [
        plain.ask(PLAN, corpus, trust=Trust(verify=10, agreement=0.9)),
        Falconer(annotations=labels, home=tmp_path / "home", settings=settings).ask(PLAN, corpus, trust=TRUST),
    ]
    changed = settings.model_copy(update={"annotations": 31})
    others.append(Falconer(llm_at(server), home=tmp_path / "home", settings=changed).ask(PLAN, corpus, trust=TRUST))
    assert not any(other.summary.cached for other in others)
    assert len({first.result, *(other.result for other in others)}) == 4


def test_what_the_llm_left_unanswered_is_asked_again(server, settings, tmp_path):
    silent = {"is": True}

    def sometimes(request):
        return "{}" if silent["is"] and reviews(2)[1] in asked(request).values() else teacher(request)

    server.reply = sometimes
    falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
    partial = falconer.ask(PLAN, texts=reviews(8), trust=TRUST)
    assert partial.decision.chosen.name == "llm"
    assert partial.summary.unanswered >= 1
    silent["is"] = False
    whole = falconer.ask(PLAN, texts=reviews(8), trust=TRUST)
    assert (whole.summary.cached, whole.summary.unanswered) == (False, 0)
    assert falconer.ask(PLAN, texts=reviews(8), trust=TRUST).summary.cached


def test_an_llm_that_answers_nothing_is_an_error(server, settings, tmp_path):
    server.reply = lambda _: "{}"
    with pytest.raises(LLMError):
        Falconer(llm_at(server), home=tmp_path / "home", settings=settings).ask(PLAN, texts=reviews(4), trust=TRUST)


# ---- settings, plans, values


def test_settings_survive_a_round_trip():
    for settings in (
        MineSettings(),
        MineSettings(targets=Targets(agreement=0.9), metrics={"a": "recall:0.9"}),
        AskOptions(quality=0.9, trust=Trust(verify=7)),
        LLMSettings(usd_per_million_tokens=(1, 2)),
    ):
        assert type(settings).model_validate(settings.model_dump()) == settings
        copied = type(settings).model_validate_json(settings.model_dump_json())
        assert copied == settings
        assert hash(copied) == hash(settings)
    assert MineSettings().targets is None
    with pytest.raises(ValueError, match="without a share"):
        Targets(annotations=40)


def test_a_copied_plan_keeps_nothing_of_the_old_steps():
    one = Plan.parse({"instruction": "x", "steps": [{**STEPS[0], "id": "a"}]})
    assert [step.id for step in one.ordered] == [step.id for step in one.top_level] == ["a"]
    step = one.steps[0].model_copy(update={"id": "b"})
    other = one.model_copy(update={"steps": (step,)})
    assert [s.id for s in other.steps] == [s.id for s in other.ordered] == [s.id for s in other.top_level] == ["b"]


def test_every_fault_of_a_plan_is_listed_with_its_step_and_field():
    steps = [
        {"id": "a", "op": "get_label", "instruction": "good?", "where": {"step": "z", "equals": True}},
        {"id": "b", "op": "get_span", "instruction": "prices", "of": "a"},
        {"id": "b", "op": "get_span", "instruction": "names", "where": {"step": "b", "equals": True}},
    ]
    with pytest.raises(PlanError) as caught:
        Plan.parse({"instruction": "x", "steps": steps})
    assert {(issue.step, issue.field) for issue in caught.value.issues} == {
        ("a", "where"),
        ("b", "of"),
        ("b", "id"),
        ("b", "where"),
    }
    with pytest.raises(PlanError) as caught:
        Plan.parse({"instruction": "x", "steps": [{"id": "a", "op": "get_label"}, {"id": "1", "op": "get_span"}]})
    assert [issue.step for issue in caught.value.issues] == ["a", "1", "1"]
    assert caught.value.__cause__ is not None


def test_values_are_hashable_and_cannot_be_changed():
    span = Span(0, 3, "abc", labels={"a": Label(["x", "y"])}, spans={"b": [Span.at("abc", 0, 1)]})
    assert hash(span) == hash(Span(0, 3, "abc", labels={"a": Label(("x", "y"))}, spans={"b": (Span.at("abc", 0, 1),)}))
    with pytest.raises(TypeError):
        span.labels["a"] = Label(True)
    assert span.to_dict()["labels"]["a"]["value"] == ["x", "y"]


# ---- corpora


def test_strings_in_a_list_are_files_everywhere(proxy_folder, settings, tmp_path):
    import shutil

    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    files = [str(write_lines(tmp_path / f"{i}.jsonl", reviews(16)[8 * i : 8 * i + 8])) for i in range(2)]
    falconer = Falconer(home=tmp_path / "home", settings=settings)
    assert [row["text"] for row in falconer.ask(PLAN, files).rows()] == reviews(16)
    assert falconer.add_documents("both", files).added == 16
    assert [row["text"] for row in falconer.ask(PLAN, texts=reviews(3)).rows()] == reviews(3)


def test_urls_stay_whole(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/faults.jsonl", b'{"text": "one"}\n')
    try:
        toolkit = FalconerToolkit(Falconer(home=tmp_path), corpora={"r": "memory://faults.jsonl"})
        assert str(toolkit.corpora["r"]) == "memory://faults.jsonl"
        assert Falconer(home=tmp_path).add_documents("x", "memory://faults.jsonl").added == 1
        assert str(Url.of("memory://faults.jsonl").parent) == "memory://"
        assert str(Url.of("s3://bucket/a/b.jsonl").parent) == "s3://bucket/a"
    finally:
        memory.store.clear()


def test_credentials_stay_with_who_named_them():
    Url.of("memory://me:secret@bucket/in.jsonl?token=secret")
    bare = as_place("memory://bucket/in.jsonl")
    assert bare.address == "memory://bucket/in.jsonl"


def test_ids_and_findings_take_flat_memory(tmp_path):
    from langchain_falconer.corpus.unique_ids import UniqueIds

    def peak(n):
        tracemalloc.start()
        try:
            with UniqueIds() as ids:
                assert all(ids.add(f"row {i}") for i in range(n))
                assert not ids.add("row 7")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(400_000) < peak(200_000) + 1_000_000

    def found(n):
        rows = tmp_path / f"{n}.jsonl"
        step = {"value": True, "score": 1.0}
        with rows.open("w") as out:
            for i in range(n):
                row = {"id": str(i), "text": "t", "labels": {"positive": step}, "spans": {}, "match": True}
                out.write(json.dumps({**row, "metadata": {"url": f"https://x.example/{i}"}}) + "\n")
        statistics = RowStatistics.of(map(json.loads, rows.open()))
        tracemalloc.start()
        try:
            findings = find(PLAN, rows, statistics)
            assert findings.top["positive"][0].count == n
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert found(40_000) < found(20_000) + 1_000_000


def test_an_id_that_comes_twice_is_found_beyond_memory(tmp_path, monkeypatch):
    from langchain_falconer import CorpusError
    from langchain_falconer.corpus import unique_ids

    monkeypatch.setattr(unique_ids, "_IN_MEMORY", 10)
    rows = [{"id": str(i % 25), "text": "t"} for i in range(26)]
    with pytest.raises(CorpusError, match="has the id '0'"):
        list(islice(open_corpus(rows), 30))


# ---- honest measurement


def test_test_texts_choose_nothing(server, settings, tmp_path):
    falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
    result = falconer.mine(INSTRUCTION, texts=reviews(80), plan=PLAN)
    (file,) = (tmp_path / "home").glob("runs/*/sample-0.json")
    sample = json.loads(file.read_text())
    assert len(sample["development"]) == result.summary.annotations.development > 0
    assert len(sample["test"]) == result.summary.annotations.test == result.quality.agreement.n
    assert not set(sample["test"]) & {*sample["development"], *sample["train"]}


def test_several_candidates_share_the_error(proxy_folder, server, settings, tmp_path):
    import shutil

    from langchain_falconer.registry import Registry

    for name in ("one", "two"):
        shutil.copytree(proxy_folder, tmp_path / "proxies" / name)
    assert len(Registry(tmp_path / "proxies").entries()) == 2
    step = {"id": "happy", "op": "get_label", "instruction": "Is this a positive review of it?"}
    plan = Plan.parse({"instruction": "Who is happy?", "steps": [step]})
    falconer = Falconer(llm_at(server), home=tmp_path, settings=settings)
    result = falconer.ask(plan, texts=reviews(60, start=50), trust=Trust(verify=20, agreement=0.5))
    n_candidates = 1 + len([one for one in result.decision.others if one.name != "train"])
    assert n_candidates > 1
    assert result.quality.agreement.level == pytest.approx(1 - 0.05 / n_candidates)


# ---- types


def test_a_summary_travels_as_json(server, settings, tmp_path):
    result = Falconer(llm_at(server), home=tmp_path, settings=settings).mine("x", texts=reviews(60), plan=PLAN)
    again = RunSummary.model_validate_json(result.summary.model_dump_json())
    assert again == result.summary
    assert hash(again) == hash(result.summary)
    with pytest.raises(ValueError, match="frozen"):
        result.summary.cost.calls = 0


# ---- two files of annotations in one home


def test_each_file_of_annotations_is_kept_apart(settings, tmp_path):
    class StoppedError(Exception):
        pass

    def stop_in_training(event):
        if event["stage"] == "train":
            raise StoppedError

    texts = reviews(40)
    rows = [annotation_row(text) for text in texts]
    opposite = [{**row, "labels": {"positive": not row["labels"]["positive"]}, "spans": {"price": []}} for row in rows]
    first, second = write_lines(tmp_path / "a.jsonl", rows), write_lines(tmp_path / "b.jsonl", opposite)
    alone = Falconer(annotations=first, home=tmp_path / "alone", settings=settings)
    expected = alone.mine(INSTRUCTION, texts=texts, plan=PLAN).proxy.manifest["data"]

    stopped = Falconer(annotations=first, home=tmp_path / "home", settings=settings)
    with pytest.raises(StoppedError):
        stopped.mine(INSTRUCTION, texts=texts, plan=PLAN, on_event=stop_in_training)
    Falconer(annotations=second, home=tmp_path / "home", settings=settings).mine(INSTRUCTION, texts=texts, plan=PLAN)
    assert stopped.mine(INSTRUCTION, texts=texts, plan=PLAN).proxy.manifest["data"] == expected


# ---- bad input


def test_bad_input_raises_errors_of_falconer(settings, tmp_path):
    falconer = Falconer(home=tmp_path, settings=settings)
    with pytest.raises(PlanError):
        falconer.mine("x", texts=["a"], plan={"instruction": "x", "steps": []})
    with pytest.raises(PlanError):
        falconer.ask({"steps": []}, texts=["a"])
    with pytest.raises(SettingsError):
        falconer.ask(PLAN, texts=["a"], quality="0.9")
    with pytest.raises(SettingsError):
        Falconer(home=tmp_path, settings={"annotations": 20})
    with pytest.raises(LLMError):
        Falconer(5, home=tmp_path)
    with pytest.raises(AnnotationError):
        falconer.train(PLAN, [{"text": "a"}])
    for call in (lambda: falconer.plan("x"), lambda: falconer.ask("x", texts=["a"])):
        with pytest.raises(PlannerError):
            call()
