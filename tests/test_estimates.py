"""Corrected counts: what they rest on, and how often their intervals hold the true count."""

from __future__ import annotations

import numpy as np
import pytest
from laptops import PLAN

from langchain_falconer.benchmarks import coverage
from langchain_falconer.benchmarks.coverage import Corpus, simulate
from langchain_falconer.evaluate import (
    Estimate,
    Pairs,
    RowTotals,
    detectable_difference,
    estimate_sum,
    estimate_total,
)
from langchain_falconer.execute import ALL, Quantities, Quantity, RowTally


@pytest.mark.parametrize(
    "corpus",
    [
        Corpus("label", 0.005, 60),
        Corpus("label", 0.02, 30, 0.6, 0.5),
        Corpus("label", 0.3, 120, 0.1, 0.15),
        Corpus("label", 0.2, 60, texts=300),
        Corpus("label", 0.0, 60, 0.1, 0.05),
        Corpus("label", 1.0, 60, 0.1, 0.05, on_all=False),
        Corpus("label", 0.3, 120, group=0.25),
        Corpus("label", 0.1, 200, texts=600, learned=100, group=0.05),
        Corpus("label", 0.3, 80, texts=3000, repeated=True),
        Corpus("spans", 0.1, 60),
        Corpus("spans", 0.5, 200, 0.6, 0.3),
        Corpus("spans", 2.0, 120, 0.1, 0.1),
        Corpus("spans", 0.1, 80, texts=3000, repeated=True),
        Corpus("passages", 0.1, 60),
    ],
    ids=str,
)
def test_intervals_hold_the_true_count(corpus):
    known = [trial for trial in simulate(corpus, 250, seed=1) if trial.estimate.estimate is not None]
    assert np.mean([trial.holds for trial in known]) >= 0.94


def test_a_biased_count_is_corrected():
    trials = list(simulate(Corpus("label", 0.2, 200, 0.05, 0.4), 100, seed=2))
    true = np.array([trial.true for trial in trials])
    counted, estimated = (np.array([getattr(t.estimate, name) for t in trials]) for name in ("counted", "estimate"))
    assert np.mean(counted / true) > 2  # four of ten negatives are counted too
    assert np.mean(estimated / true) == pytest.approx(1, abs=0.05)


def test_good_proxies_narrow_the_interval():
    def half(**errors):
        estimates = [t.estimate for t in simulate(Corpus("label", 0.3, 120, **errors), 50, seed=3)]
        return np.mean([(e.high - e.low) / 2 for e in estimates])

    assert half(missed=0.02, spurious=0.02) < 0.6 * half(missed=0.5, spurious=0.5)


def test_rows_that_the_annotator_answered_are_facts():
    exact = estimate_total(RowTotals(50, 7, 7), RowTotals(), Pairs.of([], []), at_most_one=True)
    assert (exact.counted, exact.estimate, exact.low, exact.high) == (7, 7, 7, 7)
    labelled = Pairs.of([0] * 40, [0] * 40)
    partly = estimate_total(RowTotals(50, 7, 7), RowTotals(20, 0, 0), labelled, at_most_one=True)
    assert partly.low == 7 <= partly.estimate <= partly.high <= 27


def test_too_few_labelled_texts_are_said_and_nothing_is_estimated():
    nine = estimate_total(RowTotals(), RowTotals(100, 9, 9), Pairs.of([1] * 9, [1] * 9), at_most_one=True)
    assert (nine.counted, nine.estimate, nine.low, nine.high) == (9, None, None, None)
    assert "9" in nine.reason
    assert estimate_total(RowTotals(), RowTotals(100, 9, 9), Pairs.of([], []), at_most_one=True).reason


def test_a_group_without_a_row_to_compare_has_no_estimate():
    labelled, compared = Pairs.of([1] * 20, [1] * 20), Pairs.of([], [])
    assert estimate_total(RowTotals(), RowTotals(9, 9, 9), labelled, compared, at_most_one=True).reason


def test_a_text_counts_as_often_as_it_occurs():
    often = Pairs.of([1] * 20 + [0] * 20, [1] * 40, [3] * 20 + [1] * 20)
    estimate = estimate_total(RowTotals(), RowTotals(1000, 1000, 1000), often, at_most_one=True)
    assert estimate.estimate == pytest.approx(750)


def test_parts_add_up_and_an_unknown_part_is_unknown():
    one = Estimate(counted=10, estimate=12.0, low=9.0, high=16.0)
    both = estimate_sum([one, one])
    assert (both.counted, both.estimate) == (20, 24)
    assert (both.low, both.high) == pytest.approx((24 - 3 * 2**0.5, 24 + 4 * 2**0.5))
    assert estimate_sum([one, Estimate.unknown(5, "why")]).reason == "why"


def test_the_detectable_difference_is_that_of_the_intervals():
    one, other = Estimate(counted=0.5, estimate=0.5, low=0.4, high=0.6), Estimate.exact(0.2)
    assert detectable_difference(one, other) == pytest.approx(0.1)
    assert detectable_difference(one, one) == pytest.approx(0.1 * 2**0.5)
    assert detectable_difference(one, Estimate.unknown(0.3, "why")) is None


def test_a_share_is_the_count_over_the_rows():
    share = Estimate(counted=10, estimate=12.0, low=9.0, high=16.0).per(100)
    assert (share.counted, share.estimate, share.low, share.high) == (0.1, 0.12, 0.09, 0.16)
    assert Estimate.unknown(10, "why").per(100).estimate is None


def test_the_benchmark_of_coverage_is_a_table():
    table = coverage.run(runs=2)
    assert len(table["cases"]) == len(coverage.SETTINGS)
    assert sum(int(row[1]) for row in table["rows"]) == len(coverage.SETTINGS)


def rows_of(n):
    for i in range(n):
        spans = [{"start": 0, "end": 2, "text": "$9", "score": 1.0}] * (i % 3)
        yield {
            "id": str(i),
            "text": f"$9 $9 {i}",
            "labels": {"positive": {"value": i % 3 > 0, "score": 1.0}},
            "spans": {"price": spans},
            "match": i % 3 > 0,
            "decided_by": {"positive": "llm" if i % 10 == 0 else "proxy", "price": "proxy" if i % 10 else "llm"},
            "metadata": {"day": f"2026-0{1 + i % 2}-07", "number": i, "shop": "ab"[i % 2], "note": None},
        }


def test_rows_are_tallied_by_the_columns_that_have_few_values():
    tally = RowTally(
        Quantities(PLAN), {}, {"$9 $9 7"}, answered_by=("llm",), passage_chars=1200, n_drawn=50, seed=0
    ).add_all(rows_of(600))
    total, matched, spans = tally.groups[ALL], Quantity("match"), Quantity("spans", "price")
    assert (total.rows, total.counted[matched], total.counted[spans]) == (600, 400, 600)
    assert (total.answered_rows, total.answered[spans]) == (60, 60)
    assert total.predicted_totals(spans, at_most_one=False) == RowTotals(540, 540, 360)
    assert (total.labelled["$9 $9 7"], tally.values["$9 $9 7"][spans]) == (1, 1)
    assert {name: [group.value for group in groups] for name, groups in tally.columns().items()} == {
        "day": ["2026-01", "2026-02"],
        "shop": ["a", "b"],
    }
    assert [tally.groups[group].rows for group in tally.columns()["shop"]] == [300, 300]
    assert len({unit.text for unit in tally.drawn}) == 50
    assert not any(unit.text.endswith("0") for unit in tally.drawn)  # the LLM answered these rows
