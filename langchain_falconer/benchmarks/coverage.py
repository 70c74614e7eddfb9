"""Simulated corpora: how often the interval of a corrected count holds the count, and how far off the counts are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.evaluate import Estimate, Pairs, RowTotals, estimate_total

_AGREEMENT = 0.8  # of the measured proxy and the one that runs, where they err
Kind = Literal["label", "spans", "passages"]
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Corpus:
    """A corpus to simulate.

    Attributes:
        kind: ``label`` (a quantity of 0 or 1), ``spans`` (counts, overdispersed) or ``passages`` (0 or 1, where
            the passages of a document, ten on average, err together).
        prevalence: Share of the texts with the label, or mean number of spans.
        test: Uniformly drawn annotations that chose nothing.
        missed: Share of the positives that the proxy misses.
        spurious: Share of the negatives that it takes for positives.
        texts: Distinct texts.
        learned: Further annotated texts, which are facts.
        group: Share of the texts that are in the group whose count is estimated.
        repeated: Whether texts occur in 1 to 20 rows each.
        on_all: Whether the proxy that runs is another one than the one that is measured, and knows the test texts.
    """

    kind: Kind = "label"
    prevalence: float = 0.1
    test: int = 60
    missed: float = 0.2
    spurious: float = 0.05
    texts: int = 5000
    learned: int = 150
    group: float = 1.0
    repeated: bool = False
    on_all: bool = True


class Trial(NamedTuple):
    """A simulated estimate, and the count that it should hold."""

    estimate: Estimate
    true: float

    @property
    def holds(self) -> bool:
        """Whether the interval holds the count."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and low - 1e-9 <= self.true <= high + 1e-9


_KINDS: tuple[Kind, ...] = ("label", "spans")
_ERRORS = ((0.3, 0.01), (0.1, 0.15), (0.02, 0.02), (0.6, 0.5))
SETTINGS: tuple[Corpus, ...] = (
    *(Corpus("label", p, n, *e) for p, n, e in product((0.005, 0.02, 0.1, 0.3, 0.5), (30, 60, 120, 200), _ERRORS)),
    *(Corpus("spans", p, n, *e) for p, n, e in product((0.02, 0.1, 0.5, 2.0), (30, 60, 120, 200), _ERRORS)),
    *(Corpus("passages", p, n) for p, n in product((0.02, 0.1, 0.3), (30, 60, 200))),
    *(Corpus("label", p, 60, texts=t, on_all=a) for p, t, a in product((0.02, 0.2), (300, 800), (True, False))),
    *(Corpus("label", p, 60, 0.1, s) for p, s in product((0.0, 1.0), (0.0, 0.05))),  # one class
    *(Corpus("spans", 0.0, 60, 0.1, s) for s in (0.0, 0.05)),
    *(Corpus(k, p, 120, group=0.25) for k, p in product(_KINDS, (0.02, 0.1, 0.3, 0.5))),  # 30 test texts
    *(Corpus(k, p, 200, texts=600, learned=100, group=0.05) for k, p in product(_KINDS, (0.02, 0.1, 0.5))),
    *(Corpus(k, p, 80, texts=3000, repeated=True) for k, p in product(_KINDS, (0.02, 0.1, 0.3, 0.5))),
)


def run(runs: int = 500, seed: int = 0) -> BenchmarkTable:
    """Simulate every setting ``runs`` times; the table has one row a group of settings, and its worst coverage."""
    cases = [{**asdict(corpus), **_summary(list(simulate(corpus, runs, seed)))} for corpus in SETTINGS]
    groups: dict[str, list[dict[str, float]]] = {}
    for corpus, case in zip(SETTINGS, cases, strict=True):
        groups.setdefault(_name(corpus), []).append(case)
    rows = [
        (
            name,
            str(len(group)),
            f"{min(case['coverage'] for case in group):.3f}",
            f"{np.mean([case['coverage'] for case in group]):.3f}",
            f"{np.median([case['ratio'] for case in group]):.2f}",
        )
        for name, group in groups.items()
    ]
    worst = min(case["coverage"] for case in cases)
    return {
        "title": f"95% intervals of corrected counts in {len(cases)} simulated settings, {runs} corpora each",
        "columns": ["setting", "settings", "worst coverage", "mean coverage", "error, of the plain count's (median)"],
        "rows": rows,
        "verdict": f"in the worst setting {worst:.1%} of the intervals hold the count (the target is 94%)",
        "cases": cases,
    }


