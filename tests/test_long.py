"""Long documents: what is planted anywhere is found, once, whole, and where it stands."""

import random

import numpy as np
import pytest

from langchain_falconer.model import Proxy
from langchain_falconer.plan import Plan

PLAN = Plan.parse(
    {
        "instruction": "Extract the love",
        "steps": [
            {"id": "loved", "op": "get_label", "instruction": "Is anything loved?"},
            {"id": "kind", "op": "get_label", "instruction": "What is it?", "labels": ["works", "broke"]},
            {"id": "what", "op": "get_span", "instruction": "Extract what is loved"},
            {"id": "good", "op": "get_label", "instruction": "Is it good?", "of": "what"},
        ],
    }
)
ENTITY = "love this laptop"
SENTENCES = "works and works. It broke at once! It cost me junk, it works and it broke"
FILLER = SENTENCES.split()


class Spotter:
    """Stands in for the network: marks the words of the entity, wherever it sees them."""

    name = "torch"
    n_parallel = 1
    tokens_per_batch = 1024

    def __init__(self, tokenizer):
        begin, *inside = (tokenizer.backend.token_to_id(word) for word in ENTITY.split())
        self.begin, self.inside = begin, inside

    def run(self, ids, mask, weights):
        spans = np.zeros((*ids.shape, len(weights.span_bias)), np.float32)
        spans[..., 0::3] = 3
        spans[..., 1::3] = 9 * (ids == self.begin)[..., None]
        spans[..., 2::3] = 6 * np.isin(ids, self.inside)[..., None]
        seen = (ids == self.begin).any(1, keepdims=True)
        labels = np.where(seen, 4, -4) * np.ones((1, len(weights.label_bias)))
        return spans, labels.astype(np.float32)


@pytest.fixture
def reader(tiny_bert):
    """A proxy that sees the entity's words; ``reader(chars)`` cuts passages of so many characters."""

    def make(passage_chars=1200):
        made = Proxy.zero_shot(PLAN, base=tiny_bert, passage_chars=passage_chars)
        made.set_session(Spotter(made.tokenizer))
        return made

    return make


def planted(words, places):
    """The text with the entity before the words at ``places``, and where it stands there."""
    pieces, spans, at = [], [], 0
    for i, word in enumerate(words):
        for piece in [ENTITY, word] if i in places else [word]:
            if piece is ENTITY:
                spans.append((at, at + len(piece)))
            pieces.append(piece)
            at += len(piece) + 1
    return " ".join(pieces), spans


def found(record):
    spans = record.spans["what"]
    assert all(record.text[s.start : s.end] == s.text for s in spans)
    return [(s.start, s.end) for s in spans]


def test_an_entity_is_found_at_any_position_of_a_document_of_200_000_words(reader):
    chance = random.Random(5)
    words = chance.choices(FILLER, k=200_000)
    places = {0, len(words) - 1, *chance.sample(range(len(words)), 2_000)}
    text, spans = planted(words, places)
    [record] = reader().run([text])
    assert found(record) == spans
    assert record.labels["loved"].value is True
    assert all(span.labels["good"].value is True for span in record.spans["what"])


@pytest.mark.parametrize("passage_chars", [200, 100_000], ids=["passages", "windows of tokens"])
@pytest.mark.parametrize("stops", ["", ". "], ids=["one sentence", "sentences"])
def test_an_entity_that_straddles_a_cut_is_found_whole_and_once(reader, passage_chars, stops):
    words = (f"works{stops and '.'} and it broke at once junk{stops and '.'} works cost me".split() * 70)[:620]
    made = reader(passage_chars)
    texts, spans = zip(*(planted(words, {at}) for at in range(0, len(words), 3)), strict=True)
    for record, wanted in zip(made.run(texts), spans, strict=True):
        assert found(record) == wanted


def test_the_labels_of_a_document_follow_from_its_windows(reader):
    words = FILLER * 100
    without, (with_one, _) = " ".join(words), planted(words, {700})
    no, yes = reader().run([without, with_one])
    assert no.labels["loved"].value is False
    assert yes.labels["loved"].value is True  # true of any window, true of the document
    assert yes.labels["loved"].score > 0.98
    assert no.labels["kind"].score == yes.labels["kind"].score == 0.5  # of those that exclude each other, the mean
