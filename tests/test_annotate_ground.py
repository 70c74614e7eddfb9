"""Grounding: quotes are located letter by letter or rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_falconer.annotate import ground


def offsets(text, *quotes):
    return [(span.start, span.end) for span in ground(text, quotes).spans]


@pytest.mark.parametrize(
    ("text", "quotes", "expected"),
    [
        ("The fish and the fish.", ["fish", "fish"], [(4, 8), (17, 21)]),
        ("only fish here", ["fish", "fish"], [(5, 9)]),
        ("a cart of art", ["art"], [(10, 13)]),
        ("a cart", ["art"], [(3, 6)]),
        ("b then a then b", ["a", "b"], [(7, 8), (14, 15)]),
        ("b then a", ["a", "b"], [(0, 1), (7, 8)]),
        ("new york city", ["new york city", "york"], [(0, 13)]),
        ("for $999 or $99", ["$99"], [(12, 15)]),
        ("for $999", ["$99"], []),
        ("for $1,999", ["$1"], []),
        ("for $1,999", ["999"], []),
        ("for 3.5 kg", ["3"], []),
        ("for 3.5 kg", ["5 kg"], []),
        ("items 1,2 and 3.", ["2", "3"], [(8, 9), (14, 15)]),
        ("in 1990.", ["1990"], [(3, 7)]),
        ("東京大学は東京にある", ["東京", "東京"], [(0, 2), (5, 7)]),
        ("ราคาถูกมาก", ["ถูก"], [(4, 7)]),
        ("good 👩‍👩‍👧 and 👩", ["👩"], [(15, 16)]),
        ("cafe\u0301 and cafe", ["cafe"], [(10, 14)]),
        ("cafe\u0301", ["café"], []),
        ("one\r\ntwo", ["one\r\ntwo"], [(0, 8)]),
        ("one\r\ntwo", ["one\ntwo"], []),
        ("Fish", ["fish"], []),
        ("  padded  ", [" padded\n"], [(2, 8)]),
    ],
)
def test_offsets_of_quotes(text, quotes, expected):
    assert offsets(text, *quotes) == expected


def test_blank_and_absent_quotes_are_rejected_as_they_were_written():
    grounding = ground("some text", ["", " \t", "text", "texts", " text "])
    assert [span.text for span in grounding.spans] == ["text"]
    assert grounding.rejected == ("", " \t", "texts", " text ")


PIECES = st.sampled_from(
    ["a", "b", "ab", " ", "9", "$9", ".", ",", "é", "e\u0301", "👩‍👧", "🇩🇪", "\r\n", "東", "\u202e", "ß"]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)


@given(st.data())
def test_spans_hold_their_quotes_and_never_overlap(data):
    text = data.draw(TEXTS)
    quotes = data.draw(st.lists(st.one_of(TEXTS, st.text(max_size=3)), max_size=6))
    bounds = st.integers(0, len(text))
    quotes += [text[i:j] for i, j in data.draw(st.lists(st.tuples(bounds, bounds), max_size=6))]
    grounding = ground(text, quotes)
    assert all(text[span.start : span.end] == span.text for span in grounding.spans)
    assert all(one.end <= other.start for one, other in zip(grounding.spans, grounding.spans[1:], strict=False))
    located = sorted(span.text for span in grounding.spans)
    assert sorted([*located, *(q.strip() for q in grounding.rejected)]) == sorted(q.strip() for q in quotes)


@given(st.lists(st.sampled_from(["fish", "rice", "soup", "tea"]), min_size=1, max_size=12))
def test_every_word_of_a_text_quoted_in_order_has_its_own_offsets(words):
    assert [span.text for span in ground(", ".join(words), words).spans] == words


def test_thousands_of_quotes_of_a_long_text():
    text = "ab " * 40_000
    grounding = ground(text, ["ab"] * 5_000 + ["b"] * 5_000 + ["zz"] * 5_000)
    assert len(grounding.spans) == 10_000
    assert grounding.rejected == ("zz",) * 5_000
