"""Whether a run has a sieve: learnt from what the whole proxy answers on a sample of the corpus, and measured."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_falconer._files import replacing
from langchain_falconer.corpus import Corpus, Document, sample_uniform
from langchain_falconer.evaluate import certify
from langchain_falconer.execute._shard import answer
from langchain_falconer.execute._sieve import Sieve, first_gate
from langchain_falconer.proxy import Proxy

KEPT, CONFIDENCE = 0.99, 0.95
"""The share of the texts which pass the first step that must go on passing it, and how sure that is."""
_NEEDED = 299  # what fewest_to_certify says of these two; it would import SciPy's statistics here
_SAMPLE = 2**14
_PART = 10  # at most a tenth of the rows is answered beforehand
_AT_ONCE = 1_024
_FIT = 3  # every third of them is learnt from; the others certify
_ENOUGH = 473  # passing texts that certify with one of them lost
_FEWEST_TO_FIT = 30
_TIMED = 512
_ROUNDS = 3
_GAIN = 1.1  # less is noise
_RIDGE = 0.01


@dataclass(frozen=True)
class Sifting:
    """Whether a run has a sieve, and what was measured.

    Attributes:
        sieve: what settles clear negatives; None where every text is encoded.
        facts: ``on``, what is ``said`` of it, and the figures that it rests on, as JSON data.
    """

    sieve: Sieve | None
    facts: dict[str, Any]

    @classmethod
    def off(cls, why: str, **facts: Any) -> Sifting:
        """No sieve, and why."""
        return cls(None, {"on": False, "said": f"No sieve: {why}.", **facts})

    def save(self, path: Path) -> None:
        """Keep it in a safetensors file, whole or not at all: a run that goes on sifts as it began."""
        from safetensors.numpy import save_file

        arrays = {} if self.sieve is None else {"weights": self.sieve.weights}
        told = {"step": self.sieve.step, "bias": self.sieve.bias, "cut": self.sieve.cut} if self.sieve else {}
        with replacing(path) as partial:
            save_file(arrays, partial, {"facts": json.dumps(self.facts), "sieve": json.dumps(told)})

    @classmethod
    def load(cls, path: Path) -> Sifting:
        """What :meth:`save` wrote."""
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            told = {name: json.loads(text) for name, text in file.metadata().items()}
            sieve = Sieve(weights=file.get_tensor("weights"), **told["sieve"]) if told["sieve"] else None
        return cls(sieve, told["facts"])


def choose_sieve(proxy: Proxy, corpus: Corpus) -> Sifting:
    """A sieve for a plan over a corpus, if one can be certified and pays.

    One pass over the corpus draws rows uniformly, and the whole proxy answers them. On a third of them the sieve is
    fit; on the others its cut is certified: at most 1% of the texts that pass the plan's first step are taken for
    negatives, at 95% confidence (see :func:`langchain_falconer.evaluate.certify`). Then it is timed, with and without.

    Raises:
        CorpusError: a row that cannot be read, unless the corpus records bad rows.
    """
    if (step := first_gate(proxy.plan)) is None:
        return Sifting.off("the plan has no yes/no step that all its others wait for")
    began = time.perf_counter()
    drawn, rows = _drawn(corpus)
    if len(drawn) * (_FIT - 1) / _FIT < _NEEDED:
        return Sifting.off(f"{rows:,} rows are too few to make one and gain by it")
    sample = _answered(proxy, step, drawn)
    if sample.certifying < _NEEDED or sample.passed[sample.fit].sum() < _FEWEST_TO_FIT:
        short = f"{sample.certifying} of the {len(sample.texts)} texts drawn pass '{step}' and certify it"
        return Sifting.off(f"{short}, and it takes {_NEEDED}", drawn=len(sample.texts))
    sieve, facts = _certified(proxy, step, sample)
    timed = [text for text, fit in zip(sample.texts, sample.fit, strict=True) if not fit][:_TIMED]
    without, sifted = _seconds(proxy, sieve, timed)
    facts |= {"timed": len(timed), "seconds_without": round(without, 4), "seconds_with": round(sifted, 4)}
    facts |= {"gain": round(without / sifted, 2), "seconds": round(time.perf_counter() - began, 2)}
    measured = f"{len(timed):,} texts of this corpus take {without:.2f} s without and {sifted:.2f} s with it"
    if without < _GAIN * sifted:
        return Sifting.off(f"it would not pay, as it settles {facts['settled']:.0%} ({measured})", **facts)
    said = (
        f"A sieve settles {facts['settled']:.0%} of the texts by their token embeddings, and loses at most "
        f"{1 - KEPT:.0%} of those that pass '{step}', at {CONFIDENCE:.0%} confidence; {measured}."
    )
    return Sifting(sieve, {"on": True, "said": said, **facts})


@dataclass(frozen=True)
class _Sample:
    """Texts that the whole proxy answered, in random order: whether each passes, and whether it is fit or certifies."""

    texts: list[str]
    passed: NDArray[np.bool_]

    @property
    def fit(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(len(self.texts)) % _FIT == 0)

    @property
    def certifying(self) -> int:
        return int(self.passed[~self.fit].sum())


def _certified(proxy: Proxy, step: str, sample: _Sample) -> tuple[Sieve, dict[str, Any]]:
    """A sieve with the least cut that keeps enough of what passes, and what was seen of it."""
    ids, fit = proxy.token_ids(sample.texts), sample.fit
    known = [one for one, mine in zip(ids, fit, strict=True) if mine]
    sieve = Sieve(step, *_fitted(proxy.token_vectors, known, sample.passed[fit]), cut=np.inf)
    failing = -sieve.log_odds([one for one, mine in zip(ids, fit, strict=True) if not mine])
    passed = failing[sample.passed[~fit]]
    # Whatever passes would be lost if the sieve decided it.
    certificate = certify(passed, np.ones(len(passed), bool), KEPT, CONFIDENCE)
    assert certificate.certified
    assert certificate.cut is not None
    cut = certificate.cut
    facts = {
        "step": step,
        "drawn": len(sample.texts),
        "passed": int(sample.passed.sum()),
        "certified_on": len(passed),
        "lost": int((passed > cut).sum()),
        "kept": KEPT,
        "confidence": CONFIDENCE,
        "settled": round(float((failing > cut).mean()), 4),
    }
    return replace(sieve, cut=cut), facts


def _drawn(corpus: Corpus) -> tuple[list[str], int]:
    """Texts of rows drawn uniformly, in random order, no more than a part of all; and how many rows there are.

    Texts that are too long for a sieve are left out: they are encoded in any case, and never lost.
    """
    rows = 0

    def short() -> Any:
        nonlocal rows
        for row in corpus:
            rows += 1
            if isinstance(row, Document) and Sieve.takes(row.text):
                yield rows, row.text

    drawn = sample_uniform(short(), _SAMPLE, 0, key=lambda row: f"row {row[0]}")
    return [text for _, text in drawn[: rows // _PART]], rows


def _answered(proxy: Proxy, step: str, texts: Sequence[str]) -> _Sample:
    """As many of the texts as it takes, with the whole proxy's answers; those that it fails on are left out."""
    known: list[str] = []
    passed: list[bool] = []
    for group in (texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE)):
        for text, part in zip(group, answer(proxy, group), strict=True):
            if "error" not in part:
                known.append(text)
                passed.append(part["labels"][step]["value"])
        sample = _Sample(known, np.array(passed, bool))
        hopeless = sample.certifying * len(texts) < _NEEDED * len(known) / 2
        if sample.certifying >= _ENOUGH or hopeless:
            break
    return sample


