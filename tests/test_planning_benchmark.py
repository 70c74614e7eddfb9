"""The planning benchmark: its data, plans of equal and of unequal meaning, and a run with a loopback server."""

import hashlib
import json
import re

import pytest
from langchain_openai import ChatOpenAI
from loopback import ChatServer

from langchain_falconer.benchmarks import planning
from langchain_falconer.benchmarks.gold_answers import domain, findings
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan

CASES = {case.id: case for part in ("development", "test") for case in planning.cases(part)}
DOABLE = [case for case in CASES.values() if case.gold]


def label(name, question, labels=None, where=None, of=None, multi=False):
    step = {"id": name, "op": "get_label", "instruction": question, "labels": labels, "where": where, "of": of}
    return {**step, "multi_label": multi}


def span(name, question, where=None, of=None):
    return {"id": name, "op": "get_span", "instruction": question, "where": where, "of": of}


def is_(step, value=True):
    return {"step": step, "equals": value}


def not_(condition):
    return {"not": condition}


def every(*conditions):
    return {"all": list(conditions)}


def why_not(case, *steps):
    return CASES[case].why_not(Plan.parse({"instruction": "any", "steps": steps}))


NEGATIVE = label("bad", "Is this a negative review?")
STAFF = span("staff", "Find the names of the staff")
BUSINESS = label("business", "Was the guest on a business trip?")

EQUAL = {
    "a yes/no step decides": ("hotels-3", NEGATIVE, span("p", "Find all prices", is_("bad"))),
    "its opposite does not": (
        "hotels-3",
        label("tone", "Classify the tone", ["positive", "negative", "mixed"]),
        span("p", "Find all prices", not_({"step": "tone", "in": ["positive", "mixed"]})),
    ),
    "other labels": (
        "hotels-3",
        label("tone", "How does the guest feel?", ["happy", "unhappy", "other"]),
        span("p", "How much did the guest pay?", is_("tone", "unhappy")),
    ),
    "the question itself decides": ("hotels-3", span("p", "Find the prices in negative reviews")),
    "one of several labels": (
        "hotels-4",
        label("trouble", "What does the guest complain about?", ["noise", "dirt", "internet"], multi=True),
        span("room", "Which room was it?", is_("trouble", "noise")),
    ),
    "neither, in steps": (
        "hotels-5",
        BUSINESS,
        label("noise", "Is there a complaint about noise?"),
        label("wifi", "Is there a complaint about the internet?"),
        span("price", "Extract the price", every(is_("business"), is_("noise", False), not_(is_("wifi")))),
    ),
    "neither, in one question": (
        "hotels-5",
        BUSINESS,
        label("trouble", "Is there a complaint about noise or wifi?"),
        span("price", "Extract the price", every(is_("business"), is_("trouble", False))),
    ),
    "neither, in the question": (
        "hotels-5",
        label("x", "Is it by a business guest who complains about neither noise nor wifi?"),
        span("price", "Extract the rate that was paid", is_("x")),
    ),
    "labels of each span": ("hotels-8", STAFF, label("m", "Was it friendly?", ["friendly", "rude"], of="staff")),
    "yes or no of each span": ("hotels-8", STAFF, label("m", "Was this person rude?", of="staff")),
    "a negated label": (
        "hotels-9",
        span("a", "Find the amenities"),
        label("o", "Did the guest like it?", ["liked", "not liked"], of="a"),
    ),
    "yes/no steps in place of many labels": (
        "letters-1",
        *(label(s, f"Is the letter about {s}?") for s in ("traffic", "waste", "parks", "noise")),
    ),
    "two requests in one": (
        "matches-6",
        label("home", "Did the home team win?"),
        span("coach", "Find the coach", is_("home")),
        label("derby", "Is it a derby in which somebody was sent off?"),
        span("ref", "Name the referee", is_("derby")),
    ),
    "spans of spans": ("clinic-7", span("d", "List the medication"), span("x", "How much of it?", of="d")),
}

UNEQUAL = {
    "no restriction": ("hotels-3", span("p", "Find all prices")),
    "a restriction that is not used": ("hotels-3", NEGATIVE, span("p", "Find all prices")),
    "the opposite": ("hotels-3", NEGATIVE, span("p", "Find all prices", is_("bad", False))),
    "a wider restriction": (
        "hotels-3",
        label("good", "Is this a positive review?"),
        span("p", "Find all prices", is_("good", False)),
    ),
    "other spans": ("hotels-3", NEGATIVE, span("p", "Find the room", is_("bad"))),
    "more spans": ("hotels-3", NEGATIVE, span("p", "Find prices", is_("bad")), span("r", "Find rooms", is_("bad"))),
    "another subject": ("hotels-4", label("n", "Is there dirt?"), span("room", "Which room?", is_("n"))),
    "and for or": (
        "hotels-5",
        BUSINESS,
        label("trouble", "Is there a complaint about noise and wifi?"),
        span("price", "Extract the price", every(is_("business"), is_("trouble", False))),
    ),
    "a label of the text": ("hotels-8", STAFF, label("m", "Is the tone good?", ["positive", "negative", "mixed"])),
    "spans without their relation": ("clinic-7", span("d", "List the drugs"), span("x", "Find the dose")),
    "a label missing": ("letters-1", label("s", "What is it about?", ["traffic", "waste", "parks"], multi=True)),
    "one label of several": ("letters-1", label("s", "What about?", ["traffic", "waste", "parks", "noise"])),
    "a question in words of another world": ("hotels-1", span("p", "Find the chemical elements")),
    "a question lost": ("hotels-7", label("tone", "Which tone?", ["positive", "negative", "mixed"])),
    "the negation lost": ("hotels-2", label("f", "Is it by someone without children?")),
}


