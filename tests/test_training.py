"""The course of a training: frozen layers, batches in parts, long texts, a limit of time."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from laptops import PLAN, annotations, reviews

from langchain_falconer.annotate import Annotation
from langchain_falconer.errors import ProxyError
from langchain_falconer.model.encoder import load_tokenizer
from langchain_falconer.model.examples import Example, examples_of
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.metamodel import load_model
from langchain_falconer.model.sessions import HeadWeights
from langchain_falconer.model.tokenization import Window, WindowSplitter
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import fit_linear_heads, train_proxy, trainer
from langchain_falconer.train.frozen import LowerLayers
from langchain_falconer.train.loop import TrainingSet, features_of
from langchain_falconer.train.losses import Feature, Totals, loss_of
from langchain_falconer.train.probing import probe_heads
from langchain_falconer.train.schedule import Course, Schedule

CPU = torch.device("cpu")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def states_of(base: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_model(base).state_dict().items()}


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_layers_stay_as_they_are_and_the_others_learn(frozen, tiny_bert):
    proxy = train_proxy(
        PLAN, annotations(reviews(12)), base=tiny_bert, settings=TrainSettings(epochs=2, frozen_layers=frozen)
    )
    before, after = states_of(tiny_bert), proxy.network.module.state_dict()
    names = [f"encoder.encoder.layer.{i}.output.dense.weight" for i in (0, 1)]
    same = [torch.equal(before[name], after[name]) for name in names]
    assert same == [i < frozen for i in (0, 1)]


def test_the_part_above_frozen_layers_scores_as_the_whole_network(tiny_bert):
    model, tokenizer = load_model(tiny_bert), load_tokenizer(tiny_bert)
    windows = WindowSplitter(tokenizer, 64)(reviews(5))
    heads = [torch.randn(3, 32), torch.zeros(3), torch.randn(2, 32), torch.zeros(2)]
    whole, lower = (LowerLayers(model, frozen, tokenizer.pad_id, CPU) for frozen in (0, 1))
    with torch.no_grad():
        expected = whole.trained_part(model)(*whole.inputs(windows), *heads)
        for _ in range(2):  # computed, then held
            scores = lower.trained_part(model)(*lower.inputs(windows), *heads)
            words = whole.inputs(windows)[1].bool()
            torch.testing.assert_close(scores[0][words], expected[0][words], atol=0.1, rtol=0.02)  # bf16 and float16
            torch.testing.assert_close(scores[1], expected[1], atol=0.2, rtol=0.02)


def test_more_layers_than_there_are_cannot_be_frozen(tiny_bert, tiny_modernbert):
    for base, most in ((tiny_bert, 1), (tiny_modernbert, 0)):
        with pytest.raises(ProxyError, match=f"at most {most}"):
            train_proxy(PLAN, annotations(reviews(4)), base=base, settings=TrainSettings(frozen_layers=2))


def test_the_losses_of_parts_add_up_to_that_of_the_batch(tiny_bert):
    texts = reviews(6)
    labels_of = [{"positive": True}, {"positive": False}, {"positive": True}, {"positive": True}, {}, {}]
    spans_of = [{}, {}, *[{"price": [(0, 5)]}] * 4]
    examples = [Example(*one) for one in zip(texts, labels_of, spans_of, strict=True)]
    batch = features_of(WindowSplitter(load_tokenizer(tiny_bert), 64), examples)
    index = HeadIndex.of(PLAN)
    length = max(len(item.window.ids) for item in batch)
    spans, labels = torch.randn(6, length, 3), torch.randn(6, 1)
    totals = Totals.of(batch)
    parts = [loss_of(spans[s], labels[s], index, batch[s], totals) for s in (slice(0, 2), slice(2, 5), slice(5, 6))]
    torch.testing.assert_close(sum(parts), loss_of(spans, labels, index, batch))


def test_an_epoch_holds_some_passages_of_a_long_text_with_spans_first(tiny_bert):
    splitter = WindowSplitter(load_tokenizer(tiny_bert), 64)
    long = [Example(f"passage {i}", {}, {"price": [(0, 3)] if i < 5 else []}) for i in range(30)]
    short = [Example("short", {}, {"price": []})]
    dataset = TrainingSet([features_of(splitter, own) for own in (long, short)])
    seen: set[str] = set()
    for seed in range(200):
        texts = [item.example.text for item in dataset.epoch(random.Random(seed))]
        assert texts.count("short") == 1
        numbers = [int(text.split()[1]) for text in texts if text != "short"]
        assert len(numbers) == len(set(numbers)) == 6
        assert sum(n < 5 for n in numbers) == 4
        seen |= set(texts)
    assert len(seen) == 31
    assert dataset.size == 7


def rates(schedule: Schedule, clock: Clock, seconds: float) -> Iterator[float]:
    while schedule.done < schedule.total:
        yield schedule.rate
        clock.now += seconds
        schedule.advance()


def test_without_a_limit_the_rate_rises_and_falls_to_zero():
    clock = Clock()
    schedule = Schedule(20, 0.1, None, clock)
    all_rates = list(rates(schedule, clock, 1000.0))
    assert len(all_rates) == 20
    assert max(all_rates) == all_rates[1] == 1.0
    assert all_rates[2:] == sorted(all_rates[2:], reverse=True)
    assert schedule.rate == 0.0


def test_a_limit_of_time_leaves_fewer_steps_and_the_rate_still_ends_at_zero():
    clock = Clock()
    schedule = Schedule(100, 0.1, 50.0, clock)
    all_rates = list(rates(schedule, clock, 1.0))
    assert 48 <= len(all_rates) <= 50
    assert clock.now <= 50
    assert all_rates[-1] < 0.05
    assert schedule.rate == 0.0
    assert schedule.share == pytest.approx(0.5, abs=0.02)


def test_a_second_network_is_trained_if_there_is_time_for_half_of_it():
    def total(minutes: float) -> tuple[int, bool]:
        clock, reports = Clock(), []
        settings = TrainSettings(max_minutes=minutes)
        course = Course([60, 100], settings, lambda done, total, loss: reports.append((done, total)), clock)
        schedule = course.begin()
        while schedule.done < schedule.total:
            clock.now += 1.0
            schedule.advance()
            course.report(0.0)
        assert [done for done, _ in reports] == list(range(1, schedule.done + 1))
        return reports[-1][1], course.has_time

    assert total(10) == (160, True)
    assert total(2) == (120, True)
    assert total(1.5) == (60, False)
    assert total(0.5) == (30, False)


def test_training_ends_when_its_time_is_over_and_says_what_it_left_out(tiny_bert):
    steps = []
    proxy = train_proxy(
        PLAN,
        annotations(reviews(12)),
        base=tiny_bert,
        unlabelled=reviews(12, start=50),
        settings=TrainSettings(max_minutes=1e-9),
        on_step=lambda done, total, loss: steps.append((done, total)),
    )
    assert steps == [(1, 1)]
    assert proxy.manifest["training"]["planned"] == [pytest.approx(1 / 30, abs=1e-3), 0.0]


def test_the_head_of_a_label_step_is_fitted_to_annotations_only_as_far_as_they_agree_with_the_texts():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(60, 32, generator=generator)
    vectors[:, 0] *= 5
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    mood = {"id": "mood", "op": "get_label", "instruction": "Which mood?", "labels": ["good", "bad"]}
    index = HeadIndex.of(Plan.parse({"instruction": "x", "steps": [mood]}))
    words = HeadWeights(*(torch.zeros(shape).numpy() for shape in ((0, 32), (0,), (2, 32), (2,))))
    none = torch.zeros(0).numpy()

    def probe(is_good):
        labels = [{"mood": "good" if good else "bad"} for good in is_good]
        features = [Feature(Window(i, [], none, none, none), Example(str(i), own, {})) for i, own in enumerate(labels)]
        return probe_heads(index, features, lambda own: vectors[[f.window.text for f in own]], words, 0)["mood"]

    by_vector = probe((vectors[:, 0] > 0).tolist())
    at_random = probe((torch.rand(60, generator=generator) > 0.5).tolist())
    assert by_vector.loss < math.log(2) - 0.1 < at_random.loss <= math.log(2) + 1e-5
    assert (by_vector.weight[0] - by_vector.weight[1]).argmax() == 0
    assert at_random.weight.norm() < by_vector.weight.norm()


def test_a_label_that_is_uncertain_pulls_less_than_one_that_is_certain():
    step = {"id": "mood", "op": "get_label", "instruction": "Which mood?", "labels": ["good", "bad", "none"]}
    index = HeadIndex.of(Plan.parse({"instruction": "x", "steps": [step]}))
    none = torch.zeros(0).numpy()

    def slopes(score):
        (example,) = examples_of(
            Plan.parse({"instruction": "x", "steps": [step]}),
            [Annotation("fine", Answers({"mood": Label("good", score)}), "llm")],
            1_000,
        )
        scores = torch.zeros(1, 3, requires_grad=True)
        loss_of(torch.zeros(1, 1, 0), scores, index, [Feature(Window(0, [], none, none, none), example)]).backward()
        return scores.grad[0]

    certain, doubtful = slopes(1.0), slopes(0.6)
    torch.testing.assert_close(certain, torch.tensor([1 / 3 - 1, 1 / 3, 1 / 3]))
    torch.testing.assert_close(doubtful, torch.tensor([1 / 3 - 0.6, 1 / 3 - 0.2, 1 / 3 - 0.2]))


def test_for_labels_a_pretrained_network_goes_half_the_way_from_a_linear_head(proxy_folder, monkeypatch):
    plan = Plan(instruction="Is it good?", steps=(PLAN["positive"],))
    known = [replace(a, answers=Answers(a.answers.labels)) for a in annotations(reviews(12))]

    def weights() -> list[torch.Tensor]:
        proxy = train_proxy(plan, known, base=str(proxy_folder), settings=TrainSettings(epochs=2))
        heads = [torch.from_numpy(array) for array in proxy.heads.arrays().values()]
        return [p.detach() for p in proxy.network.module.parameters()] + heads

    part = weights()
    monkeypatch.setattr(trainer, "_RETAINED", 0.0)
    whole = weights()
    linear = fit_linear_heads(plan, known, base=str(proxy_folder))
    before = [p.detach() for p in linear.network.module.parameters()]
    before += [torch.from_numpy(array) for array in linear.heads.arrays().values()]
    assert any(not torch.equal(one, other) for one, other in zip(before, whole, strict=True))
    for start, end, way in zip(before, whole, part, strict=True):
        torch.testing.assert_close(way, start + 0.5 * (end - start), atol=1e-5, rtol=1e-4)
