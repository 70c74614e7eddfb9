"""Words: what belongs together comes out whole, at exact offsets, and nothing else joins."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import langchain_falconer.model
from langchain_falconer.model.tokenization import Tokenizer, WindowSplitter

TOKENIZER = Tokenizer.read(Path(langchain_falconer.model.__file__).parent / "falconer-small")


def words(text, max_tokens=512):
    windows = WindowSplitter(TOKENIZER, max_tokens)([text])
    return [text[a:b] for w in windows for a, b in zip(w.starts, w.ends, strict=True)]


WHOLE = [
    *("$1,299.00", "1.299,50", "1,00,000", "US$5.50", "-$3", "5€", "$.99", "12.5%", "+1-202-555-0143", ".5"),
    *("12/03/2024", "2024-03-12", "2024-03-12T10:30:00Z", "10:30", "4/5", "v2.5.1", "10.0.0.1"),
    *("O'Brien", "D’Angelo", "AT&T", "R&D", "H&M", "J.R.R", "COVID-19", "user_name"),
    *("jo.smith@my-site.co.uk", "https://a.b/c?d=1&e=2", "www.example.org", "example.com"),
]


@pytest.mark.parametrize("word", WHOLE)
def test_what_belongs_together_is_one_word(word):
    for text in (word, f"it is {word}, or ({word}).", f"“{word}” and {word}; {word}"):
        assert words(text).count(word) == text.count(word)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("red,green", ["red", ",", "green"]),
        ("the end.Next sentence", ["the", "end", ".", "Next", "sentence"]),
        ("5-10", ["5", "-", "10"]),
        ("[1,2] 1,2,3", ["[", "1", ",", "2", "]", "1", ",", "2", ",", "3"]),
        ("Smad1/5/8", ["Smad1", "/", "5", "/", "8"]),
        ("John's well-known and/or I'll", ["John", "'", "s", "well", "-", "known", "and", "/", "or", "I", "'", "ll"]),
        ("IL-2-induced", ["IL-2", "-", "induced"]),
        ("It ended. 5 came", ["It", "ended", ".", "5", "came"]),
        ("价格是$1,299.00元", ["价", "格", "是", "$1,299.00", "元"]),
    ],
)
def test_what_does_not_belong_together_stays_apart(text, parts):
    assert words(text) == parts


TEXT = st.text(st.sampled_from("aBz9 10.,:/'’&_@#%+-$€([)]\n#wwé東のไ😀\u0301"), max_size=80)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_words_are_pieces_of_the_text_in_order(text):
    (window,) = WindowSplitter(TOKENIZER, 512)([text])
    spans = list(zip(window.starts.tolist(), window.ends.tolist(), strict=True))
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(not any(char.isspace() for char in text[a:b]) for a, b in spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WHOLE), st.integers(8, 40))
def test_a_word_at_the_cut_of_a_window_is_whole_in_one_of_them(word, before):
    text = f"{'a ' * before}{word}{' b' * 60}"
    assert word in words(text, max_tokens=128)


@pytest.mark.parametrize("unit", ["1", "1,", "1-", "a@", "http://", "a.", "$", "x", "11,", "A-1", "東"])
def test_the_time_is_linear_in_the_length_of_a_text(unit):
    assert words(unit * (200_000 // len(unit)))  # quadratic, it would run into the time limit of the suite
