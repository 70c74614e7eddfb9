"""Vector search and samples: near-duplicates, diverse rows, neighbours, uniform samples."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_falconer.corpus import diverse, near_duplicates, nearest, sample_uniform
from langchain_falconer.errors import CorpusError


def unit(rows: int, width: int = 8, seed: int = 0) -> np.ndarray:
    matrix = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@given(st.integers(0, 60), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_near_duplicates_keeps_the_first_of_each(rows: int, seed: int) -> None:
    vectors = unit(rows, 3, seed)
    mask = near_duplicates(vectors, 0.9)
    expected: list[int] = []
    for row in range(rows):
        if all(vectors[row] @ vectors[other] < 0.9 for other in expected):
            expected.append(row)
    assert np.flatnonzero(mask).tolist() == expected


def test_near_duplicates_across_blocks() -> None:
    vectors = unit(1500, 32)
    mask = near_duplicates(np.concatenate([vectors, vectors, vectors[:1].repeat(500, axis=0)]))
    assert mask.dtype == bool
    assert mask[:1500].all()
    assert not mask[1500:].any()


@given(st.integers(1, 80), st.integers(0, 90), st.integers(-5, 2**40), st.booleans())
@settings(max_examples=25, deadline=None)
def test_diverse_gives_distinct_rows_the_same_each_time(rows: int, k: int, seed: int, same: bool) -> None:
    vectors = unit(1).repeat(rows, axis=0) if same else unit(rows)
    chosen = diverse(vectors, k, seed)
    assert len(chosen) == len(set(chosen)) == min(k, rows)
    assert all(0 <= row < rows for row in chosen)
    assert chosen == diverse(vectors, k, seed)


def test_diverse_takes_one_of_each_cluster_largest_first() -> None:
    centres = np.eye(4, 8, dtype=np.float32)
    sizes = (10, 40, 20, 30)
    vectors = np.concatenate(
        [centre + 0.05 * unit(size, seed=size) for centre, size in zip(centres, sizes, strict=True)]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = np.repeat(np.arange(4), sizes)
    assert [owner[row] for row in diverse(vectors, 4, seed=3)] == [1, 3, 2, 0]


def test_nearest_is_exact() -> None:
    queries, vectors = unit(7, seed=1), unit(50)
    scores, rows = nearest(queries, vectors, 5)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :5]
    assert (rows == expected).all()
    assert np.allclose(scores, np.take_along_axis(queries @ vectors.T, expected, 1), atol=1e-6)
    assert nearest(queries, vectors[:2], 5)[1].shape == (7, 2)
    assert nearest(queries, vectors[:0], 5)[1].shape == (7, 0)


def test_invalid_vectors_are_refused() -> None:
    for wrong in (np.zeros(3), np.full((2, 2), np.nan), np.zeros((2, 0))):
        with pytest.raises(CorpusError, match="finite"):
            near_duplicates(wrong)
    with pytest.raises(CorpusError, match="one model"):
        nearest(unit(1, 3), unit(1, 4), 1)


@given(st.lists(st.text(max_size=4), max_size=60), st.integers(0, 12), st.integers(-(2**60), 2**60), st.randoms())
@settings(deadline=None)
def test_a_sample_does_not_depend_on_order_or_repeats(texts: list[str], n: int, seed: int, random: object) -> None:
    sample = sample_uniform(texts, n, seed, str)
    assert len(sample) == len(set(sample)) == min(n, len(set(texts)))
    assert set(sample) <= set(texts)
    shuffled = texts * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sample_uniform(iter(shuffled), n, seed, str) == sample
    assert sample_uniform(texts, n + 3, seed, str)[:n] == sample


def test_a_sample_is_uniform_and_depends_on_the_seed() -> None:
    counts = Counter(text for seed in range(2000) for text in sample_uniform("abcdefghij", 3, seed, str))
    assert all(abs(count - 600) < 120 for count in counts.values())  # 120 is over 5 standard deviations
    assert len(counts) == 10


def test_the_first_of_items_with_one_text_is_taken() -> None:
    items = [(0, "a"), (1, "a"), (2, "b"), (3, "b")]
    assert sorted(sample_uniform(items, 2, 0, lambda item: item[1])) == [(0, "a"), (2, "b")]
