"""Other ways to put questions to an encoder: the same questions and the same loss, read in another way."""

from pathlib import Path
from random import Random

import pytest
import torch
from laptops import is_positive, prices, reviews

from langchain_falconer.benchmarks import _networks, architectures
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.proxy import Asked, Example, Layout, PretrainSettings, Task, autocast, pretrain

DATA = Path(__file__).parents[2] / "shared" / "data"
NAMES = ["slots", "prompt", "one-by-one"]
PRICE = SpanStep(id="price", instruction="Extract the price")
MOOD = LabelStep(id="mood", instruction="How is the review?", labels=("positive", "negative"))
LOVED = LabelStep(id="loved", instruction="Is this a positive review?")
TEXTS = reviews(12)


def network(name, base):
    torch.manual_seed(0)
    return architectures.architectures()[name](base)


def read(tokenizer):
    """Words to padded ids and their mask."""

    def tensors(texts):
        rows = [torch.tensor(ids) for ids in tokenizer.ids(texts)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_id)
        return ids, torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)

    return tensors


@pytest.fixture(scope="module")
def tokenizer(tiny_bert, tmp_path_factory):
    return pretrain(draw, (), settings_of(tiny_bert, 1), tmp_path_factory.mktemp("p"))[1]


def settings_of(base, steps):
    return PretrainSettings(base=base, steps=steps, texts=12, tasks=1, keep=0, learning_rate=2e-3)


def draw(rng: Random, size: int) -> tuple[str, Task]:
    texts = rng.sample(TEXTS, size)
    found = [[(t.index(p), t.index(p) + len(p)) for p in prices(t)] for t in texts]
    mood = [{"mood": "positive" if is_positive(t) else "negative", "loved": is_positive(t)} for t in texts]
    told = [Example(t, m, {"price": f}) for t, m, f in zip(texts, mood, found, strict=True)]
    return "reviews", Task(Layout.of([PRICE, MOOD, LOVED]), told)


def scores(model, tokenizer, steps, texts=TEXTS):
    with torch.inference_mode():
        return model.scorer(Layout.of(steps), read(tokenizer))(*read(tokenizer)(texts))


@pytest.mark.parametrize("name", NAMES)
def test_every_question_is_scored_on_every_word_and_text(name, tiny_bert, tokenizer):
    width = max(map(len, tokenizer.ids(TEXTS)))
    spans, labels = scores(network(name, tiny_bert), tokenizer, [PRICE, MOOD, LOVED])
    assert spans.shape == (12, width, 3)
    assert labels.shape == (12, 3)
    spans, labels = scores(network(name, tiny_bert), tokenizer, [MOOD])
    assert spans.shape[-1] == 0
    assert labels.shape == (12, 2)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_behind_a_text_in_its_batch_is_not_read(name, tiny_bert, tokenizer):
    model = network(name, tiny_bert)
    spans, labels = scores(model, tokenizer, [PRICE, MOOD], [TEXTS[0], TEXTS[0] + " " + TEXTS[1]])
    alone, alone_labels = scores(model, tokenizer, [PRICE, MOOD], [TEXTS[0]])
    assert torch.allclose(spans[:1, : alone.shape[1]], alone, atol=1e-4)
    assert torch.allclose(labels[:1], alone_labels, atol=1e-4)


@pytest.mark.parametrize(("name", "alone"), [("slots", True), ("prompt", False), ("one-by-one", True)])
def test_only_in_one_prompt_do_questions_see_each_other(name, alone, tiny_bert, tokenizer):
    model = network(name, tiny_bert)
    one, both = (scores(model, tokenizer, steps) for steps in ([MOOD], [MOOD, LOVED]))
    assert torch.allclose(one[1], both[1][:, :2], atol=1e-4) == alone


def test_questions_that_do_not_fit_before_a_text_are_split(tiny_bert, tokenizer):
    many = [SpanStep(id=f"s{i}", instruction=f"Extract the price of laptop {i} " * 4) for i in range(40)]
    spans, _ = scores(network("prompt", tiny_bert), tokenizer, many)
    first, _ = scores(network("prompt", tiny_bert), tokenizer, many[:2])
    assert spans.shape[-1] == 120
    assert not torch.allclose(spans[..., :3], first[..., :3], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_each_learns_a_small_task_and_answers_it(name, tiny_bert, tmp_path):
    losses: list[float] = []
    make = architectures.architectures()[name]
    settings = settings_of(tiny_bert, 40)
    told = lambda p: losses.append(p.loss["reviews"])  # noqa: E731
    model, tokenizer = pretrain(draw, (), settings, tmp_path, told, make)
    assert losses[-1] < losses[0] / 3
    asked = Asked(model, tokenizer, Plan(instruction="reviews", steps=(PRICE, MOOD, LOVED)))
    found = asked.answers(TEXTS)
    assert [a.labels["loved"].value for a in found] == [is_positive(t) for t in TEXTS]
    right = [[s.text for s in a.spans["price"]] == prices(t) for a, t in zip(found, TEXTS, strict=True)]
    assert sum(right) >= 10


@pytest.mark.parametrize("name", ["prompt", "one-by-one"])
def test_states_that_do_not_fit_into_memory_are_computed_again_for_the_same_gradients(
    name, tiny_bert, tokenizer, monkeypatch
):
    def gradient():
        model = network(name, tiny_bert)
        with autocast():
            spans, labels = model.scorer(Layout.of([PRICE, MOOD]), read(tokenizer))(*read(tokenizer)(TEXTS))
        (spans.square().mean() + labels.square().mean()).backward()
        return model.encoder.encoder.layer[0].output.dense.weight.grad

    kept = gradient()
    monkeypatch.setattr(_networks, "_MANY", 0)
    assert torch.allclose(kept, gradient(), atol=1e-5)
