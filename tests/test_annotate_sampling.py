"""Sampling of texts to annotate, with real vectors and FAISS."""

import json
from collections import Counter

import numpy as np
import pytest

from langchain_falconer.annotate import Annotation, choose
from langchain_falconer.annotate.splits import Passages, sample_annotated
from langchain_falconer.corpus import open_corpus_files
from langchain_falconer.records import Answers, Label
from langchain_falconer.settings import MineSettings


def unit(array):
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pool():
    """300 texts: 90 copies of one, and 210 around ten centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 32))
    copies = np.repeat(rng.normal(size=(1, 32)), 90, axis=0) + rng.normal(size=(90, 32)) * 0.01
    common = centres[np.arange(210) % 10] + rng.normal(size=(210, 32)) * 0.5
    return [f"text {i}" for i in range(300)], unit(np.vstack([copies, common]))


def test_chosen_texts_are_unlike_each_other(pool):
    texts, vectors = pool
    chosen = choose(texts, 40, 7, vectors)
    assert len(chosen) == len(set(chosen)) == 40
    assert sum(i < 90 for i in chosen) <= 1
    assert {i % 10 for i in chosen if i >= 90} == set(range(10))


def test_equal_seeds_give_equal_choices(pool):
    texts, vectors = pool
    first = choose(texts, 30, 1, vectors)
    assert first == choose(texts, 30, 1, vectors)
    assert first != choose(texts, 30, 2, vectors)


def test_near_duplicates_are_used_only_when_nothing_else_remains(pool):
    texts, vectors = pool
    chosen = choose(texts[:110], 40, 1, vectors[:110])
    assert len(chosen) == 40
    assert set(range(90, 110)) <= set(chosen)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 299, 300, 1000])
def test_any_number(pool, n):
    texts, vectors = pool
    assert len(set(choose(texts, n, 0, vectors))) == min(n, 300)


@pytest.mark.parametrize("seed", range(5))
def test_a_persons_annotations_are_held_out_in_proportion_to_their_answers(seed, tmp_path):
    values = ["often"] * 85 + ["seldom"] * 10 + ["rare"] * 5
    annotations = [Annotation(f"text {i}", Answers({"how": Label(v)}), "human") for i, v in enumerate(values)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(150)))
    passages = Passages(open_corpus_files([str(corpus)]), 1_200, lambda n: None)
    sample = sample_annotated(annotations, passages, MineSettings(seed=seed))
    parts = [Counter(values[int(text.split()[1])] for text in part) for part in (sample.development, sample.test)]
    assert [sum(part.values()) for part in parts] == [10, 20]
    assert all(8 * n <= part["often"] <= 9 * n for n, part in enumerate(parts, start=1))
    assert all(part["seldom"] == n for n, part in enumerate(parts, start=1))
    assert 1 <= sum(part["rare"] for part in parts) <= 2
    assert len({*sample.train, *sample.held_out}) == len(sample.train) + 30 == 100
    assert not {*sample.pool} & {*sample.train, *sample.held_out}


def test_any_of_a_persons_annotations_may_be_held_out(tmp_path):
    annotations = [Annotation(f"text {i}", Answers({"how": Label(str(i))}), "human") for i in range(10)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"text": "another"}) + "\n")
    held_out = Counter()
    for seed in range(100):
        passages = Passages(open_corpus_files([str(corpus)]), 1_200, lambda n: None)
        held_out.update(sample_annotated(annotations, passages, MineSettings(seed=seed)).held_out)
    assert len(held_out) == 10
    assert sum(held_out.values()) == 300
    assert min(held_out.values()) >= 15
