"""Continual learning: a new task is learned and earlier ones are retained."""

import re

import numpy as np
import pytest
from laptops import PLAN, annotations, is_positive, prices, reviews

from langchain_falconer.annotate import Annotation
from langchain_falconer.errors import ProxyError
from langchain_falconer.model import Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.registry import Registry
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import Previous, PreviousTask, train_proxy

LEARN = TrainSettings(epochs=30, learning_rate=3e-3)
SEEN, UNSEEN = reviews(60), reviews(30, start=60)
DEEDS = Plan.parse(
    {
        "instruction": "What does it do?",
        "steps": [
            {"id": "price", "op": "get_span", "instruction": "Extract what it does"},
            {"id": "verb", "op": "get_label", "instruction": "What is said of it?", "labels": ["works", "broke"]},
        ],
    }
)
FIRST = PreviousTask(PLAN, annotations(SEEN))


def deed(text):
    return Span.at(text, *re.search("works and works|broke at once", text).span())


def deeds(texts):
    return [
        Annotation(t, Answers({"verb": Label("works" if is_positive(t) else "broke")}, {"price": (deed(t),)}), "human")
        for t in texts
    ]


def deeds_right(proxy):
    found = proxy.answers(UNSEEN)
    return sum([s.text for s in a.spans["price"]] == [deed(t).text] for a, t in zip(found, UNSEEN, strict=True))


def prices_right(proxy):
    found = proxy.answers(UNSEEN, apply_conditions=False)
    liked = [(a, t) for a, t in zip(found, UNSEEN, strict=True) if is_positive(t)]
    assert liked
    return sum([s.text for s in a.spans["price"]] == prices(t) for a, t in liked) / len(liked)


@pytest.fixture(scope="module")
def first(tiny_bert):
    return train_proxy(PLAN, FIRST.annotations, base=tiny_bert, settings=LEARN)


@pytest.fixture(scope="module")
def second(first):
    return train_proxy(DEEDS, deeds(SEEN), base=Previous(first, [FIRST]), settings=LEARN)


def test_the_new_task_is_learned_and_the_old_one_retained(first, second):
    assert deeds_right(second) >= 20
    assert prices_right(first) > 0.9
    assert prices_right(second.recall(PLAN)) >= 0.7
    assert first.memory == ()


def test_the_old_task_is_retained_without_annotations_to_rehearse(first):
    without = train_proxy(DEEDS, deeds(SEEN), base=Previous(first), settings=LEARN)
    assert deeds_right(without) >= 20
    assert prices_right(without.recall(PLAN)) >= 0.7


def test_unlabelled_texts_of_the_old_task_are_rehearsed(first):
    settings = LEARN.model_copy(update={"epochs": 20.0})
    old = PreviousTask(PLAN, [], reviews(60, start=200))
    alone, later = (
        train_proxy(DEEDS, deeds(SEEN), base=Previous(first, past), settings=settings) for past in ([], [old])
    )
    assert later.manifest["training"]["steps"] == 2 * alone.manifest["training"]["steps"]
    assert deeds_right(later) >= 20
    assert prices_right(later.recall(PLAN)) >= 0.7


def test_self_training_retains_the_old_task(first):
    later = train_proxy(DEEDS, deeds(SEEN), base=Previous(first, [FIRST]), unlabelled=UNSEEN, settings=LEARN)
    assert deeds_right(later) >= 20
    assert prices_right(later.recall(PLAN)) >= 0.7


def test_earlier_heads_are_saved_and_answer_their_own_questions(second, tmp_path):
    second.save(tmp_path / "p")
    second.export()
    loaded = Proxy.load(tmp_path / "p")
    assert prices_right(loaded.recall(PLAN)) >= 0.7
    liked = [t for t in UNSEEN if is_positive(t)]
    assert [[s.text for s in found] for found in loaded.get_span(liked, "Extract the price")] == list(
        map(prices, liked)
    )
    third = train_proxy(
        PLAN, FIRST.annotations, base=Previous(loaded, [FIRST, PreviousTask(DEEDS, deeds(SEEN))]), settings=LEARN
    )
    assert [old.plan for old in third.memory] == [DEEDS, PLAN]
    assert deeds_right(third.recall(DEEDS)) >= 15


def test_similar_proxies_are_found_by_meaning_and_know_their_training_texts(first, second, tmp_path):
    registry = Registry(tmp_path)
    first.save(registry.path("prices"))
    second.save(registry.path("deeds"))
    (tmp_path / "broken").mkdir()

    def embed(texts):
        words = ["price", "laptop", "positive", "do", "does", "said"]
        counts = np.array([[text.lower().count(w) for w in words] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    step = {"id": "p", "op": "get_span", "instruction": "price of the laptop"}
    near = registry.most_similar(Plan.parse({"instruction": "price", "steps": [step]}), embed)
    assert [entry.name for entry in near] == ["prices"]
    assert near[0].trained_on(SEEN[:1])
    assert not near[0].trained_on(UNSEEN)


def test_recall_of_an_unknown_plan_raises(first):
    with pytest.raises(ProxyError, match="never learned the plan 'What does it do"):
        first.recall(DEEDS)
