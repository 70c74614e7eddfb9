from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_falconer.errors import AnnotationError
from langchain_falconer.evaluate import (
    Proportion,
    Quality,
    evaluate_plan,
    expected_calibration_error,
    fit_scale,
    fit_temperature,
    label_scores,
    logit,
    operating_point,
    proportion,
    proportion_by_text,
    score_by_text,
    span_scores,
)
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.settings import Metric

# --- intervals


def test_proportion_is_the_exact_clopper_pearson_interval():
    estimate = proportion(8, 10)  # published: 0.4439 to 0.9748
    assert estimate.value == 0.8
    assert (estimate.low, estimate.high) == pytest.approx((0.44390, 0.97479), abs=1e-5)
    assert proportion(0, 30).high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert proportion(30, 30).low == pytest.approx(0.025 ** (1 / 30))
    assert Proportion.model_validate_json(estimate.model_dump_json()) == estimate


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_proportion_refuses_invalid_counts(successes, n):
    with pytest.raises(ValueError, match="not a proportion"):
        proportion(successes, n)


def test_proportion_refuses_an_invalid_level():
    with pytest.raises(ValueError, match=r"0\.95"):
        proportion(1, 2, level=95)


def test_one_trial_per_text_gives_the_exact_interval():
    assert proportion_by_text([1, 0, 1, 1], [1, 1, 1, 1]) == proportion(3, 4)


def test_no_observed_error_is_not_certainty():
    estimate = proportion_by_text([6] * 50, [6] * 50)
    assert estimate.value == 1.0
    assert estimate.interval == proportion(50, 50).interval


def test_without_trials_the_interval_is_the_whole_range():
    estimate = proportion_by_text([0, 0], [0, 0])
    assert (estimate.low, estimate.high, estimate.n) == (0.0, 1.0, 0)


def test_correlated_trials_widen_the_interval():
    together = proportion_by_text([0] * 10 + [5] * 40, [5] * 50)
    apart = proportion_by_text([4] * 49 + [3], [5] * 50)
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_the_interval_holds_the_value(counts):
    estimate = proportion_by_text([x for x, _ in counts], [x + more for x, more in counts])
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high > estimate.low


def _decisions(rng, n, share, correlation):
    scale = (1 - correlation) / correlation
    trials = rng.integers(1, 5, n)
    return rng.binomial(trials, rng.beta(share * scale, (1 - share) * scale, n)), trials


def _rare_spans(rng, n, share, correlation):
    """Correct spans among correct, missed and wrong ones; about one text in ten has any."""
    scale = (1 - correlation) / correlation
    trials = rng.poisson(0.1, n)
    correct = rng.binomial(trials, rng.beta(share * scale, (1 - share) * scale, n))
    return correct, trials


@pytest.mark.parametrize("world", [_decisions, _rare_spans])
@pytest.mark.parametrize("n", [40, 150])
@pytest.mark.parametrize(("share", "correlation"), [(0.7, 0.3), (0.95, 0.1), (0.95, 0.6), (0.99, 0.3)])
def test_intervals_have_their_nominal_coverage(world, n, share, correlation):
    rng = np.random.default_rng(7)
    intervals = [proportion_by_text(*world(rng, n, share, correlation)) for _ in range(400)]
    assert np.mean([i.low <= share <= i.high for i in intervals]) >= 0.93


# --- scores


def test_span_scores_count_exact_offsets_only():
    scores = span_scores([[(0, 3), (5, 9)], [], [(2, 4)]], [[(0, 3), (5, 8)], [(1, 2)], [(2, 4)]])
    assert (scores.tp, scores.fp, scores.fn, scores.support) == (2, 2, 1, 3)
    assert (scores.precision.value, scores.recall.value) == (0.5, pytest.approx(2 / 3))
    assert scores.precision.interval == proportion_by_text([1, 0, 1], [2, 1, 1]).interval
    assert scores.recall.interval == proportion_by_text([1, 0, 1], [2, 0, 1]).interval
    assert scores.f1.value == pytest.approx(4 / 7)
    assert scores.f1.low < 4 / 7 < scores.f1.high


