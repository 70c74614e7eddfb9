"""Cuckoo checkpoints: their own prompt, one pass per question; a tiny RoBERTa whose tags are known."""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from laptops import PLAN, annotation_row, annotations, is_positive, reviews, write_lines

from langchain_falconer import Falconer
from langchain_falconer.errors import ProxyError
from langchain_falconer.model import Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.settings import MineSettings, TrainSettings
from langchain_falconer.train import train_proxy

TEXTS = reviews(9)
HARD_TEXTS = [
    "",
    " \t\r\n ",
    "love",
    "I love\nit.love it,it",
    "👩‍👩‍👧 e\u0301 — I  love\u00a0it… ﬁne ノート love\u200fit",
    "$" * 700,
    "x" * 3000,
]


def plan_of(*steps):
    return Plan.parse({"instruction": "Find things", "steps": list(steps)})


LIKED = {"id": "liked", "op": "get_span", "instruction": "Do they love it or love something else?"}
OTHER = {"id": "other", "op": "get_span", "instruction": "What else?"}


class Spy:
    """A session that records its input and finds nothing."""

    name = "spy"
    n_parallel = 1
    tokens_per_batch = 1024

    def __init__(self):
        self.seen = []

    def run(self, ids, mask, weights):
        self.seen += [list(row[: int(n)]) for row, n in zip(ids, mask.sum(1), strict=True)]
        return np.zeros((*ids.shape, len(weights.span_bias)), np.float32), np.zeros((len(ids), 0), np.float32)


def offsets(answers, step="liked"):
    return [(s.start, s.end) for s in answers.spans[step]]


def loved(text):
    return [m.span() for m in re.finditer(r"love( it)?\b", text)]


def test_the_tagged_words_of_the_text_are_the_spans_whatever_the_question_says(tiny_cuckoo):
    proxy = Proxy.zero_shot(plan_of(LIKED, OTHER), base=tiny_cuckoo)
    for text, record in zip(TEXTS, proxy.run(TEXTS), strict=True):
        assert offsets(record) == offsets(record, "other") == loved(text)
        assert record.match is is_positive(text)
        assert all(text[s.start : s.end] == s.text and 0.9 < s.score <= 1 for s in record.spans["liked"])
    assert [[s.text for s in found] for found in proxy.get_span(["They love it", "no"], "A new one?")] == [
        ["love it"],
        [],
    ]


def test_a_text_is_read_in_the_prompt_and_the_words_that_cuckoo_was_trained_on(tiny_cuckoo):
    from transformers import AutoTokenizer

    proxy = Proxy.zero_shot(plan_of(LIKED, OTHER), base=tiny_cuckoo)
    proxy.set_session(spy := Spy())
    proxy.run(["I love it, $5.\nYes"])
    # As its run_ner.py does with the words that spaCy finds in the prompt of its README.
    original = AutoTokenizer.from_pretrained(tiny_cuckoo, add_prefix_space=True)
    questions = [["Do", "they", "love", "it", "or", "love", "something", "else", "?"], ["What", "else", "?"]]
    text = ["I", "love", "it", ",", "$", "5", ".", "\n", "Yes"]
    prompts = [
        ["User", ":", "\n\n", *text, "\n\n", "Question", ":", *question, "\n\n", "Assistant", ":"]
        for question in questions
    ]
    assert spy.seen == [original(words, is_split_into_words=True).input_ids for words in prompts]


@pytest.mark.parametrize("passage_chars", [400, 100_000])
def test_a_long_text_is_covered_to_its_end_and_the_prompt_always_fits(passage_chars, tiny_cuckoo):
    proxy = Proxy.zero_shot(plan_of(LIKED), base=tiny_cuckoo, passage_chars=passage_chars)
    text = "  We love books. " * 400
    assert offsets(proxy.answers([text])[0]) == loved(text)
    proxy.set_session(spy := Spy())
    proxy.run([text])
    assert len(spy.seen) > 1
    assert all(len(ids) <= 512 for ids in spy.seen)
    question = spy.seen[0][-20:]
    assert all(ids[-20:] == question for ids in spy.seen)


def test_spans_are_exact_whatever_the_characters(random_cuckoo, tiny_cuckoo):
    proxy = Proxy.zero_shot(plan_of(LIKED), base=random_cuckoo)
    texts = [*TEXTS, *HARD_TEXTS]
    found = proxy.answers(texts)
    assert any(a.spans["liked"] for a in found)
    for text, answers in zip(texts, found, strict=True):
        spans = answers.spans["liked"]
        assert all(0 <= s.start < s.end <= len(text) and text[s.start : s.end] == s.text for s in spans)
        assert all(one.end <= other.start for one, other in itertools.pairwise(spans))
    tagged = Proxy.zero_shot(plan_of(LIKED), base=tiny_cuckoo)
    (answers,) = tagged.answers(["👩‍👩‍👧 e\u0301 — I  love\u00a0it… ﬁne, love"])
    assert [s.text for s in answers.spans["liked"]] == ["love\u00a0it", "love"]


