"""The grade of a proxy: what it mistakes for what, whether its scores can be trusted, and where it fails."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_falconer.evaluate import evaluate_plan
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span

PLAN = Plan.parse(
    {
        "instruction": "What is it about, and what does it cost?",
        "steps": [
            {"id": "topic", "op": "get_label", "instruction": "Topic?", "labels": ["food", "sport", "art"]},
            {"id": "price", "op": "get_span", "instruction": "Prices"},
        ],
    }
)
TEXT = "The tickets are $12 each."


def answers(topic, *spans, score=0.9, text=TEXT):
    return Answers({"topic": Label(topic, score)}, {"price": tuple(Span.at(text, *span, score) for span in spans)})


def graded(gold, predicted, texts=None):
    return evaluate_plan(PLAN, gold, predicted, texts=texts).steps


def test_precision_and_recall_have_intervals():
    gold, predicted = [answers("art", (16, 19))] * 40, [answers("art", (16, 19))] * 30 + [answers("art")] * 10
    scores = graded(gold, predicted)["price"].details
    assert (scores.precision.value, scores.recall.value) == (1, 0.75)
    assert scores.precision.low < 1
    assert scores.recall.low < 0.75 < scores.recall.high < 1


def test_mistakes_are_counted_with_quotes():
    gold = [answers("art", (16, 19))] * 4
    predicted = [answers("food", (17, 19)), answers("food"), answers("art", (16, 19), (20, 24)), answers("sport")]
    steps = graded(gold, predicted, [TEXT] * 4)
    topic = {(m.gold, m.predicted): m.n for m in steps["topic"].mistakes}
    assert topic == {("art", "food"): 2, ("art", "sport"): 1}
    price = {(m.gold, m.predicted): m.n for m in steps["price"].mistakes}
    assert price == {("$12", "12"): 1, ("$12", None): 2, (None, "each"): 1}
    assert steps["topic"].mistakes[0].quotes == (TEXT,)


def test_mistakes_are_the_twenty_most_frequent():
    plan = Plan.parse(
        {
            "instruction": "?",
            "steps": [{"id": "n", "op": "get_label", "instruction": "?", "labels": [f"l{i}" for i in range(60)]}],
        }
    )
    gold = [Answers({"n": Label(f"l{i}")}) for i in [*range(50), 7]]
    predicted = [Answers({"n": Label("l59")})] * 51
    mistakes = evaluate_plan(plan, gold, predicted).steps["n"].mistakes
    assert (len(mistakes), mistakes[0].gold, mistakes[0].n) == (20, "l7", 2)


def test_labels_of_a_set_are_missing_or_too_many():
    step = {"id": "s", "op": "get_label", "instruction": "?", "labels": ["a", "b", "c"], "multi_label": True}
    plan = Plan.parse({"instruction": "?", "steps": [step]})
    gold, predicted = [Answers({"s": Label(("a", "b"))})], [Answers({"s": Label(("b", "c"))})]
    found = {(m.gold, m.predicted) for m in evaluate_plan(plan, gold, predicted).steps["s"].mistakes}
    assert found == {("a", None), (None, "c")}


def test_reliability_tells_overconfident_scores():
    gold = [answers("art")] * 100
    predicted = [answers("art" if i % 2 else "food", score=0.95) for i in range(100)]
    found = graded(gold, predicted)["topic"].reliability
    assert found.error == pytest.approx(0.45)
    (only,) = found.bins
    assert (only.n, only.score, only.right) == (100, pytest.approx(0.95), 0.5)


def test_what_is_too_rare_is_said():
    gold = [answers("art")] * 30 + [answers("food", (16, 19))] * 3
    steps = graded(gold, gold)
    assert "food (3)" in steps["topic"].remarks[0]
    assert "3" in steps["price"].remarks[0]
    often = [answers("art", (16, 19))] * 20
    assert graded(often, often)["price"].remarks == ()


def test_a_slice_on_which_the_proxy_fails_is_found():
    texts = [TEXT] * 60 + ["Билеты стоят двенадцать."] * 20
    gold = [answers("art")] * 80
    predicted = [answers("art")] * 58 + [answers("food")] * 2 + [answers("food")] * 15 + [answers("art")] * 5
    worse = [one for one in graded(gold, predicted, texts)["topic"].slices if one.is_worse]
    assert ("script", "cyrillic") in {(one.by, one.value) for one in worse}
    assert worse[0].agreement.value == 0.25
    assert worse[0].elsewhere == pytest.approx(58 / 60)


def test_slices_of_chance_are_seldom_called_worse():
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(100):
        texts = ["a" * int(n) for n in rng.integers(5, 300, 60)]
        gold = [answers(topic) for topic in rng.choice(["food", "sport", "art"], 60)]
        right = rng.random(60) < 0.8
        other = {"food": "art", "art": "sport", "sport": "food"}
        predicted = [
            one if ok else answers(other[one.labels["topic"].value]) for one, ok in zip(gold, right, strict=True)
        ]
        found += any(one.is_worse for one in graded(gold, predicted, texts)["topic"].slices)
    assert found <= 10
