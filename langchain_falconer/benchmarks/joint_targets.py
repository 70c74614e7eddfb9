"""What one error budget for several targets saves: texts that certificates withhold from an untrained proxy."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from langchain_falconer.benchmarks.certification import TASKS, read_task
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.evaluate import Certificate, Population
from langchain_falconer.execute import TARGET_METRICS, Comparison, certify_targets
from langchain_falconer.model import Proxy, confidence_of
from langchain_falconer.settings import Targets

_TARGETS = ({"agreement": 0.7, "spans": 0.9}, {"agreement": 0.8, "spans": 0.9}, {"agreement": 0.9, "spans": 0.9})
_MAX_TEXTS = 1_500


def run(data: Path, *, draws: int = 200, certify: int = 300) -> BenchmarkTable:
    """Compare an even split of the error budget with :func:`certify_targets` on restaurant sentences (training rows).

    The human labels are the one to agree with. Each draw of texts is certified in both ways.

    Raises:
        CorpusError: The data is not there.
    """
    plan, gold = read_task(data, TASKS[1], "train")
    gold = random.Random(0).sample(gold, min(_MAX_TEXTS, len(gold)))
    proxy = Proxy.zero_shot(plan)
    comparisons = [
        Comparison.of(
            confidence_of(answers),
            proxy.record("", one.text, answers).to_dict(),
            proxy.record("", one.text, one.answers).to_dict(),
        )
        for one, answers in zip(gold, proxy.answers([one.text for one in gold]), strict=True)
    ]
    rows, is_never_worse = [], True
    for shares in _TARGETS:
        split, joint = _withheld(Targets.model_validate(shares), comparisons, draws, certify)
        saved = split - joint
        is_never_worse &= bool((saved >= 0).all())
        half = 1.96 * saved.std() / draws**0.5
        interval = f"{saved.mean() - half:.3f} to {saved.mean() + half:.3f}"
        names = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        rows.append((names, f"{split.mean():.3f}", f"{joint.mean():.3f}", f"{saved.mean():.3f}", interval))
    return {
        "title": f"{len(gold)} restaurant sentences, untrained proxy, {draws} draws of {certify} texts, 95% confidence",
        "columns": ["targets", "withheld, split", "withheld, joint", "saved", "95% interval"],
        "rows": rows,
        "verdict": "never more texts than a split" if is_never_worse else "more texts than a split in some draws",
    }


def _withheld(
    targets: Targets, comparisons: Sequence[Comparison], draws: int, certify: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of texts below the thresholds by a split and by joint certificates, each of shape (draws,)."""
    population = Population(len(comparisons), len(comparisons))
    scores = np.array([one.confidence for one in comparisons])
    shares = []
    for seed in range(draws):
        drawn = random.Random(seed).sample(list(comparisons), certify)
        split = {
            name: TARGET_METRICS[name].certify(drawn, share, targets.confidence_of(1), population)
            for name, share in targets.shares.items()
        }
        joint = certify_targets(targets, drawn, population)
        shares.append((_share_below(split, scores), _share_below(joint, scores)))
    below = np.array(shares)
    return below[:, 0], below[:, 1]


def _share_below(certificates: Mapping[str, Certificate], scores: np.ndarray) -> float:
    thresholds = [one.threshold for one in certificates.values() if one.threshold is not None]
    return float((scores <= max(thresholds)).mean()) if thresholds else 0.0
