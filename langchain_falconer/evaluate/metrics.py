"""Metrics of answers against gold answers: precision, recall and F1 of spans, accuracy and F1 of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

from langchain_falconer.evaluate.intervals import Proportion, proportion_by_text
from langchain_falconer.records import FrozenModel, LabelValue

Counts = tuple[int, int, int]
"""True positives, false positives, false negatives."""


class F1Scores(FrozenModel):
    """Precision, recall and F1 with the counts behind them.

    Without gold and predicted items all three are 1.0 (as in SQuAD 2.0); otherwise a ratio with denominator 0 is 0.0
    (as in conlleval, seqeval and scikit-learn). The interval of a ratio with denominator 0 is [0, 1].

    Attributes:
        precision: Precision with its interval.
        recall: Recall with its interval.
        f1: F1 with its interval.
        tp: Number of true positives.
        fp: Number of false positives.
        fn: Number of false negatives.
    """

    precision: Proportion
    recall: Proportion
    f1: Proportion
    tp: int
    fp: int
    fn: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def support(self) -> int:
        """Number of gold items."""
        return self.tp + self.fn


class LabelScores(FrozenModel):
    """Agreement of labels, over all answers and by class.

    Attributes:
        accuracy: Share of answers that are exactly right (for a multi-label answer, the whole set).
        macro_f1: Unweighted mean of F1 over ``classes``.
        micro: Scores of the pooled labels of multi-label answers; None for other steps, where they equal accuracy.
        classes: Scores of each class that occurs in gold or predicted answers.
    """

    accuracy: Proportion
    macro_f1: float
    micro: F1Scores | None
    classes: Mapping[str, F1Scores]


def span_scores(
    gold: Sequence[Sequence[tuple[int, int]]],
    predicted: Sequence[Sequence[tuple[int, int]]],
    texts: Sequence[int] | None = None,
) -> F1Scores:
    """Compute micro precision, recall and F1 of spans; a span is right only at exactly its offsets.

    Args:
        gold: (start, end) of the gold spans of each answer.
        predicted: (start, end) of the predicted spans of each answer.
        texts: Index of the text of each answer; by default every answer has a text of its own.

    Raises:
        ValueError: The numbers of gold and predicted answers (or ``texts``) differ.
    """
    _check_lengths(gold, predicted, texts)
    return _f1([_counts(frozenset(g), frozenset(p)) for g, p in zip(gold, predicted, strict=True)], texts)


def label_scores(
    gold: Sequence[LabelValue], predicted: Sequence[LabelValue | None], texts: Sequence[int] | None = None
) -> LabelScores:
    """Compute accuracy, macro F1 and scores by class of labels; truth values are the classes ``true`` and ``false``.

    Args:
        gold: Gold answers; lists for a multi-label step.
        predicted: Predicted answers; None, a missing answer, is wrong.
        texts: Index of the text of each answer; by default every answer has a text of its own.

    Raises:
        ValueError: There is no answer, or the numbers of gold and predicted answers (or ``texts``) differ.
    """
    _check_lengths(gold, predicted, texts)
    if not gold:
        raise ValueError("there is no answer to score; give at least one")
    pairs = [(label_classes(g), None if p is None else label_classes(p)) for g, p in zip(gold, predicted, strict=True)]
    multi = any(isinstance(value, list | tuple) for value in (*gold, *predicted))
    classes = _class_scores(pairs, texts if texts is not None else range(len(pairs)))
    return LabelScores(
        accuracy=share_by_text([g == p for g, p in pairs], texts),
        macro_f1=float(np.mean([scores.f1.value for scores in classes.values()])) if classes else 1.0,
        micro=_f1([_counts(g, p or frozenset()) for g, p in pairs], texts) if multi else None,
        classes=classes,
    )


def label_classes(value: LabelValue) -> frozenset[str]:
    """Return the classes of an answer; two answers are equal exactly if their classes are."""
    if isinstance(value, bool):
        return frozenset({"true" if value else "false"})
    return frozenset({value} if isinstance(value, str) else value)


def share_by_text(right: Sequence[bool], texts: Sequence[int] | None, level: float = 0.95) -> Proportion:
    """Compute the share of correct answers, with an interval for answers clustered by text."""
    by_text = _sums([(int(r), 1) for r in right], texts)
    return proportion_by_text(by_text[:, 0], by_text[:, 1], level)


_Pair = tuple[frozenset[str], frozenset[str] | None]


def _class_scores(pairs: Sequence[_Pair], texts: Sequence[int]) -> dict[str, F1Scores]:
    counts: dict[str, list[Counts]] = {}
    class_texts: dict[str, list[int]] = {}
    for (gold, predicted), text in zip(pairs, texts, strict=True):
        for name in gold | (predicted or frozenset()):
            one = frozenset({name})
            counts.setdefault(name, []).append(_counts(gold & one, (predicted or frozenset()) & one))
            class_texts.setdefault(name, []).append(text)
    return {name: _f1(counts[name], class_texts[name]) for name in sorted(counts)}


def _counts(gold: frozenset[Any], predicted: frozenset[Any]) -> Counts:
    right = len(gold & predicted)
    return right, len(predicted) - right, len(gold) - right


def _f1(counts: Sequence[Counts], texts: Sequence[int] | None) -> F1Scores:
    by_text = _sums(counts, texts)
    tp, fp, fn = (int(total) for total in by_text.sum(axis=0))
    right = by_text[:, 0]
    return F1Scores(
        precision=_ratio(right, right + by_text[:, 1], if_undefined=tp + fp + fn == 0),
        recall=_ratio(right, right + by_text[:, 2], if_undefined=tp + fp + fn == 0),
        f1=_f1_of(proportion_by_text(right, by_text.sum(axis=1))),
        tp=tp,
        fp=fp,
        fn=fn,
    )


def _ratio(right: NDArray[np.int64], items: NDArray[np.int64], *, if_undefined: bool) -> Proportion:
    share = proportion_by_text(right, items)
    return share if items.any() else share.model_copy(update={"value": float(if_undefined)})


def _f1_of(jaccard: Proportion) -> Proportion:
    """Convert J = tp / (tp + fp + fn), a plain share, to F1 = 2J / (1 + J), its exact interval included."""
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Proportion(value=value, low=low, high=high, level=jaccard.level, n=jaccard.n)


def _sums(counts: Sequence[tuple[int, ...]], texts: Sequence[int] | None) -> NDArray[np.int64]:
    """Sum counts by text; returns shape (texts, columns)."""
    rows = np.asarray(counts, dtype=np.int64).reshape(len(counts), len(counts[0]) if counts else 3)
    if texts is None:
        return rows
    _, group = np.unique(np.asarray(texts, dtype=np.int64), return_inverse=True)
    sums = np.zeros((int(group.max(initial=-1)) + 1, rows.shape[1]), dtype=np.int64)
    np.add.at(sums, group, rows)
    return sums


def _check_lengths(gold: Sequence[Any], predicted: Sequence[Any], texts: Sequence[int] | None) -> None:
    if len(gold) != len(predicted) or (texts is not None and len(texts) != len(gold)):
        raise ValueError(f"{len(gold)} gold answers, but {len(predicted)} predicted ones; give one for each")
