"""Later rounds of annotation: which texts, what more of them are forecast to gain, and why they end."""

import json
import zlib

import numpy as np
import pytest
from laptops import INSTRUCTION, asked, is_planning, reviews, teacher, write_corpus, write_lines
from loopback import ChatServer, llm_at
from rich.console import Console

from langchain_falconer import Falconer, Plan
from langchain_falconer.annotate import choose_doubtful, next_round
from langchain_falconer.annotate.splits import Sample
from langchain_falconer.evaluate import CurvePoint, LearningCurve, agreement_by_text, evaluate_plan, forecast
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.report.learning_curve import curve_notes, curve_plot, curve_rows
from langchain_falconer.report.terminal import print_summary

TEXT = "the quick brown fox"
LABEL = {"id": "good", "op": "get_label", "instruction": "Is it good?"}
SPAN = {"id": "animal", "op": "get_span", "instruction": "Extract animals"}
OTHER = {"id": "colour", "op": "get_span", "instruction": "Extract colours"}


def plan(*steps):
    return Plan.parse({"instruction": "x", "steps": list(steps)})


def label(score, value=True):
    return Answers({"good": Label(value, score)})


def spans(score=None, step="animal", none=0.99, at=(16, 19)):
    return Answers(spans={step: (Span.at(TEXT, *at, score),) if score else ()}, none_prob={step: none})


# ---- which texts


def test_three_quarters_are_what_the_proxy_doubts_most_and_a_quarter_is_uniform():
    answers = [label(0.5 + 0.5 * i / 400) for i in range(400)]
    chosen = choose_doubtful(plan(LABEL), answers, 40, seed=3)
    assert chosen[:30] == list(range(30))
    assert len(set(chosen)) == 40
    means = [np.mean(choose_doubtful(plan(LABEL), answers, 40, seed)[30:]) for seed in range(60)]
    assert abs(np.mean(means) - np.mean(range(30, 400))) < 15
    assert chosen == choose_doubtful(plan(LABEL), answers, 40, seed=3)


def test_texts_without_a_span_come_last_however_uncertain():
    answers = [spans(none=0.5) for _ in range(50)] + [spans(0.9) for _ in range(10)]
    chosen = choose_doubtful(plan(SPAN), answers, 12, seed=0)
    assert set(chosen[:9]) <= set(range(50, 60))


def test_a_span_that_only_the_other_network_finds_is_a_doubt():
    answers = [spans(0.6) for _ in range(20)] + [spans()]
    others = [spans(0.6) for _ in range(20)] + [spans(0.8)]
    assert choose_doubtful(plan(SPAN), answers, 4, 0, others=others)[0] == 20
    assert 20 not in choose_doubtful(plan(SPAN), answers, 8, 1)[:6]


def test_texts_on_which_two_networks_disagree_come_first():
    answers = [label(0.9) for _ in range(30)]
    others = [label(0.9, value=i not in (7, 21)) for i in range(30)]
    assert set(choose_doubtful(plan(LABEL), answers, 4, 0, others=others)[:2]) == {7, 21}
    apart = [spans(0.9, at=(4, 9) if i == 5 else (16, 19)) for i in range(30)]
    assert choose_doubtful(plan(SPAN), [spans(0.9)] * 30, 4, 0, others=apart)[0] == 5


def test_each_step_has_its_turn():
    """Every answer of one step is more doubtful than any of the other."""
    doubtful = [spans(0.5, "animal") for _ in range(40)]
    sure = [spans(0.9, "colour") for _ in range(40)]
    chosen = choose_doubtful(plan(SPAN, OTHER), [*doubtful, *sure], 40, seed=0)[:30]
    assert sum(i < 40 for i in chosen) == 15


def test_a_step_that_does_not_apply_makes_no_doubt():
    answers = [Answers() for _ in range(20)] + [label(0.6) for _ in range(5)]
    assert set(choose_doubtful(plan(LABEL), answers, 4, 0)[:3]) <= set(range(20, 25))


def test_labels_of_spans_are_doubted_with_their_texts():
    mood = {"id": "mood", "op": "get_label", "instruction": "Is {span} liked?", "of": "animal"}

    def answer(score):
        return Answers(spans={"animal": (Span(16, 19, "fox", 0.99, {"mood": Label(True, score)}),)})

    answers = [answer(0.95) for _ in range(20)] + [answer(0.5)]
    assert 20 in choose_doubtful(plan(SPAN, mood), answers, 3, 0)[:2]