def _name(corpus: Corpus) -> str:
    traits = ["repeated texts"] * corpus.repeated + ["small corpora"] * (corpus.texts < 1000 and corpus.group == 1)
    traits += [f"groups of {'30 rows' if corpus.texts < 1000 else '30 test texts'}"] * (corpus.group < 1)
    traits += ["one class"] * (corpus.prevalence in (0.0, 1.0))
    return ", ".join([corpus.kind, *traits])


def _summary(trials: list[Trial]) -> dict[str, float]:
    """Return coverage, and the mean error of the estimates over that of the plain counts; of those with an estimate."""
    known = [trial for trial in trials if trial.estimate.estimate is not None]
    errors = [abs((trial.estimate.estimate or 0.0) - trial.true) for trial in known]
    plain = [abs(trial.estimate.counted - trial.true) for trial in known]
    return {
        "coverage": float(np.mean([trial.holds for trial in known])) if known else 1.0,
        "ratio": float(np.mean(errors)) / max(float(np.mean(plain)), 1e-9) if known else 0.0,
        "known": len(known) / len(trials),
    }


def simulate(corpus: Corpus, runs: int, seed: int) -> Iterator[Trial]:
    """Yield estimates over independent corpora."""
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        yield _trial(corpus, rng)


def _trial(corpus: Corpus, rng: np.random.Generator) -> Trial:
    n = corpus.texts
    truth = _truth(corpus, rng)
    measured, other = _predicted(corpus, truth, rng), _predicted(corpus, truth, rng)
    proxy = np.where(rng.random(n) < _AGREEMENT, measured, other) if corpus.on_all else measured
    rows = np.minimum(rng.geometric(0.4, n), 20.0) if corpus.repeated else np.ones(n)
    order, in_group = rng.permutation(n), rng.random(n) < corpus.group
    test = order[: corpus.test]
    is_answered = np.zeros(n, bool)
    is_answered[order[: corpus.test + corpus.learned]] = True
    estimate = estimate_total(
        _totals(truth, rows, is_answered & in_group),
        _totals(proxy, rows, ~is_answered & in_group),
        Pairs.of(truth[test], measured[test], (rows * in_group)[test]),
        _compared(measured, proxy, rows * ~is_answered, in_group, rng) if corpus.on_all else None,
        at_most_one=corpus.kind != "spans",
    )
    return Trial(estimate, float((truth * rows)[in_group].sum()))


def _truth(corpus: Corpus, rng: np.random.Generator) -> _Array:
    if corpus.kind == "spans":
        return np.asarray(rng.poisson(corpus.prevalence * rng.gamma(0.5, 2.0, corpus.texts)), float)
    return np.asarray(rng.random(corpus.texts) < corpus.prevalence, float)


def _predicted(corpus: Corpus, truth: _Array, rng: np.random.Generator) -> _Array:
    n = len(truth)
    if corpus.kind == "spans":
        found = rng.binomial(truth.astype(int), 1 - corpus.missed) + rng.binomial(2, corpus.spurious, n)
        return np.asarray(found, float)
    harder = np.ones(n)
    if corpus.kind == "passages":
        documents = rng.integers(0, n // 10, n)
        harder = rng.gamma(0.3, 1 / 0.3, n // 10)[documents]
    errs = rng.random(n) < np.where(truth > 0, corpus.missed, corpus.spurious) * harder
    predicted: _Array = np.where(errs, 1 - truth, truth)
    return predicted


def _totals(values: _Array, rows: _Array, at: NDArray[np.bool_]) -> RowTotals:
    return RowTotals(float(rows[at].sum()), float((rows * values)[at].sum()), float((rows * (values > 0))[at].sum()))


def _compared(
    measured: _Array, proxy: _Array, rows: _Array, in_group: NDArray[np.bool_], rng: np.random.Generator, n: int = 500
) -> Pairs:
    numbers = np.repeat(np.arange(len(rows)), rows.astype(int))
    drawn = rng.choice(numbers, min(n, len(numbers)), replace=False)
    drawn = drawn[in_group[drawn]]
    return Pairs.of(measured[drawn], proxy[drawn])