def test_steps_of_a_span_are_asked_about_the_text_with_the_span_marked(tiny_cuckoo):
    part = {"id": "part", "op": "get_span", "instruction": "What of {span}?", "of": "liked"}
    proxy = Proxy.zero_shot(plan_of(LIKED, part), base=tiny_cuckoo)
    text = "We love it. No."
    (answers,) = proxy.answers([text])
    (span,) = answers.spans["liked"]
    assert [(s.start, s.end, s.text) for s in span.spans["part"]] == [(3, 10, "love it")]


def test_it_is_saved_loaded_and_exported_as_any_proxy(tiny_cuckoo, tmp_path):
    proxy = Proxy.zero_shot(plan_of(LIKED, OTHER), base=tiny_cuckoo)
    here = proxy.answers([*TEXTS, *HARD_TEXTS])
    proxy.save(tmp_path / "p")
    assert Proxy.load(tmp_path / "p").answers([*TEXTS, *HARD_TEXTS]) == here
    proxy.export()
    loaded = Proxy.load(tmp_path / "p")
    assert loaded.session.name == "onnx"
    assert [offsets(a) for a in loaded.answers([*TEXTS, *HARD_TEXTS])] == [offsets(a) for a in here]
    assert loaded.get_span(["We love it"], "A new one?")[0][0].text == "love it"


def test_a_proxy_is_trained_on_its_encoder_as_on_any(random_cuckoo):
    proxy = train_proxy(
        PLAN, annotations(reviews(24)), base=random_cuckoo, settings=TrainSettings(epochs=30, learning_rate=5e-3)
    )
    assert [r.labels["positive"].value for r in proxy.run(TEXTS)] == [is_positive(t) for t in TEXTS]


def mined(plan, base, rows, folder, **train):
    """A corpus mined with a checkpoint as the base; ``rows`` are its annotations."""
    write_lines(folder / "labels.jsonl", rows)
    (folder / "corpus.txt").write_text("\n".join(TEXTS))
    settings = MineSettings(base=base, train=TrainSettings(**train))
    falconer = Falconer(annotations=folder / "labels.jsonl", home=folder / "home", settings=settings)
    return falconer.mine(plan.instruction, folder / "corpus.txt", plan=plan)


def test_mining_with_labels_trains_on_a_checkpoint_that_knows_none(tiny_cuckoo, tmp_path):
    result = mined(PLAN, tiny_cuckoo, map(annotation_row, reviews(40)), tmp_path, epochs=2)
    assert set(result.quality.steps) == {"positive", "price"}


def test_mining_keeps_the_checkpoint_where_training_makes_it_worse(tiny_cuckoo, tmp_path):
    rows = [{"text": text, "spans": {"liked": loved(text)}} for text in reviews(40)]
    result = mined(plan_of(LIKED), tiny_cuckoo, rows, tmp_path, epochs=1, learning_rate=0.5)
    assert "training made the proxy worse" in " ".join(result.summary.messages)
    assert result.quality.agreement.value == 1
    for row in result.rows():
        assert [(s["start"], s["end"]) for s in row["spans"]["liked"]] == loved(row["text"])


def test_labels_are_refused(tiny_cuckoo):
    with pytest.raises(ProxyError, match=r"step 'positive' asks for a label.*name another base"):
        Proxy.zero_shot(PLAN, base=tiny_cuckoo)
    proxy = Proxy.zero_shot(plan_of(LIKED), base=tiny_cuckoo)
    with pytest.raises(ProxyError, match="finds spans only"):
        proxy.get_label(["x"], "Is it good?")


def test_a_question_too_long_to_read_with_a_text_is_refused(tiny_cuckoo):
    proxy = Proxy.zero_shot(plan_of(LIKED), base=tiny_cuckoo)
    with pytest.raises(ProxyError, match="fewer words"):
        proxy.get_span(["x"], "What else? " * 200)


def test_a_tagger_with_other_labels_is_not_a_cuckoo_checkpoint(tiny_cuckoo, tmp_path):
    folder = Path(shutil.copytree(tiny_cuckoo, tmp_path / "ner"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}}))
    assert isinstance(Proxy.zero_shot(PLAN, base=str(folder)).run(["x"])[0].labels["positive"].value, bool)