def test_near_duplicates_are_chosen_only_when_nothing_else_remains():
    vectors = np.eye(12, dtype=np.float32)
    vectors[:6] = vectors[0]
    answers = [label(0.5) for _ in range(6)] + [label(0.9) for _ in range(6)]
    assert choose_doubtful(plan(LABEL), answers, 8, 0, vectors=vectors)[:6] == [0, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("n", [0, 1, 5, 9])
def test_any_number_of_texts_of_a_small_pool(n):
    chosen = choose_doubtful(plan(LABEL), [label(0.8)] * 5, n, 0)
    assert len(set(chosen)) == len(chosen) == min(n, 5)


def test_a_later_round_leaves_development_and_test_texts_as_they_are():
    sample = Sample(20, 0, 20, ["a"], ["b"], ["c"], [f"text {i}" for i in range(8)])
    later = next_round(plan(LABEL), sample, [label(1 - i / 10) for i in range(8)], 4, 0)
    assert (later.development, later.test) == (["b"], ["c"])
    assert later.train[:4] == ["a", "text 7", "text 6", "text 5"]
    assert len(later.train) == 5
    assert sorted([*later.train[1:], *later.pool]) == sorted(sample.pool)


# ---- the learning curve


def points(*sizes, per_text=0.5):
    return [CurvePoint(annotations=n, calls=round(n * per_text), development=None, test=None) for n in sizes]


def test_a_forecast_needs_three_trained_proxies_and_texts():
    same = np.ones((3, 20))
    assert forecast(points(0, 100, 200), same, np.ones(20)) is None
    assert forecast(points(100, 200, 300), np.ones((3, 0)), np.ones(0)) is None
    more = forecast(points(100, 200, 300), same, np.ones(20))
    assert (more.calls, more.annotations) == (100, 200)
    assert 0 <= more.low <= more.gain <= more.high


def test_a_curve_that_still_falls_is_forecast_to_gain_and_a_flat_one_is_not():
    texts = np.arange(200)
    falls = [texts >= wrong for wrong in (80, 50, 40)]
    flat = [texts >= 40] * 3
    assert forecast(points(100, 200, 300), falls, np.ones(200)).gain > 0.02
    assert forecast(points(100, 200, 300), flat, np.ones(200)).gain < 0.01


@pytest.mark.parametrize("curve", [(1.5, 0.4, 0.0), (0.2, 0.0, 0.0), (10.0, 0.8, 0.05)])
@pytest.mark.parametrize("n", [30, 100])
def test_a_forecasts_interval_covers(curve, n):
    """Errors fall as a power, not at all, or to a floor; each training is lucky or not by a point."""
    scale, exponent, floor = curve
    rng, sizes, covered = np.random.default_rng(0), (210, 310, 410), 0

    def error(size):
        return scale * size**-exponent + floor

    for _ in range(100):
        difficulty = rng.random(n)
        same = [
            np.where(rng.random(n) < 0.8, difficulty, rng.random(n)) > error(size) + rng.normal(0, 0.01)
            for size in sizes
        ]
        more = forecast(points(*sizes, per_text=1), same, np.ones(n))
        covered += more.low <= error(410) - error(510) <= more.high
    assert covered >= 0.94 * 100


def test_agreement_by_text_adds_up_to_the_agreement():
    steps = plan(LABEL, SPAN)
    gold = [Answers({"good": Label(True)}, {"animal": (Span.at(TEXT, 16, 19),)}), Answers({"good": Label(False)})]
    found = [Answers({"good": Label(True)}, {"animal": ()}), Answers({"good": Label(False)}, {"animal": ()})]
    same, decisions = agreement_by_text(steps, gold, found)
    assert (same.tolist(), decisions.tolist()) == ([1, 1], [2, 1])
    assert evaluate_plan(steps, gold, found).agreement.value == pytest.approx(same.sum() / decisions.sum())


# ---- rounds of a job


def moody(request):
    """Answers that contradict themselves: there is nothing to be learned from them."""
    if is_planning(request) or "Extract the price" in request["messages"][-1]["content"]:
        return teacher(request)
    return json.dumps({key: zlib.crc32(text.encode()) % 2 == 0 for key, text in asked(request).items()})


class KilledError(Exception):
    pass


def test_rounds_end_at_a_plateau_and_a_killed_job_takes_the_same_ones(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", reviews(90))
    more = {"max_rounds": 6, "round_annotations": 10, "min_gain": 1.0, "held_out": 0.4}
    settings = settings.model_copy(update={**more, "train": settings.train.model_copy(update={"epochs": 2.0})})
    begun = []

    def kill(event):
        if event.get("event") == "begin":
            begun.append(event["stage"])
            if begun.count("evaluate") == 2 and event["stage"] == "evaluate":
                raise KilledError

    with ChatServer(moody) as server:
        whole, killed = (Falconer(llm_at(server), home=tmp_path / name, settings=settings) for name in ("a", "b"))
        result = whole.mine(INSTRUCTION, corpus)
        with pytest.raises(KilledError):
            killed.mine(INSTRUCTION, corpus, on_event=kill)
        resumed = killed.mine(INSTRUCTION, corpus)
        calls = server.calls
        again = killed.mine(INSTRUCTION, corpus)
        assert server.calls == calls
    curve = result.summary.learning_curve
    assert curve.ended_by == "plateau"
    assert [point.annotations for point in curve.points] == [0, 18, 28, 38]
    assert [point.calls for point in curve.points] == sorted(point.calls for point in curve.points)
    assert curve.points[-1].test == result.quality.agreement
    assert {point.test.n for point in curve.points} == {8}
    assert resumed.summary.learning_curve == again.summary.learning_curve == curve
    samples = [
        [json.loads((next((tmp_path / name / "runs").iterdir()) / f"sample-{i}.json").read_text()) for i in range(4)]
        for name in ("a", "b")
    ]
    assert samples[0] == samples[1]
    (file,) = (tmp_path / "a").rglob("learning_curve.json")
    assert LearningCurve.model_validate(json.loads(file.read_text())["curve"]) == curve
    assert "reviews" not in file.read_text()
    console = Console(record=True, width=150)
    print_summary(result.summary, console)
    shown = console.export_text()
    assert "forecast to gain" in shown
    assert "No further round" in shown
    page = result.report(tmp_path / "report.html").read_text()
    assert all(row[0] in page for row in curve_rows(curve))
    assert curve_plot(curve).test in page


def test_a_curve_of_one_point_has_no_plot_and_says_that_it_forecasts_nothing():
    curve = LearningCurve(points=points(100))
    assert curve_plot(curve) is None
    assert "Too few rounds" in curve_notes(curve)[0]
    assert curve_notes(LearningCurve()) == []


# ---- a bad teacher


def inverted(request):
    """The LLM finds good what is bad, and finds prices rightly."""
    answers = json.loads(teacher(request))
    return json.dumps({key: not value if isinstance(value, bool) else value for key, value in answers.items()})


def test_a_proxy_that_was_taught_wrongly_is_not_used_once_a_person_corrected_development_answers(settings, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", reviews(90))
    question = Plan.parse({"instruction": "Good reviews", "steps": [LABEL]})
    settings = settings.model_copy(update={"annotations": 60, "held_out": 0.5})

    def mine(server, corrections=None):
        falconer = Falconer(llm_at(server), corrections=corrections, home=tmp_path / "home", settings=settings)
        return falconer.mine("Good reviews", corpus, plan=question).summary

    with ChatServer(inverted) as server:
        misled = mine(server)
        (sample,) = (tmp_path / "home").glob("runs/*/sample-0.json")
        rows = [
            {"text": text, "labels": {"good": "love" in text}} for text in json.loads(sample.read_text())["development"]
        ]
        warned = mine(server, write_lines(tmp_path / "corrections.jsonl", rows))
    assert len(rows) == 10
    assert misled.quality.agreement.value > 0.9  # with a teacher who is always wrong
    assert not misled.training.is_base
    assert warned.training.is_base
    (message,) = [message for message in warned.messages if "made the proxy worse" in message]
    assert "10 development texts that a person answered" in message
    assert "0% after" in message