@pytest.mark.parametrize("answers", [[], [[]], [[], []]])
def test_no_gold_and_no_predicted_span_is_perfect_with_the_whole_range(answers):
    scores = span_scores(answers, answers)
    assert (scores.precision.value, scores.recall.value, scores.f1.value) == (1.0, 1.0, 1.0)
    assert (scores.f1.low, scores.f1.high) == (0.0, 1.0)


def test_missing_all_spans_scores_zero():
    scores = span_scores([[(0, 1)]], [[]])
    assert (scores.precision.value, scores.recall.value, scores.f1.value) == (0.0, 0.0, 0.0)


def test_label_scores_of_choices():
    scores = label_scores(["a", "a", "b", "c"], ["a", "b", "b", None])
    assert scores.accuracy == proportion(2, 4)
    assert scores.micro is None
    assert {name: s.f1.value for name, s in scores.classes.items()} == pytest.approx({"a": 2 / 3, "b": 2 / 3, "c": 0})
    assert scores.macro_f1 == pytest.approx(4 / 9)


def test_label_scores_of_truth_values_show_the_rare_class():
    scores = label_scores([True] + [False] * 99, [False] * 100)
    assert scores.accuracy.value == 0.99
    assert scores.classes["true"].f1.value == 0.0
    assert scores.classes["true"].support == 1


def test_label_scores_of_sets():
    scores = label_scores([["a", "b"], [], ["c"]], [["b", "a"], ["c"], ["c"]])
    assert scores.accuracy.value == pytest.approx(2 / 3)
    assert scores.micro.f1.value == pytest.approx(6 / 7)


def test_scores_refuse_unequal_lengths():
    with pytest.raises(ValueError, match="1 gold answers, but 0"):
        span_scores([[]], [])
    with pytest.raises(ValueError, match="no answer to score"):
        label_scores([], [])


# --- a plan

TEXT = "The pizza was great, the wine awful: $9"
PLAN = Plan.parse(
    {
        "instruction": "aspects and their sentiment",
        "steps": [
            {"id": "review", "op": "get_label", "instruction": "Is it a review?"},
            {"id": "aspect", "op": "get_span", "instruction": "aspects", "where": {"step": "review", "equals": True}},
            {"id": "mood", "op": "get_label", "instruction": "mood?", "labels": ["good", "bad"], "of": "aspect"},
            {"id": "price", "op": "get_span", "instruction": "price of it", "of": "aspect"},
        ],
    }
)


def _aspect(start, end, mood, *prices):
    return Span(start, end, TEXT[start:end], 1.0, {"mood": Label(mood)}, {"price": tuple(prices)})


GOLD = Answers(
    {"review": Label(True)}, {"aspect": (_aspect(4, 9, "good"), _aspect(25, 29, "bad", Span.at(TEXT, 37, 39)))}
)


def test_the_same_answers_agree_entirely():
    quality = evaluate_plan(PLAN, [GOLD] * 20, [GOLD] * 20)
    assert set(quality.steps) == {"review", "aspect", "mood", "price"}
    assert quality.agreement.value == 1.0
    assert quality.agreement.interval == proportion(20, 20).interval
    assert (quality.steps["mood"].n, quality.steps["mood"].decisions) == (20, 40)
    assert {s.metric for s in quality.steps.values()} == {"accuracy", "F1"}


def test_nested_steps_are_compared_on_gold_spans():
    proxy = Answers({"review": Label(True)}, {"aspect": (_aspect(25, 29, "good"), _aspect(4, 8, "good"))})
    quality = evaluate_plan(PLAN, [GOLD], [proxy])
    assert quality.steps["aspect"].score.value == 0.5
    assert quality.steps["aspect"].agreement.value == 0.0
    assert quality.steps["mood"].score.value == 0.0  # one span has the wrong mood, the other is missed
    assert quality.steps["price"].details.fn == 1
    assert quality.agreement.value == pytest.approx(1 / 6)


