"""Whether an LLM is right: asked twice, corrected by a person, and answering in another wording."""

import json

import pytest
from loopback import ChatServer, llm_at

from langchain_falconer.annotate import (
    AnnotationStore,
    Annotator,
    Budget,
    accuracy,
    self_agreement,
    store_corrections,
    stored_annotations,
    trusted_annotations,
)
from langchain_falconer.errors import AnnotationError
from langchain_falconer.plan import Plan
from langchain_falconer.prompts import DEFAULT_PROMPTS, Prompts, SpanExample
from langchain_falconer.settings import AnnotateSettings, BudgetSettings

PLAN = Plan.parse(
    {
        "instruction": "prices in positive reviews",
        "steps": [
            {"id": "positive", "op": "get_label", "instruction": "Is it positive?"},
            {
                "id": "price",
                "op": "get_span",
                "instruction": "Extract the price",
                "where": {"step": "positive", "equals": True},
            },
        ],
    }
)
TEXTS = [f"good {i}: ${i} or ${i + 100}" for i in range(8)]
SOURCE = "openai:loopback"


def items_of(request):
    return json.loads(request["messages"][-1]["content"].rpartition("\nTexts: ")[2])


def is_second(request):
    return not request["messages"][0]["content"].startswith("You annotate texts.")


def teacher(request):
    """All are positive, but text 0 when asked again; of text 1 the second wording finds one price only."""
    items = items_of(request)
    if "Extract the price" not in request["messages"][-1]["content"]:
        return json.dumps({k: not (is_second(request) and v.startswith("good 0")) for k, v in items.items()})
    found = {k: [w for w in v.split() if w.startswith("$")] for k, v in items.items()}
    return json.dumps(
        {k: v[:1] if is_second(request) and items[k].startswith("good 1:") else v for k, v in found.items()}
    )


@pytest.fixture
def store(tmp_path):
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        yield store


def annotate(server, store, texts=TEXTS, plan=PLAN, *, second=False, **settings):
    budget = Budget(store, "run", BudgetSettings(), priced=False)
    return Annotator(llm_at(server), store, plan, budget, AnnotateSettings(**settings), second=second).annotate(texts)


def corrections(tmp_path, *rows):
    path = tmp_path / "corrections.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def values(annotations):
    return {a.text: a.answers.labels["positive"].value for a in annotations if "positive" in a.answers}


def test_an_llm_is_compared_with_itself_where_it_was_asked_twice(store):
    with ChatServer(teacher) as server:
        annotate(server, store)
        assert self_agreement(store, PLAN, TEXTS, SOURCE) is None
        annotate(server, store, TEXTS[:4], second=True)
        calls = server.calls
        annotate(server, store, TEXTS[:4], second=True)
        assert server.calls == calls  # a second answer is not paid for twice either
    quality = self_agreement(store, PLAN, TEXTS, SOURCE)
    assert (quality.steps["positive"].agreement.value, quality.steps["positive"].n) == (0.75, 4)
    assert quality.steps["positive"].agreement.low < 0.75 < quality.steps["positive"].agreement.high
    assert stored_annotations(store, PLAN, TEXTS, SOURCE)[0].answers.labels["positive"].value is True


def test_answers_are_trusted_where_they_are_the_same_twice_or_a_persons(store, tmp_path):
    with ChatServer(teacher) as server:
        annotate(server, store)
        annotate(server, store, TEXTS[:3], second=True)
    steps = {a.text: {*a.answers.labels, *a.answers.spans} for a in trusted_annotations(store, PLAN, TEXTS, SOURCE)}
    assert steps == {TEXTS[1]: {"positive"}, TEXTS[2]: {"positive", "price"}}
    store_corrections(store, PLAN, corrections(tmp_path, {"text": TEXTS[7], "labels": {"positive": False}}))
    trusted = trusted_annotations(store, PLAN, TEXTS, SOURCE)
    assert values(trusted) == {TEXTS[1]: True, TEXTS[2]: True, TEXTS[7]: False}
    assert [a.corrected for a in trusted] == [set(), set(), {"positive"}]


