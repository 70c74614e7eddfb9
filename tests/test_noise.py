"""Confident learning: planted errors come first, a person's answers never."""

import random

import pytest

from langchain_falconer.annotate import Annotation
from langchain_falconer.annotate.noise import likely_errors
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span

PLAN = Plan.parse(
    {
        "instruction": "mood and prices",
        "steps": [
            {"id": "mood", "op": "get_label", "instruction": "Which mood?", "labels": ["calm", "cross", "merry"]},
            {"id": "price", "op": "get_span", "instruction": "Extract the price"},
        ],
    }
)
MOODS = ["calm", "cross", "merry"]


def test_planted_label_errors_are_found_whatever_the_confidence_of_a_class():
    """Of 300 answers 10% are wrong; the proxy is right 9 times of 10, and unsure of one class throughout."""
    rng = random.Random(0)
    annotations, predicted, wrong = [], [], set()
    for i in range(300):
        truth = rng.choice(MOODS)
        given = truth
        if rng.random() < 0.1:
            given = rng.choice([m for m in MOODS if m != truth])
            wrong.add(f"text {i}")
        guess = truth if rng.random() < 0.9 else rng.choice(MOODS)
        low, high = (0.4, 0.6) if guess == "calm" else (0.8, 1.0)
        score = rng.uniform(low, high) if guess == truth else rng.uniform(low, (low + high) / 2)
        annotations.append(Annotation(f"text {i}", Answers({"mood": Label(given)}), "llm"))
        predicted.append(Answers({"mood": Label(guess, score)}))
    found = likely_errors(PLAN, annotations, predicted)
    hits = sum(suspect.text in wrong for suspect in found)
    assert hits / len(found) > 0.6
    assert hits / len(wrong) > 0.6
    assert any(suspect.suggestion == "calm" for suspect in found)  # a fixed threshold of 0.7 would have none
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


def span(text, quote, score=1.0):
    return Span.at(text, text.index(quote), text.index(quote) + len(quote), score)


def test_missed_and_spurious_spans_are_found():
    text = "It was $5 with $7 for extras"
    sure = [
        (Annotation(f"{i} for $5", Answers(spans={"price": (span(f"{i} for $5", "$5"),)}), "llm")) for i in range(4)
    ]
    right = [Answers(spans={"price": (span(a.text, "$5", 0.8),)}, none_prob={"price": 0.9}) for a in sure]
    missed = Annotation(text, Answers(spans={"price": (span(text, "$5"),)}), "llm")
    both = Answers(spans={"price": (span(text, "$5", 0.8), span(text, "$7", 0.9))}, none_prob={"price": 0.9})
    plain = "Nothing to pay on Monday"
    spurious = Annotation(plain, Answers(spans={"price": (span(plain, "Monday"),)}), "llm")
    none = Answers(spans={"price": ()}, none_prob={"price": 0.95})
    found = likely_errors(PLAN, [*sure, missed, spurious], [*right, both, none])
    assert [(s.text, s.answer, s.suggestion) for s in found] == [(plain, "Monday", ""), (text, "", "$7")]
    corrected = Annotation(plain, spurious.answers, "llm", corrected=frozenset({"price"}))
    assert [s.text for s in likely_errors(PLAN, [*sure, missed, corrected], [*right, both, none])] == [text]
    with pytest.raises(ValueError, match="zip"):
        likely_errors(PLAN, sure, right[:2])
