"""Plans as data: round trips through JSON, and refusal of inconsistent plans in one sentence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_falconer.errors import PlanError
from langchain_falconer.plan import LabelStep, Plan, SpanStep, matches, resolve, to_mermaid, to_pseudocode
from langchain_falconer.records import Answers, Label, Span

WORDS = st.text(min_size=1, max_size=30).filter(str.strip)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)


def label(name, **more):
    return {"id": name, "op": "get_label", "instruction": f"Is it {name}?", **more}


def span(name, **more):
    return {"id": name, "op": "get_span", "instruction": f"Extract the {name}", **more}


def plan_of(*steps):
    return Plan.parse({"instruction": "Find things", "steps": list(steps)})


@st.composite
def conditions(draw, steps, depth=0):
    if depth < 3 and draw(st.booleans()):
        kind = draw(st.sampled_from(["all", "any", "not"]))
        inner = conditions(steps, depth + 1)
        return {kind: draw(inner) if kind == "not" else draw(st.lists(inner, min_size=1, max_size=3))}
    compared = draw(st.sampled_from(steps))
    if compared["op"] == "get_span":
        return {"step": compared["id"], "exists": True}
    options = compared.get("labels", [True, False])
    names = [o["name"] if isinstance(o, dict) else o for o in options]
    if draw(st.booleans()):
        return {"step": compared["id"], "equals": draw(st.sampled_from(names))}
    return {"step": compared["id"], "in": draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))}


OPTIONS = st.one_of(WORDS, st.fixed_dictionaries({"name": WORDS}, optional={"description": WORDS}))


@st.composite
def plans(draw):
    """Valid plans as JSON data, every feature in any mixture, steps in any order."""
    steps = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)):
        step = {"id": name, "op": draw(st.sampled_from(["get_label", "get_span"])), "instruction": draw(WORDS)}
        if step["op"] == "get_label" and draw(st.booleans()):
            unique = {"min_size": 2, "max_size": 5, "unique_by": lambda o: o if isinstance(o, str) else o["name"]}
            step["labels"] = draw(st.lists(OPTIONS, **unique))
            step["multi_label"] = draw(st.booleans())
        parents = [s["id"] for s in steps if s["op"] == "get_span"]
        if parents and draw(st.booleans()):
            step["of"] = draw(st.sampled_from(parents))
        in_reach = [s for s in steps if "of" not in step or s.get("of") in (None, step["of"])]
        if in_reach and draw(st.booleans()):
            step["where"] = draw(conditions(in_reach))
        steps.append(step)
    return {"instruction": draw(WORDS), "steps": draw(st.permutations(steps))}


def respelled(data):
    """Return the same plan with reversed keys and explicit defaults."""
    steps = []
    for step in data["steps"]:
        whole = {"where": None, "of": None, **step}
        if step["op"] == "get_label":
            whole = {"labels": None, "multi_label": False, **whole}
        if whole.get("labels"):
            whole["labels"] = [
                {"description": None, **o} if isinstance(o, dict) else {"name": o, "description": None}
                for o in whole["labels"]
            ]
        steps.append(dict(reversed(whole.items())))
    return dict(reversed({**data, "steps": steps}.items()))


@settings(max_examples=60, deadline=None)
@given(plans())
def test_a_plan_goes_through_json_and_stays_itself(data):
    plan = Plan.parse(data)
    again = Plan.parse(plan.to_json())
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    assert json.loads(plan.to_json()) == plan.to_dict()


@settings(max_examples=60, deadline=None)
@given(plans())
def test_the_spelling_of_a_plan_does_not_change_its_fingerprints(data):
    one, other = Plan.parse(data), Plan.parse(respelled(data))
    assert one == other
    assert one.fingerprint == other.fingerprint
    assert [s.fingerprint for s in one.steps] == [s.fingerprint for s in other.steps]


@settings(max_examples=60, deadline=None)
@given(plans())
def test_steps_follow_their_dependencies_and_are_all_rendered(data):
    plan = Plan.parse(data)
    places = {step.id: i for i, step in enumerate(plan.ordered)}
    assert sorted(places) == sorted(step.id for step in plan.steps)
    for step in plan.steps:
        text = json.dumps(step.model_dump(mode="json", by_alias=True))
        for name, place in places.items():
            if f'"step": {json.dumps(name)}' in text or step.of == name:
                assert place < places[step.id]
    code, drawing = to_pseudocode(plan), to_mermaid(plan)
    for step in plan.steps:
        assert f"{step.id} = {step.op}(" in code
        assert f"step_{step.id}" in drawing
    assert all(line.startswith(("#", "def ", "    ")) for line in code.split("\n")), code


def test_a_fingerprint_is_of_the_question_alone():
    base = LabelStep(id="a", instruction="Is it good?")
    assert base.fingerprint == LabelStep(id="b", instruction="Is it good?").fingerprint
    gated = plan_of(label("x"), {**label("a"), "instruction": "Is it good?", "where": {"step": "x", "equals": True}})
    assert gated["a"].fingerprint == base.fingerprint
    different = [
        base,
        LabelStep(id="a", instruction="Is it bad?"),
        LabelStep(id="a", instruction="Is it good?", labels=["yes", "no"]),
        LabelStep(id="a", instruction="Is it good?", labels=["no", "yes"]),
        LabelStep(id="a", instruction="Is it good?", labels=["yes", "no"], multi_label=True),
        LabelStep(id="a", instruction="Is it good?", labels=[{"name": "yes", "description": "of course"}, "no"]),
        LabelStep(id="a", instruction="Is it good?", of="thing"),
        SpanStep(id="a", instruction="Is it good?"),
    ]
    assert len({step.fingerprint for step in different}) == len(different)


def nested(depth):
    condition = {"step": "good", "equals": True}
    for _ in range(depth):
        condition = {"not": condition}
    return condition


BAD_PLANS = {
    "no object": ([1, 2], "JSON object"),
    "not JSON": ("{'steps'", "not JSON"),
    "not UTF-8": (b'{"instruction": "\xff"}', "not JSON"),
    "no steps": ({"instruction": "x", "steps": []}, "steps"),
    "steps missing": ({"instruction": "x"}, "'steps' is missing"),
    "steps no list": ({"instruction": "x", "steps": "a"}, "steps"),
    "instruction missing": ({"steps": [label("a")]}, "'instruction' is missing"),
    "unknown field of the plan": ({"instruction": "x", "step": [], "steps": [label("a")]}, "did you mean 'steps'"),
    "unknown field of a step": ([label("a", lables=["x", "y"])], ["'a'", "'lables'", "did you mean 'labels'"]),
    "labels on a span step": ([span("a", labels=["x", "y"])], ["'a'", "labels"]),
    "where of other spans": (
        [span("a"), span("b"), label("c", of="a"), label("d", of="b", where={"step": "c", "equals": True})],
        ["'d'", "'c'", "spans of 'a'"],
    ),
    "no op": ([{"id": "a", "instruction": "x"}], ["'a'", "get_label"]),
    "wrong op": ([{"id": "a", "op": "get_lable", "instruction": "x"}], ["'a'", "get_label"]),
    "step missing its instruction": ([{"id": "a", "op": "get_span"}], ["'a'", "'instruction' is missing"]),
    "blank instruction": ([{"id": "a", "op": "get_span", "instruction": " \n"}], ["'a'", "blank"]),
    "id missing": ([{"op": "get_span", "instruction": "x"}], ["step 1", "'id' is missing"]),
    "id that is no name": ([span("1st price")], ["1st price", "id"]),
    "duplicate ids": ([label("a"), span("a")], ["'a'", "own id"]),
    "one label only": ([label("a", labels=["x"])], ["'a'", "labels"]),
    "the same label twice": ([label("a", labels=["x", "y", "x"])], ["'a'", "'x'", "twice"]),
    "multi_label without labels": ([label("a", multi_label=True)], ["'a'", "multi_label", "labels"]),
    "bad reference": (
        [label("good"), span("a", where={"step": "god", "equals": True})],
        ["'a'", "did you mean 'good'"],
    ),
    "reference to itself": ([label("a", where={"step": "a", "equals": True})], ["'a'", "itself"]),
    "cycle": (
        [label("a", where={"step": "b", "equals": True}), label("b", where={"step": "a", "equals": True})],
        ["wait for each other", "remove one"],
    ),
    "of in a circle": ([span("a", of="b"), span("b", of="a")], ["wait for each other"]),
    "of a label step": ([label("a"), label("b", of="a")], ["'b'", "'a'", "get_span"]),
    "of nothing": ([label("b", of="a")], ["'b'", "'a'"]),
    "value never answered": (
        [label("a", labels=["x", "y"]), label("b", where={"step": "a", "equals": "z"})],
        ["'b'", '"z"', '"x"'],
    ),
    "label compared with true": (
        [label("a", labels=["x", "y"]), label("b", where={"step": "a", "equals": True})],
        ["'b'", "true", '"x"'],
    ),
    "truth compared with a string": ([label("a"), label("b", where={"step": "a", "in": ["true"]})], ["'b'", '"true"']),
    "number as value": ([label("a"), label("b", where={"step": "a", "equals": 1})], ["'b'", "equals"]),
    "exists of a label step": ([label("a"), label("b", where={"step": "a", "exists": True})], ["'b'", "equals"]),
    "exists false": ([span("a"), label("b", where={"step": "a", "exists": False})], ["'b'", "exists"]),
    "equals of a span step": ([span("a"), label("b", where={"step": "a", "equals": "x"})], ["'b'", '"exists": true']),
    "condition of no form": ([label("a"), label("b", where={"stp": "a"})], ["'b'", "is not a condition"]),
    "condition of two forms": ([label("a"), label("b", where={"step": "a", "equals": True, "in": [True]})], ["'b'"]),
    "empty all": ([label("a"), label("b", where={"all": []})], ["'b'", "all"]),
    "nesting of 30": ([label("good"), label("b", where=nested(30))], ["'b'", "flatten"]),
    "nesting of 500": ([label("good"), label("b", where=nested(500))], ["flatten"]),
    "JSON nested 100,000 deep": ("[" * 100_000, "not JSON"),
    "too many steps": ([label(f"s{i}") for i in range(101)], "steps"),
}


@pytest.mark.parametrize(("data", "expected"), BAD_PLANS.values(), ids=BAD_PLANS)
def test_a_bad_plan_is_refused_in_one_sentence(data, expected):
    if isinstance(data, list) and data and isinstance(data[0], dict):
        data = {"instruction": "x", "steps": data}
    with pytest.raises(PlanError) as caught:
        Plan.parse(data)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 300
    for words in [expected] if isinstance(expected, str) else expected:
        assert words in sentence


def test_long_condition_chains_up_to_the_limit_are_fine():
    assert plan_of(label("good"), label("b", where=nested(19)))["b"].where is not None


# ---- conditions on answers

TEXT = "The screen is great, the battery is bad."
SCREEN, BATTERY = (4, 10), (25, 32)


def yes(value=True):
    return Label(value)


def test_a_step_applies_only_where_its_condition_holds():
    plan = plan_of(label("good"), span("price", where={"step": "good", "equals": True}))
    price = (Span.at(TEXT, 0, 3),)
    resolved = resolve(plan, Answers({"good": yes()}, {"price": price}))
    assert (dict(resolved.labels), dict(resolved.spans)) == ({"good": yes()}, {"price": price})
    resolved = resolve(plan, Answers({"good": yes(False)}, {"price": price}))
    assert (dict(resolved.labels), dict(resolved.spans)) == ({"good": yes(False)}, {})


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({"step": "good", "equals": True}, True),
        ({"step": "good", "in": [False]}, False),
        ({"not": {"step": "good", "equals": True}}, False),
        ({"step": "tags", "equals": "x"}, True),
        ({"step": "tags", "in": ["y", "z"]}, False),
        ({"step": "tags", "in": ["y", "x"]}, True),
        ({"step": "part", "exists": True}, True),
        ({"step": "hole", "exists": True}, False),
        ({"not": {"step": "hole", "exists": True}}, True),
        ({"all": [{"step": "good", "equals": True}, {"step": "tags", "equals": "y"}]}, False),
        ({"any": [{"step": "good", "equals": False}, {"step": "tags", "equals": "x"}]}, True),
        ({"step": "never", "equals": True}, False),
        ({"step": "never", "equals": False}, False),
        ({"not": {"step": "never", "equals": True}}, True),
    ],
)
def test_conditions_hold_as_defined(where, holds):
    plan = plan_of(
        label("good"),
        label("tags", labels=["x", "y", "z"], multi_label=True),
        span("part"),
        span("hole"),
        label("never", where={"step": "good", "equals": False}),
        label("last", where=where),
    )
    labels = {"good": yes(), "tags": Label(["x"]), "never": yes(), "last": yes()}
    resolved = resolve(plan, Answers(labels, {"part": (Span.at(TEXT, *SCREEN),), "hole": ()}))
    assert ("last" in resolved) is holds
    assert "never" not in resolved


def test_steps_that_depend_on_a_dropped_step_are_dropped_too():
    plan = plan_of(
        label("a"), label("b", where={"step": "a", "equals": True}), label("c", where={"step": "b", "equals": True})
    )
    resolved = resolve(plan, Answers({"a": yes(False), "b": yes(), "c": yes()}))
    assert list(resolved.labels) == ["a"]


def part(at, **labels):
    span = Span.at(TEXT, *at)
    return Span(span.start, span.end, span.text, labels={k: Label(v) for k, v in labels.items()})


def test_steps_of_spans_see_the_answers_about_their_own_span():
    plan = plan_of(
        span("part"), label("bad", of="part"), label("fault", of="part", where={"step": "bad", "equals": True})
    )
    parts = (part(SCREEN, bad=False, fault=True), part(BATTERY, bad=True, fault=True))
    resolved = resolve(plan, Answers(spans={"part": parts}))
    assert [list(s.labels) for s in resolved.spans["part"]] == [["bad"], ["bad", "fault"]]


def test_elsewhere_an_answer_about_any_span_is_enough():
    plan = plan_of(span("part"), label("bad", of="part"), label("angry", where={"step": "bad", "equals": True}))
    angry = {"angry": yes()}
    both = (part(SCREEN, bad=False), part(BATTERY, bad=True))
    assert "angry" in resolve(plan, Answers(angry, {"part": both}))
    assert "angry" not in resolve(plan, Answers(angry, {"part": both[:1]}))
    assert "angry" not in resolve(plan, Answers(angry, {"part": ()}))


@pytest.mark.parametrize("first", ["label", "span"])
def test_steps_of_spans_see_the_answers_about_the_text_in_any_order_of_steps(first):
    steps = [label("good"), span("part")] if first == "label" else [span("part"), label("good")]
    plan = plan_of(*steps, label("bad", of="part", where={"step": "good", "equals": False}))
    resolved = resolve(plan, Answers({"good": yes(False)}, {"part": (part(SCREEN, bad=True),)}))
    assert dict(resolved.spans["part"][0].labels) == {"bad": yes()}
    resolved = resolve(plan, Answers({"good": yes()}, {"part": (part(SCREEN, bad=True),)}))
    assert not resolved.spans["part"][0].labels


def test_spans_of_spans_of_spans():
    plan = plan_of(
        span("a"), span("b", of="a"), label("c", of="b"), label("d", of="b", where={"step": "c", "equals": True})
    )
    inner = tuple(part(SCREEN, c=c, d=True) for c in (True, False))
    outer = Span(0, 20, TEXT[:20], spans={"b": inner})
    resolved = resolve(plan, Answers(spans={"a": (outer,)}))
    assert [list(s.labels) for s in resolved.spans["a"][0].spans["b"]] == [["c", "d"], ["c"]]
    assert matches(plan, resolved)


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (Answers({"good": yes()}, {"price": (Span.at(TEXT, 0, 3),)}), True),
        (Answers({"good": yes()}, {"price": ()}), False),
        (Answers({"good": yes()}), False),
        (Answers(), False),
    ],
)
def test_a_text_matches_if_an_output_step_has_an_answer(answers, match):
    plan = plan_of(label("good"), span("price", where={"step": "good", "equals": True}))
    assert matches(plan, answers) is match


@pytest.mark.parametrize(
    ("step", "value", "match"),
    [
        (label("a"), True, True),
        (label("a"), False, False),
        (label("a", labels=["x", "y"]), "x", True),
        (label("a", labels=["x", "y"], multi_label=True), ["y"], True),
        (label("a", labels=["x", "y"], multi_label=True), [], False),
    ],
)
def test_a_label_matches_unless_it_is_false_or_empty(step, value, match):
    assert matches(plan_of(step), Answers({"a": Label(value)})) is match