def test_a_step_counts_where_the_annotator_answered_it_and_a_missing_answer_is_wrong():
    gold = [GOLD, Answers({"review": Label(False)}), Answers({"review": Label(True)}, {"aspect": ()})]
    proxy = [
        GOLD,
        Answers({"review": Label(False)}, {"aspect": (_aspect(4, 9, "good"),)}),
        Answers({"review": Label(True)}),
    ]
    quality = evaluate_plan(PLAN, gold, proxy)
    assert quality.steps["review"].score == proportion(3, 3)
    assert quality.steps["aspect"].n == 2
    assert quality.steps["aspect"].agreement.value == 0.5
    assert quality.steps["aspect"].score.value == 1.0


def test_steps_without_gold_answers_are_named():
    quality = evaluate_plan(PLAN, [Answers({"review": Label(False)})], [Answers()])
    assert quality.unmeasured == ("aspect", "mood", "price")
    assert quality.agreement.value == 0.0


TOPICS = {"id": "topics", "op": "get_label", "instruction": "topics?", "labels": ["a", "b", "c"], "multi_label": True}
WIDE = Plan.parse({**PLAN.to_dict(), "steps": [*PLAN.to_dict()["steps"], TOPICS]})
MOODS = st.sampled_from(["good", "bad"])
ASPECTS = st.builds(
    lambda at, mood, priced: _aspect(*at, mood, *[Span.at(TEXT, 37, 39)] * priced),
    st.sampled_from([(4, 9), (4, 8), (25, 29)]),
    MOODS,
    st.booleans(),
)
ANSWERS = st.builds(
    lambda review, topics, aspects: Answers({"review": Label(review), "topics": Label(topics)}, {"aspect": aspects}),
    st.booleans(),
    st.lists(st.sampled_from("abc"), unique=True),
    st.lists(ASPECTS, max_size=2, unique_by=lambda s: s.start).map(tuple),
)


@given(st.lists(st.tuples(ANSWERS, ANSWERS), min_size=1, max_size=8))
def test_the_mean_of_texts_is_the_mean_of_steps(pairs):
    gold, predicted = zip(*pairs, strict=True)
    scores = [step.score.value for step in evaluate_plan(WIDE, gold, predicted).steps.values()]
    by_text = score_by_text(WIDE, gold, predicted)
    assert by_text.shape == (len(pairs),)
    assert by_text.mean() == pytest.approx(sum(scores) / len(scores))


def test_of_one_label_a_text_is_right_or_wrong():
    gold = [Answers({"review": Label(value)}) for value in (True, True, False)]
    predicted = [Answers({"review": Label(True)}), Answers(), Answers({"review": Label(True)})]
    assert score_by_text(PLAN, gold, predicted) == pytest.approx([1, 0, 0])
    assert list(score_by_text(PLAN, [Answers()], [GOLD])) == [1]


def test_the_spread_of_texts_is_that_of_f1():
    rng = np.random.default_rng(0)

    def sample(n):
        gold = [[Span(i, i + 1, "x") for i in range(m)] for m in rng.poisson(2, n)]
        predicted = [tuple(s for s in spans if rng.random() < 0.7) for spans in gold]
        return [Answers({}, {"aspect": tuple(g)}) for g in gold], [Answers({}, {"aspect": p}) for p in predicted]

    draws = [score_by_text(PLAN, *sample(150)) for _ in range(400)]
    estimated = np.mean([d.std(ddof=1) / 150**0.5 for d in draws])
    assert estimated == pytest.approx(np.std([d.mean() for d in draws]), rel=0.12)


def test_quality_survives_json():
    quality = evaluate_plan(PLAN, [GOLD, GOLD], [GOLD, Answers()])
    data = json.loads(json.dumps(quality.model_dump(mode="json"), allow_nan=False))
    assert Quality.model_validate(data) == quality


def test_no_gold_answer_at_all_is_one_sentence():
    with pytest.raises(AnnotationError, match="annotate more texts"):
        evaluate_plan(PLAN, [Answers()], [GOLD])


# --- calibration


def test_temperature_is_recovered():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = [rng.choice(3, p=p) for p in chances]
    assert fit_temperature(logits * 3, targets) == pytest.approx(3, rel=0.1)
    assert fit_temperature(logits / 2, targets) == pytest.approx(0.5, rel=0.1)


def test_a_few_targets_move_the_temperature_little():
    right = np.tile(np.eye(2), (6, 1)) * 4
    assert 0.4 < fit_temperature(right, [0, 1] * 6) < 1


