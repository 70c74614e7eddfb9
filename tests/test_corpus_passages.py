"""Passages: complete, without overlap, within the limit, cut at natural boundaries."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_falconer.corpus import overlapping, split_passages
from langchain_falconer.errors import CorpusError

awkward = st.text(st.sampled_from("ab .!?\n\t。é\u0301\u200d\u2029\ud83d\ude00🎉🏽"), max_size=300)


@given(st.text(max_size=400) | awkward, st.integers(1, 60))
@settings(deadline=None)
def test_passages_cover_every_character_once_within_the_limit(text: str, limit: int) -> None:
    passages = split_passages(text, limit)
    if len(text) <= limit:
        assert passages == [(0, len(text))]
        return
    edges = [0, *(edge for passage in passages for edge in passage), len(text)]
    assert edges == sorted(edges)
    assert all(0 < end - start <= limit for start, end in passages)
    gaps = [text[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2)]
    assert not "".join(gaps).strip()
    assert all(not text[start].isspace() and not text[end - 1].isspace() for start, end in passages)


@given(st.integers(2, 40), st.integers(1, 400))
@settings(deadline=None)
def test_lengths_are_balanced(limit: int, length: int) -> None:
    sizes = [end - start for start, end in split_passages("x" * length, limit)]
    assert len(sizes) == -(-length // limit)
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.sampled_from(["e\u0301", "👍🏽", "👩\u200d🚀", "\ud83d\ude00", "z"]), min_size=1, max_size=80))
@settings(deadline=None)
def test_clusters_stay_together(clusters: list[str]) -> None:
    text = "".join(clusters)
    starts = set()
    offset = 0
    for cluster in clusters:
        starts.add(offset)
        offset += len(cluster)
    assert all(start in starts for start, _ in split_passages(text, 16))


def test_cuts_prefer_paragraphs_then_sentences_then_lines_then_words() -> None:
    def parts(text: str, limit: int) -> list[str]:
        return [text[start:end] for start, end in split_passages(text, limit)]

    assert parts("One two. Three\nfour.\n\nFive six. Seven eight nine", 40) == [
        "One two. Three\nfour.",
        "Five six. Seven eight nine",
    ]
    assert parts('He said "one two." And three\nfour five six', 30) == [
        'He said "one two."',
        "And three\nfour five six",
    ]
    assert parts("one two three\nfour five six", 20) == ["one two three", "four five six"]
    assert parts("one two three four", 10) == ["one two", "three four"]
    assert parts("今天很好。明天也很好。", 8) == ["今天很好。", "明天也很好。"]


def test_the_last_passage_is_not_tiny() -> None:
    text = "word " * 241
    sizes = [end - start for start, end in split_passages(text.strip(), 1200)]
    assert len(sizes) == 2
    assert min(sizes) > 500


def test_long_blanks_and_texts_without_any() -> None:
    assert split_passages(" " * 5000) == []
    assert split_passages(" " * 5000 + "x") == [(5000, 5001)]
    assert split_passages("", 5) == [(0, 0)]
    assert len(split_passages("x" * 1_000_000, 1000)) == 1000
    assert len(split_passages("e" + "\u0301" * 10_000, 100)) == 101


def test_a_passage_must_hold_something() -> None:
    with pytest.raises(CorpusError, match="at least 1"):
        split_passages("x", 0)


@given(st.text(st.sampled_from("ab .!?\n"), max_size=400), st.integers(20, 60), st.integers(2, 12))
@settings(deadline=None)
def test_what_straddles_a_cut_lies_whole_in_a_passage(text: str, limit: int, reach: int) -> None:
    passages = split_passages(text, limit)
    seen = overlapping(text, passages, reach)
    assert [end for _, end in seen] == [end for _, end in passages]
    assert all(0 <= at - earlier <= reach + limit for (earlier, _), (at, _) in zip(seen, passages, strict=True))
    words = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
    for start, _ in words:
        for _, end in words:
            if passages and 0 < end - start <= reach / 2 and start >= passages[0][0]:
                assert any(a <= start and end <= b for a, b in seen)


def test_an_overlap_begins_with_a_sentence_where_one_is_near() -> None:
    text = "One two three. Four five six seven eight nine ten. Eleven twelve thirteen fourteen."
    passages = split_passages(text, 60)
    assert [text[a:b] for a, b in overlapping(text, passages, 40)][1].startswith("Four five")
    assert [text[a:b] for a, b in overlapping(text, passages, 20)][1].startswith("eight nine")
    assert overlapping(text, [(0, 5)], 40) == [(0, 5)]
    assert overlapping(text, [], 40) == []
