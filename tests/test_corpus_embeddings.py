"""Embeddings of passages on disk, and exact search among those of one corpus."""

from __future__ import annotations

import numpy as np
import pytest
from embedded import WIDTH, Encoder, index_of, words

from langchain_falconer.annotate import retrieve
from langchain_falconer.corpus import EmbeddingStore, KeyCollector, PassageIndex
from langchain_falconer.errors import CorpusError


def test_each_distinct_passage_is_embedded_once_whatever_corpus_it_is_in(tmp_path):
    encoder = Encoder()
    old = words(100) * 2
    assert len(index_of(old, tmp_path, encoder).build()) == 100
    grown = index_of([*words(30, "new"), *old], tmp_path, encoder).build()
    assert len(grown) == 130
    assert sorted(encoder.texts) == sorted([*words(100), *words(30, "new")])
    assert retrieve(grown, ["new 7"], 1) == ["new 7"]
    index_of(old, tmp_path, encoder).build()
    assert len(encoder.texts) == 131  # the query


def test_a_build_that_was_killed_goes_on_where_it_was(tmp_path):
    texts, encoder = words(6_000), Encoder()
    encoder.dies_after = 4_000
    with pytest.raises(KeyboardInterrupt):
        index_of(texts, tmp_path, encoder).build()
    for name in ("keys.u64", "vectors.f16"):  # a process that was killed while it wrote
        with (tmp_path / name).open("ab") as file:
            file.write(b"\x01\x02\x03")
    encoder.dies_after = None
    before, done = len(encoder.texts), []
    index = index_of(texts, tmp_path, encoder).build(lambda n, total: done.append((n, total)))
    assert len(encoder.texts) == 6_000
    assert done[-1] == (6_000 - before, 6_000 - before)
    everywhere = index_of(texts, tmp_path / "other", Encoder()).build()
    rows = range(0, 6_000, 97)
    assert np.array_equal(index.vectors(rows), everywhere.vectors(rows))
    assert index.texts(rows) == everywhere.texts(rows)


def test_search_is_exact_across_blocks_and_leaves_out_rows(tmp_path):
    texts, encoder = words(20_000), Encoder()
    index = index_of(texts, tmp_path, encoder).build()
    vectors = index.vectors(range(len(index)))
    queries = encoder(["word 5", "other"])
    scores, rows = index.top(lambda v: v @ queries.T, 20, exclude=[3, 7])
    similarity = queries @ vectors.T
    similarity[:, [3, 7]] = -np.inf
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :20]
    assert np.allclose(scores, np.take_along_axis(similarity, expected, 1), atol=1e-6)
    assert np.allclose(np.take_along_axis(similarity, rows, 1), scores, atol=1e-6)
    assert index.texts(rows[0][:1]) == ["word 5"]


def test_what_is_retrieved_is_near_the_queries_in_turn_without_near_duplicates(tmp_path):
    texts = [*words(50, "cat"), *words(50, "dog"), *words(500, "rain"), *words(9, "exactly-alike")]
    encoder = Encoder()
    index = index_of(texts, tmp_path, encoder).build()
    found = retrieve(index, ["cat", "dog"], 20)
    assert sorted(text.split()[0] for text in found) == ["cat"] * 10 + ["dog"] * 10
    assert not set(retrieve(index, ["cat", "dog"], 20, exclude=found)) & set(found)
    assert retrieve(index, [], 5) == retrieve(index, ["cat"], 0) == []
    assert len(retrieve(index, ["cat"], 10_000)) == len(texts)
    copies = index_of(texts, tmp_path / "copies", lambda own: encoder([text.split()[0] for text in own])).build()
    assert len(retrieve(copies, ["cat", "dog"], 20)) <= 4


def test_of_a_huge_corpus_a_uniform_part_is_indexed_and_what_was_in_it_stays(tmp_path):
    small, large = KeyCollector(500), KeyCollector(500)
    list(small.watch(words(3_000)))
    list(large.watch(words(40_000) + words(2_000)))
    assert len(small.keys()) == len(large.keys()) == 500
    assert small.is_sample
    assert large.is_sample
    numbers = {text: i for i, text in enumerate(words(40_000))}
    index = PassageIndex(lambda: words(40_000), large.keys(), EmbeddingStore(tmp_path, WIDTH), Encoder()).build()
    drawn = np.array([numbers[text] for text in index.texts(range(500))])
    assert 17_000 < drawn.mean() < 23_000  # 20,000 give or take 5 standard errors
    assert set(large.keys()[large.keys() <= small.keys()[-1]]) >= set(np.intersect1d(large.keys(), small.keys()))
    exact = KeyCollector(3_000)
    list(exact.watch(words(3_000) * 2))
    assert not exact.is_sample
    assert len(exact.keys()) == 3_000


def test_a_corpus_that_changes_meanwhile_is_refused(tmp_path):
    texts = words(100)
    index = index_of(list(texts), tmp_path, Encoder())
    with pytest.raises(CorpusError, match="changed"):
        PassageIndex(lambda: texts[:50], index.keys, index.store, index.embed).build()
    index.build()
    with pytest.raises(CorpusError, match="changed"):
        PassageIndex(lambda: texts[:50], index.keys, index.store, index.embed).texts(range(100))
