"""Candidates for rare answers: which texts of a corpus an LLM is asked about, by what it answered before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from embedded import WIDTH, Encoder, index_of

from langchain_falconer.annotate import Annotation
from langchain_falconer.annotate.candidates import PossibleAnswer, rare_answers
from langchain_falconer.annotate.splits import extend, pilot_texts, sample_for_llm
from langchain_falconer.corpus import Passages
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.settings import MineSettings

CORPUS = [f"topic{i % 199 if i % 200 else 'rare'} {i}" for i in range(8_000)]
"""8,000 texts on 200 topics, of which one, 'topicrare', is that of 40 texts (0.5%)."""


def is_rare(text):
    return text.startswith("topicrare")


def annotated(texts):
    return [Annotation(text, Answers({"rare": Label(is_rare(text))}), "llm") for text in texts]


def answers_from(encoder, seed):
    """The classifier of a question whose words are only somewhat near to the texts that it asks for."""
    noise = np.random.default_rng(seed).normal(size=WIDTH)
    weight = encoder(["topicrare"])[0] + noise / np.linalg.norm(noise)
    weight = (8 * weight).astype(np.float32)
    return [PossibleAnswer("rare", True, weight, -8.0), PossibleAnswer("rare", False, -weight, 8.0)]


def drawn(folder, settings):
    """Draw and annotate until nothing remains; return the sample, its parts' sizes and the index."""
    encoder = Encoder()
    index = index_of(CORPUS, folder, encoder).build()
    sample = sample_for_llm(Passages([], 1_200), CORPUS, settings)
    sizes = []
    while sample.remaining:
        possible = answers_from(encoder, settings.seed)
        sample = extend(sample, index, possible, annotated(sample.train), settings)
        sizes.append(len(sample.train))
    return sample, sizes


@pytest.mark.parametrize("seed", range(3))
def test_a_rare_answer_gets_examples_and_hard_negatives(seed, tmp_path):
    settings = MineSettings(seed=seed, annotations=150)
    sample, sizes = drawn(tmp_path, settings)
    uniform = sample_for_llm(Passages([], 1_200), CORPUS, settings.model_copy(update={"indexed": 0}))
    assert uniform.remaining == 0
    assert uniform.uniform == len(uniform.train) == len(sample.train) == len(set(sample.train)) == 105
    assert len(sizes) == 5
    assert sum(map(is_rare, uniform.train)) <= 3
    assert 20 <= sum(map(is_rare, sample.train)) <= 70
    assert sample.held_out == uniform.held_out
    assert sample.train[: sample.uniform] == uniform.train[: sample.uniform]
    assert not {*sample.held_out, *sample.pool} & {*sample.train}
    assert drawn(tmp_path, settings)[0] == sample


def test_where_no_answer_is_rare_all_is_drawn_at_once(tmp_path):
    encoder, settings = Encoder(), MineSettings(annotations=150)
    index = index_of(CORPUS, tmp_path, encoder).build()
    sample = extend(
        sample_for_llm(Passages([], 1_200), CORPUS, settings), index, answers_from(encoder, 0), [], settings
    )
    half = [Annotation(text, Answers({"rare": Label(i % 2 == 0)}), "llm") for i, text in enumerate(sample.train)]
    sample = extend(sample, index, answers_from(encoder, 0), half, settings)
    assert (len(sample.train), sample.remaining) == (105, 0)


def test_few_texts_to_learn_from_and_those_of_a_batch_are_drawn_at_once(tmp_path):
    sample, sizes = drawn(tmp_path, MineSettings(annotations=40))
    assert sizes == [28]
    assert len(sample.held_out) == 12
    batch = MineSettings.model_validate({"annotations": 150, "annotate": {"batch": True}})
    assert drawn(tmp_path, batch)[1] == [105]


@pytest.mark.parametrize(("texts", "annotations"), [(8_000, 300), (8_000, 900), (250, 300), (210, 200)])
def test_the_texts_of_a_pilot_are_uniform_ones_to_learn_from(texts, annotations):
    settings = MineSettings(annotations=annotations)
    sample = sample_for_llm(Passages([], 1_200), CORPUS[:texts], settings)
    pilot = pilot_texts(CORPUS[:texts], settings)
    assert len(pilot) == 20
    assert set(pilot) <= set(sample.train[: sample.uniform])
    assert not set(pilot) & set(sample.held_out)


def test_a_pilot_is_at_most_a_tenth_of_what_is_annotated():
    assert pilot_texts(CORPUS, MineSettings(annotations=190)) == []
    assert pilot_texts(CORPUS[:190], MineSettings(annotations=300)) == []


def test_rare_answers_are_those_of_few_uniform_texts():
    vector = np.ones(WIDTH, np.float32)
    values = {"often": 15, "seldom": 2, "never": 0}
    labels = [name for name, n in values.items() for _ in range(n)]
    uniform = [
        Annotation(str(i), Answers({"which": Label(name)}), "llm") for i, name in enumerate([*labels, *["often"] * 13])
    ]
    possible = [PossibleAnswer("which", name, vector, 0.0) for name in values]
    assert [a.value for a in rare_answers(possible, uniform, 30, 50)] == ["never", "seldom"]
    found = [Annotation(f"more {i}", Answers({"which": Label("seldom")}), "llm") for i in range(50)]
    assert [a.value for a in rare_answers(possible, [*uniform, *found], 30, 50)] == ["never"]
    assert rare_answers(possible, [], 0, 50) == []


def test_answers_are_recognised_in_annotations_of_each_kind():
    vector = np.ones(WIDTH, np.float32)
    span = Span.at("a price", 2, 7)
    answers = Answers({"yes": Label(True), "one": Label("a"), "many": Label(("a", "b"))}, {"s": (span,), "none": ()})
    cases = {("yes", True): True, ("yes", False): False, ("one", "a"): True, ("one", "b"): False, ("many", "b"): True}
    cases |= {("many", "c"): False, ("s", None): True, ("none", None): False, ("other", True): None, ("x", None): None}
    assert {key: PossibleAnswer(*key, vector, 0.0).is_in(answers) for key in cases} == cases


def test_a_classifier_moves_from_the_words_to_the_annotations():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truths = vectors[:, 0] > 0
    words = PossibleAnswer("step", True, np.zeros(WIDTH, np.float32), 0.0)
    fitted = words.fitted(vectors, truths)
    assert ((vectors @ fitted.weight + fitted.bias > 0) == truths).mean() > 0.95
    assert np.allclose(words.fitted(vectors[:0], truths[:0]).weight, 0)
    assert replace(fitted, bias=1.0).direction @ fitted.direction == pytest.approx(1)