@pytest.mark.parametrize("targets", [[0, 1] * 4, [1] * 30])
def test_too_few_targets_leave_scores_unchanged(targets):
    assert fit_temperature(np.ones((len(targets), 2)), targets) == 1.0
    assert fit_temperature(np.ones((len(targets), 2)), targets, around=3.0) == 3.0


def test_the_scale_of_scores_is_recovered_and_keeps_their_order():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.02, 0.98, 4000)
    right = rng.random(4000) < truth
    scores = 1 / (1 + np.exp(-(2 * logit(truth) + 1)))  # overconfident, and too high
    slope, shift = fit_scale(scores, right)
    calibrated = 1 / (1 + np.exp(-(slope * logit(scores) + shift)))
    assert expected_calibration_error(scores, right) > 0.1
    assert expected_calibration_error(calibrated, right) < 0.03
    assert (np.argsort(calibrated, kind="stable") == np.argsort(scores, kind="stable")).all()


@pytest.mark.parametrize("right", [True, False])
def test_few_scores_move_their_scale_little(right):
    slope, shift = fit_scale([0.9] * 12, [right] * 12)
    assert 0.3 < slope < 3
    assert 0 < abs(shift) < 4
    near, near_shift = fit_scale([0.9] * 12, [right] * 12, around=(0.5, -1.0), spread=0.01)
    assert (near, near_shift) == (pytest.approx(0.5, abs=0.05), pytest.approx(-1.0, abs=0.05))
    assert fit_scale([], []) == (1.0, 0.0)


def test_temperature_refuses_bad_shapes():
    with pytest.raises(ValueError, match="shapes"):
        fit_temperature([[1.0, 2.0]], [0, 1])
    with pytest.raises(ValueError, match="not a column"):
        fit_temperature([[1.0, 2.0]], [2])


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    confidence, correct = [0.95, 0.95, 0.95, 1.0, 0.05], [1, 1, 1, 0, 0]
    assert expected_calibration_error(confidence, correct) == pytest.approx((4 * abs(0.75 - 0.9625) + 0.05) / 5)
    assert expected_calibration_error([], []) == 0.0
    with pytest.raises(ValueError, match="outside"):
        expected_calibration_error([1.2], [True])


_CANDIDATES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.booleans()), min_size=1)


@settings(deadline=None)
@given(_CANDIDATES, st.sampled_from(["f1", "precision:0.6", "recall:0.8"]))
def test_the_operating_point_is_the_best_that_serves_the_metric(candidates, spec):
    metric = Metric.model_validate(spec)
    scores, truths = (np.array(column) for column in zip(*candidates, strict=True))

    def rates(threshold):
        yes = scores >= threshold
        right = (yes & truths).sum()
        precision, recall = right / max(yes.sum(), 1), right / max(truths.sum(), 1)
        return precision, recall, 2 * right / max(yes.sum() + truths.sum(), 1)

    def objective(threshold):
        """Return the value to maximise; None where the bound is not met."""
        precision, recall, f1 = rates(threshold)
        value, bounded = {"f1": (f1, 1), "precision": (recall, precision), "recall": (precision, recall)}[metric.name]
        return value if bounded >= (metric.at_least or 0) else None

    objectives = [w for t in [0, 0.05, 0.2, 0.4, 0.6, 0.9] if (w := objective(t)) is not None]
    point = operating_point(metric, scores, truths)
    if not truths.any() or not objectives:
        assert point is None
        return
    assert objective(point.threshold) == max(objectives)
    assert (point.precision, point.recall, point.f1) == pytest.approx(rates(point.threshold))
    assert (point.n, point.positives) == (len(scores), truths.sum())


@pytest.mark.parametrize("spec", ["", "f1:0.5", "precision", "recall:0", "recall:1.1", "recall:x", "recall:nan", "auc"])
def test_an_invalid_metric_is_refused(spec):
    with pytest.raises(ValueError, match=r"."):
        Metric.model_validate(spec)


def test_importing_evaluate_is_light():
    heavy = "{'torch', 'langchain_core', 'pandas', 'sklearn', 'scipy.stats'}"
    code = f"import sys, langchain_falconer.evaluate; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
