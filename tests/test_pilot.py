"""The pilot: questions that an LLM answers one way or the other are worded again before the bill."""

import json

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from loopback import ChatServer, llm_at

from langchain_falconer import create_falconer_graph
from langchain_falconer.annotate import AnnotationStore, stored_annotations
from langchain_falconer.annotate.pilot import pilot_budget, run_pilot
from langchain_falconer.plan import Disagreement, Plan, Planner
from langchain_falconer.settings import AnnotateSettings, BudgetSettings

PLAN = Plan.parse(
    {
        "instruction": "prices and moods",
        "steps": [
            {"id": "price", "op": "get_span", "instruction": "Extract prices"},
            {"id": "good", "op": "get_label", "instruction": "Is it good?"},
        ],
    }
)
CLEAR = "Extract prices. Only what the item itself costs; tips do not count."
TEXTS = [f"good item {i}: ${i + 10}, tip ${i + 300}" for i in range(20)]


def items_of(request):
    return json.loads(request["messages"][-1]["content"].rpartition("\nTexts: ")[2])


def is_rewriting(request):
    return "written again" in json.dumps(request["response_format"])


def llm(rewritten=CLEAR):
    """An LLM that takes tips for prices in the second wording only, unless the question rules that out."""

    def reply(request):
        if is_rewriting(request):
            return json.dumps({"counts": "costs", "does_not_count": "tips", "task": rewritten})
        task, items = request["messages"][-1]["content"], items_of(request)
        if "Is it good?" in task:
            return json.dumps({key: "good" in text for key, text in items.items()})
        is_second = not request["messages"][0]["content"].startswith("You annotate texts.")
        last = 2 if is_second and CLEAR not in task else 1
        found = {k: [w.strip(",") for w in text.split() if w.startswith("$")][:last] for k, text in items.items()}
        return json.dumps(found)

    return reply


@pytest.fixture
def store(tmp_path):
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        yield store


def pilot(server, store, caps=None):
    budget = pilot_budget(store, "run", BudgetSettings(**(caps or {})), priced=False)
    return run_pilot(llm_at(server), store, PLAN, TEXTS, budget, AnnotateSettings(), store.path.with_suffix(".json"))


def test_an_unclear_question_is_rewritten_and_a_clear_one_left_alone(store):
    with ChatServer(llm()) as server:
        found = pilot(server, store)
        calls = server.calls
        assert pilot(server, store).wordings == found.wordings
        assert server.calls == calls  # nothing is paid for twice
    price, good = found.wordings
    assert (price.rewritten, price.is_better, price.texts) == (CLEAR, True, 20)
    assert price.agreement == pytest.approx(2 / 3)
    assert price.rewritten_agreement == 1
    assert (good.agreement, good.rewritten) == (1, None)
    assert found.better(PLAN)["price"].instruction == CLEAR
    assert found.better(PLAN)["good"] == PLAN["good"]
    # its answers are annotations like all others
    assert len(stored_annotations(store, found.better(PLAN), TEXTS, "openai:loopback")) == 20


def test_a_wording_that_is_no_better_is_shown_and_not_taken(store):
    with ChatServer(llm("Extract the prices, please")) as server:
        price, _ = pilot(server, store).wordings
        assert (price.rewritten, price.is_better) == ("Extract the prices, please", False)
        shown = next(json.dumps(r.json["messages"][-1]) for r in server.requests if is_rewriting(r.json))
    assert "tip $3" in shown


def test_a_pilot_takes_a_tenth_of_a_cap_and_then_stops(store):
    with ChatServer(llm()) as server:
        found = pilot(server, store, {"max_calls": 80})
        assert server.calls == 8
    assert "max_calls" in found.stopped
    assert all(wording.rewritten is None for wording in found.wordings)


@pytest.mark.parametrize("written", ["", "x" * 700, "Find dogs and cats", PLAN["price"].instruction])
def test_a_rewriting_of_no_use_is_refused(written):
    with ChatServer(llm(written)) as server:
        planner = Planner(llm_at(server))
        assert planner.rewrite(PLAN["price"], [Disagreement("a $5", "[]", '["$5"]')]) is None


def run(server, folder, settings, **changes):
    (folder / "corpus.jsonl").write_text(
        "".join(
            json.dumps({"id": str(i), "text": f"good item {i}: ${i + 10}, tip ${i + 900}"}) + "\n" for i in range(210)
        )
    )
    settings = settings.model_copy(update={"annotations": 200})
    model = llm_at(server)
    graph = create_falconer_graph(model, home=folder / "home", settings=settings, checkpointer=InMemorySaver())
    state = {"instruction": "Extract prices", "corpus": [str(folder / "corpus.jsonl")], **changes}
    thread = {"configurable": {"thread_id": "1"}}
    (question,) = graph.invoke(state, thread)["__interrupt__"]
    return graph, thread, question.value


DRAFT = {
    "texts": "texts",
    "filters": [{"only": "none", "id": "", "question": "", "keep_if": "true"}],
    "wanted": ["find prices"],
    "steps": [
        {
            "id": "price",
            "ask": "find_spans",
            "instruction": "Extract prices",
            "labels": [],
            "of": "",
            "where": [],
            "where_join": "all",
        }
    ],
}


def with_draft(request):
    return json.dumps(DRAFT) if "wanted" in json.dumps(request["response_format"]) else llm()(request)


def test_the_review_shows_both_wordings_and_the_better_one_is_in_the_plan(settings, tmp_path):
    with ChatServer(with_draft) as server:
        graph, thread, question = run(server, tmp_path, settings)
        assert question["plan"]["steps"][0]["instruction"] == CLEAR
        (wording,) = question["wordings"]
        assert (wording["instruction"], wording["rewritten"]) == ("Extract prices", CLEAR)
        assert wording["agreement"] < 0.7 < wording["rewritten_agreement"]
        result = graph.invoke(Command(resume={"action": "reject"}), thread)
        assert result["summary"]["rejected"]


def test_a_plan_that_was_passed_stays_as_it_is_and_a_pilot_can_be_left_out(settings, tmp_path):
    with ChatServer(with_draft) as server:
        _, _, question = run(server, tmp_path, settings, plan=PLAN.to_dict())
        assert question["plan"] == PLAN.to_dict()
        assert question["wordings"][0]["rewritten"] == CLEAR
        calls = server.calls
        off = settings.model_copy(update={"annotate": AnnotateSettings(pilot=0)})
        _, _, question = run(server, tmp_path, off, plan=PLAN.to_dict())
        assert "wordings" not in question
        assert server.calls == calls
