"""Candidates for rare answers: passages of a whole corpus to which a step may answer what few annotated texts answer.

Active search (Garnett et al., arXiv 1206.6406) with a linear classifier of passage embeddings for each possible answer:
it starts from the words of the question, and is fitted to the annotations so far (relevance feedback, Rocchio 1971).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.annotate.view import Annotation
from langchain_falconer.corpus import PassageIndex, near_duplicates
from langchain_falconer.records import Answers

Vectors = NDArray[np.float32]

_RARE = 0.1
"""Share of the uniform annotations below which an answer is rare."""
_PENALTY, _BIAS_PENALTY = 0.03, 0.0003
_FEW, _MANY = 3, 20  # examples of an answer; its boundary is not known yet, and is what is left to learn
_MAX_ANSWERS = 32
DUPLICATE_COSINE = 0.95
"""Cosine similarity from which two texts count as near-duplicates: annotating both adds little."""
_CANDIDATES = 5  # passages that are ranked for each that is wanted, as some are near-duplicates


@dataclass(frozen=True, eq=False)
class PossibleAnswer:
    """An answer that a step may give, and the linear classifier of embeddings that the words of the step make of it.

    Attributes:
        step: Id of the step.
        value: True or False of a yes/no step, an option, or None for any span.
        weight: Weights of the logit, (d,).
        bias: Bias of the logit.
    """

    step: str
    value: bool | str | None
    weight: Vectors
    bias: float

    @property
    def direction(self) -> Vectors:
        """The weights as a unit vector (d,)."""
        return self.weight / np.float32(max(1e-9, float(np.linalg.norm(self.weight))))

    def is_in(self, answers: Answers) -> bool | None:
        """Return whether this is among the answers about a text; None where the step was not answered."""
        if self.value is None:
            spans = answers.spans.get(self.step)
            return None if spans is None else bool(spans)
        label = answers.labels.get(self.step)
        if label is None:
            return None
        return self.value in label.value if isinstance(label.value, tuple) else label.value == self.value

    def fitted(self, vectors: Vectors, truths: NDArray[np.bool_]) -> PossibleAnswer:
        """Return the classifier fitted to annotated texts, and otherwise near to that of the words."""
        from scipy.optimize import minimize
        from scipy.special import expit

        start = np.append(self.weight, self.bias).astype(np.float64)
        penalty = np.append(np.full(len(self.weight), _PENALTY), _BIAS_PENALTY)
        inputs = np.hstack([vectors.astype(np.float64), np.ones((len(vectors), 1))])

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            logits, moved = inputs @ parameters, parameters - start
            value = (np.logaddexp(0, logits) - truths * logits).sum() + (penalty * moved**2).sum()
            return float(value), inputs.T @ (expit(logits) - truths) + 2 * penalty * moved

        found = minimize(loss, start, jac=True, method="L-BFGS-B").x
        return PossibleAnswer(self.step, self.value, found[:-1].astype(np.float32), float(found[-1]))


def retrieve(index: PassageIndex, queries: Sequence[str] | Vectors, n: int, exclude: Iterable[str] = ()) -> list[str]:
    """Retrieve the passages of a whole corpus that are nearest to questions or to example texts.

    Each query gives its nearest passage, then each its second nearest, and so on; near-duplicates (cosine 0.95) of what
    was retrieved before are left out.

    Args:
        index: The passages.
        queries: Instructions, names and descriptions of labels, or texts whose like is wanted; or vectors (queries, d).
        n: Number of passages; fewer are returned where there are no more.
        exclude: Texts that are left out, such as those that are annotated or held out.

    Returns:
        Distinct passages, the nearest first.
    """
    if not len(queries) or n < 1:
        return []
    vectors = queries if isinstance(queries, np.ndarray) else index.embed(list(queries))
    _, rows = index.top(lambda passages: passages @ vectors.T, _CANDIDATES * n, index.rows(exclude))
    return index.texts(_dissimilar(index, rows, n))


def rare_answers(
    possible: Sequence[PossibleAnswer], annotations: Sequence[Annotation], n_uniform: int, enough: int
) -> list[PossibleAnswer]:
    """Return the answers that few texts of the corpus give, those with the fewest annotations first, at most 32.

    Args:
        possible: The answers that the steps may give.
        annotations: Annotations of training texts, those of the uniform ones first.
        n_uniform: Number of the uniform ones.
        enough: Annotations with an answer from which on no more are sought.
    """
    found: list[tuple[int, int, PossibleAnswer]] = []
    for number, answer in enumerate(possible):
        truths = [answer.is_in(a.answers) for a in annotations]
        uniform = [truth for truth in truths[:n_uniform] if truth is not None]
        count = truths.count(True)
        if uniform and sum(uniform) < _RARE * len(uniform) and count < enough:
            found.append((count, number, answer))
    return [answer for _, _, answer in sorted(found, key=lambda one: one[:2])[:_MAX_ANSWERS]]


def candidates(
    index: PassageIndex,
    rare: Sequence[PossibleAnswer],
    annotations: Sequence[Annotation],
    n: int,
    exclude: Iterable[str],
) -> list[str]:
    """Return passages that show where rare answers begin: likely ones, and doubtful ones.

    For each rare answer a classifier is fitted to the annotations. In turn it gives the passages that it scores
    highest, until there are 20 examples, and, from three on, those at its boundary and a little below: unusual
    examples, and the hard negatives without which a proxy that knows an answer from its examples finds it everywhere.

    Args:
        index: The passages.
        rare: The rare answers.
        annotations: The annotations to learn from; held-out ones are none of them.
        n: Number of passages.
        exclude: Passages that are left out.
    """
    vectors = index.vectors_of([a.text for a in annotations])
    fitted, counts = [], []
    for answer in rare:
        truths = [answer.is_in(a.answers) for a in annotations]
        own = np.array([truth is not None for truth in truths])
        fitted.append(answer.fitted(vectors[own], np.array([truth for truth in truths if truth is not None])))
        counts.append(truths.count(True))
    weights, biases = np.stack([f.weight for f in fitted]), np.array([f.bias for f in fitted], np.float32)
    few, many = np.array(counts) < _FEW, np.array(counts) >= _MANY

    def score(passages: Vectors) -> Vectors:
        logits = passages @ weights.T + biases
        doubtful, known = logits[:, ~few], logits[:, many]
        return np.hstack([logits[:, ~many], -np.abs(doubtful), -np.abs(doubtful + 1.0), -np.abs(known + 2.0)])

    _, rows = index.top(score, _CANDIDATES * n, index.rows(exclude))
    return index.texts(_dissimilar(index, rows, n))


def _dissimilar(index: PassageIndex, ranked: NDArray[np.int64], n: int) -> list[int]:
    """Select rows of an index from several rankings (rankings, rows), in turn, without near-duplicates."""
    ordered = list(dict.fromkeys(ranked.T.ravel().tolist()))[: _CANDIDATES * n]
    distinct = np.flatnonzero(near_duplicates(index.vectors(ordered), DUPLICATE_COSINE))
    return [ordered[at] for at in distinct[:n]]