@pytest.mark.parametrize("plan", EQUAL.values(), ids=EQUAL)
def test_plans_of_equal_meaning_are_right(plan):
    assert why_not(*plan) is None


@pytest.mark.parametrize("plan", UNEQUAL.values(), ids=UNEQUAL)
def test_plans_of_another_meaning_are_not(plan):
    assert why_not(*plan)


def test_the_instructions_are_as_the_readme_says():
    assert len(CASES) == 120
    assert len({case.domain for case in CASES.values()}) == 12
    assert sum(not case.gold for case in CASES.values()) == 18
    assert all((case.grade == 0) == (not case.gold) for case in CASES.values())
    assert sum(case.style == "people" for case in CASES.values()) == 60
    assert [len(case.wordings) for case in CASES.values() if case.wordings] == [2] * 20


def test_the_parts_are_drawn_by_hash():
    drawn = set()
    for grade in planning.GRADES:
        ids = [case.id for case in CASES.values() if case.grade == grade]
        ids.sort(key=lambda name: hashlib.sha256(f"planning-1:{name}".encode()).hexdigest())
        drawn |= set(ids[: round(len(ids) / 3)])
    assert {case.id for case in planning.cases("development")} == drawn


@pytest.mark.parametrize("name", sorted({case.domain for case in CASES.values()}))
def test_texts_and_facts_fit(name):
    facts, texts = domain(name).facts, domain(name).texts
    assert len(texts) == 20
    for text in texts:
        assert not re.search(r"[\[\]|]", text.text)
        assert all(set(values) <= set(facts[f].values or ["true"]) for f, values in text.labels.items())
        assert all(f.name in text.labels for f in facts.values() if f.values and f.of is None and not f.multi)
        keys = {(m.fact, m.key) for m in text.marks if m.key}
        for mark in text.marks:
            assert facts[mark.fact].is_span
            assert mark.parent is None or (facts[mark.fact].of, mark.parent) in keys
            assert all(facts[f].of == mark.fact and v in facts[f].values for f, v in mark.labels.items())


def damaged(step):
    """A step of a gold plan, each time with a condition less, more or turned round."""
    fact, _, condition = step.partition(" if ")
    if condition:
        yield fact
        yield f"{fact} if not ({condition})"
        for one, other in ((" or ", " and "), (" and ", " or "), (" not ", " ")):
            if one in condition:
                yield f"{fact} if {condition.replace(one, other, 1)}"


@pytest.mark.parametrize("case", DOABLE, ids=lambda case: case.id)
def test_the_texts_tell_a_damaged_plan_from_the_gold_plan(case):
    gold, within = case.findings(), domain(case.domain)
    assert gold.outputs
    assert all(places for _, places in gold.outputs)
    others = [case.gold[:i] + case.gold[i + 1 :] for i in range(len(case.gold)) if len(case.gold) > 1]
    others += [
        [*case.gold[:i], other, *case.gold[i + 1 :]] for i, step in enumerate(case.gold) for other in damaged(step)
    ]
    same = []
    for steps in others:
        plan, readings = planning.gold_plan(steps, within, case.instruction)
        same += [steps] if findings(plan, readings, within.texts).outputs == gold.outputs else []
    # Only a funded study names its funder: there, the condition says what the question says.
    assert same == ([["funder"]] if case.gold == ("funder if funded",) else [])


def test_a_run_scores_plans_refusals_and_wordings(monkeypatch):
    some = tuple(CASES[name] for name in ("clinic-1", "hotels-1", "hotels-3", "hotels-5", "hotels-8", "hotels-10"))
    monkeypatch.setattr(planning, "cases", lambda part: some)
    step = {"id": "x", "ask": "find_spans", "labels": [], "of": "", "where": [], "where_join": "all"}
    rest = {"filters": [{"only": "none", "id": "", "question": "", "keep_if": "true"}], "texts": "any", "wanted": []}

    def reply(request):
        contents = [m["content"] for m in request["messages"]]
        content = next(c for c in reversed(contents) if c.startswith("Instruction"))
        asked = "the allergies" if "allerg" in content else "the prices in negative reviews"
        return "no plan" if "name" in content else json.dumps(rest | {"steps": [step | {"instruction": asked}]})

    seen = []
    with ChatServer(reply) as server:
        llm = LLM(ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback"))
        result = planning.run(llm, "test", seen.append)
    assert json.loads(json.dumps(result)) == result
    assert len(result["cases"]) == len(seen) == 6 + 2 * 3
    assert {row["id"] for row in result["cases"] if row["right"]} == {"clinic-1", "hotels-3"}
    assert result["scores"]["one step"]["valid"]["value"] == 0.5
    assert result["scores"]["all that can be done"]["same rows"]["value"] == pytest.approx(2 / 5)
    assert result["scores"]["refusals"]["f1"] == 0
    assert result["scores"]["stability"]["value"] == pytest.approx(1 / 3)
    assert result["title"] == "plans by openai:loopback, test part"