def _fitted(
    vectors: NDArray[np.float32], ids: Sequence[Sequence[int]], passed: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], float]:
    """A logistic regression with a ridge on the mean token vector, as one number a token (V,) and a bias."""
    from scipy.optimize import minimize

    means = np.stack([vectors[list(one)].mean(0) if one else np.zeros(vectors.shape[1]) for one in ids])
    centre, spread = means.mean(0), means.std(0) + 1e-6
    inputs, signs = (means - centre) / spread, np.where(passed, 1.0, -1.0)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = parameters[:-1], parameters[-1]
        margins = signs * (inputs @ w + b)
        slopes = -signs / (1 + np.exp(np.clip(margins, -30, 30))) / len(signs)
        value = np.logaddexp(0, -margins).mean() + _RIDGE * w @ w
        return float(value), np.append(inputs.T @ slopes + 2 * _RIDGE * w, slopes.sum())

    found = minimize(loss, np.zeros(vectors.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    direction = found[:-1] / spread
    return (vectors @ direction).astype(np.float32), float(found[-1] - centre @ direction)


def _seconds(proxy: Proxy, sieve: Sieve, texts: Sequence[str]) -> tuple[float, float]:
    """Medians of the seconds without and with the sieve, in turns."""
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        list(answer(proxy, texts))
        between = time.perf_counter()
        list(answer(proxy, texts, sieve=sieve))
        rounds.append((between - began, time.perf_counter() - between))
    without, with_it = zip(*rounds, strict=True)
    return statistics.median(without), statistics.median(with_it)