def test_corrections_stand_in_for_the_llm_and_measure_it(store, tmp_path):
    with ChatServer(teacher) as server:
        annotate(server, store)
        assert accuracy(store, PLAN, TEXTS, SOURCE) is None
        picked = {"text": TEXTS[0], "labels": {"positive": False}}
        store_corrections(store, PLAN, corrections(tmp_path, picked))
        assert values(stored_annotations(store, PLAN, TEXTS[:2], SOURCE)) == {TEXTS[0]: False, TEXTS[1]: True}
        assert "price" not in stored_annotations(store, PLAN, TEXTS[:1], SOURCE)[0].answers  # its where is false now
        found = accuracy(store, PLAN, TEXTS, SOURCE)
        assert (found.is_uniform, found.texts, found.quality.steps["positive"].score.value) == (False, 1, 0.0)
        drawn = [{"text": text, "labels": {"positive": text != TEXTS[5]}, "uniform": True} for text in TEXTS[4:]]
        store_corrections(store, PLAN, corrections(tmp_path, *drawn))
        found = accuracy(store, PLAN, TEXTS, SOURCE)
        assert (found.is_uniform, found.texts, found.quality.steps["positive"].score.value) == (True, 4, 0.75)
        calls = server.calls
        annotate(server, store)
        assert server.calls == calls


def test_a_corrected_condition_opens_the_steps_behind_it(store, tmp_path):
    bad = "good gracious: bad for $5"
    with ChatServer(lambda request: json.dumps(dict.fromkeys(items_of(request), False))) as server:
        annotate(server, store, [bad])
    store_corrections(store, PLAN, corrections(tmp_path, {"text": bad, "labels": {"positive": True}}))
    with ChatServer(teacher) as server:
        (annotation,) = annotate(server, store, [bad]).annotations
        assert server.calls == 1
    assert [span.text for span in annotation.answers.spans["price"]] == ["$5"]


def test_later_corrections_replace_earlier_ones_step_by_step(store, tmp_path):
    text = TEXTS[0]
    whole = {"text": text, "labels": {"positive": True}, "spans": {"price": [[8, 10]]}}
    store_corrections(store, PLAN, corrections(tmp_path, whole))
    store_corrections(store, PLAN, corrections(tmp_path, {"text": text, "spans": {"price": []}, "uniform": True}))
    (annotation,) = stored_annotations(store, PLAN, [text], SOURCE)
    assert annotation.answers.labels["positive"].value is True
    assert annotation.answers.spans["price"] == ()
    with pytest.raises(AnnotationError, match="not in the plan"):
        store_corrections(store, PLAN, corrections(tmp_path, {"text": text, "labels": {"mood": True}}))


def test_prompts_can_be_replaced_and_have_a_source_of_their_own(store):
    example = SpanExample(task="Find fish.", text="A {cod} and an eel", quotes=("{cod}",))
    prompts = Prompts(system="Read {items}. {how} Our house rule: {sic}.", examples=(example,))
    with ChatServer(teacher) as server:
        annotate(server, store)
        calls = server.calls
        annotate(server, store, prompts=prompts)
        assert server.calls == 2 * calls
        messages = server.requests[-1].json["messages"]
    assert messages[0]["content"] == f"Read {prompts.texts}. {prompts.find_spans} Our house rule: {{sic}}."
    assert json.loads(messages[2]["content"]) == {"t1": ["{cod}"]}
    assert len(stored_annotations(store, PLAN, TEXTS, SOURCE)) == len(TEXTS)
    assert AnnotateSettings.model_validate_json(AnnotateSettings(prompts=prompts).model_dump_json()).prompts == prompts
    with pytest.raises(ValueError, match=r"lacks \{how\}"):
        Prompts(system="{items}")
    assert Prompts() == DEFAULT_PROMPTS


def test_the_second_wording_lists_labels_in_reverse(store):
    step = {"id": "mood", "op": "get_label", "instruction": "Which mood?", "labels": ["calm", "cross", "merry"]}
    plan = Plan.parse({"instruction": "moods", "steps": [step]})

    def first_label(request):
        label = request["messages"][-1]["content"].split("- ")[1].split("\n")[0]
        return json.dumps(dict.fromkeys(items_of(request), label))

    with ChatServer(first_label) as server:
        annotate(server, store, plan=plan)
        annotate(server, store, plan=plan, second=True)
    assert self_agreement(store, plan, TEXTS, SOURCE).steps["mood"].agreement.value == 0
