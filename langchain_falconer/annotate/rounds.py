"""The texts of a later round: those that a proxy doubts, balanced over the steps, different, and a uniform share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from langchain_falconer.annotate.candidates import DUPLICATE_COSINE
from langchain_falconer.annotate.splits import Sample
from langchain_falconer.corpus import near_duplicates
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import Answers, Label, Span

Vectors = npt.NDArray[np.float32]

_UNIFORM_SHARE = 0.25
"""Share of a round that is drawn uniformly: what a proxy never doubts, though it is wrong, is found by chance alone."""


def next_round(
    plan: Plan,
    sample: Sample,
    answers: Sequence[Answers],
    n: int,
    seed: int,
    *,
    others: Sequence[Answers] | None = None,
    vectors: Vectors | None = None,
) -> Sample:
    """Move texts of the pool to the training texts; development and test texts stay as they are.

    See :func:`choose_doubtful` on the arguments: ``answers``, ``others`` and ``vectors`` are those of the pool.
    """
    chosen = choose_doubtful(plan, answers, n, seed, others=others, vectors=vectors)
    taken = set(chosen)
    pool = [text for i, text in enumerate(sample.pool) if i not in taken]
    return replace(sample, train=[*sample.train, *(sample.pool[i] for i in chosen)], pool=pool)


def choose_doubtful(
    plan: Plan,
    answers: Sequence[Answers],
    n: int,
    seed: int,
    *,
    others: Sequence[Answers] | None = None,
    vectors: Vectors | None = None,
) -> list[int]:
    """Choose the texts of a pool that a later round annotates.

    Three quarters are the texts that the proxy doubts most, for each step in turn; a quarter is drawn uniformly from
    the rest. Doubt is one minus the score of the least certain answer, plus the disagreement with another network.
    Texts without a span of any step come after all others: a proxy is least certain of empty texts, which teach little
    (such a choice loses to chance). Near-duplicates are chosen only when nothing else remains.

    Args:
        plan: The plan.
        answers: The proxy's answers about each text of the pool, with ``where`` applied.
        n: Number of texts to choose.
        seed: Random seed; equal seeds give equal choices.
        others: Answers of another network about the same texts, such as the one that training started from.
        vectors: Unit vectors of the texts, shape (texts, dimensions).

    Returns:
        Indices into the pool, without repeats: the doubtful texts first, the most doubtful in front.
    """
    ordered = list(_by_doubt(plan, answers, others))
    if vectors is not None and ordered:
        is_new = near_duplicates(vectors[ordered], DUPLICATE_COSINE)
        ordered = [i for wanted in (True, False) for i, new in zip(ordered, is_new, strict=True) if new == wanted]
    n = min(n, len(answers))
    doubtful = ordered[: n - round(_UNIFORM_SHARE * n)]
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(answers)), doubtful))
    return [*doubtful, *rest[: n - len(doubtful)].tolist()]


def _by_doubt(plan: Plan, answers: Sequence[Answers], others: Sequence[Answers] | None) -> Iterator[int]:
    """Yield the indices of texts: each step's most doubtful one, then each one's second, and so on.

    A text counts for a span step only where a network found a span.
    """
    pairs = list(zip(answers, others or answers, strict=True))
    ranked = []
    for step in plan.steps:
        doubts = {i: doubt for i, pair in enumerate(pairs) if (doubt := _doubt(plan, step, *pair)) is not None}
        ranked.append(sorted(doubts, key=lambda i: -doubts[i]))
    yield from dict.fromkeys(i for row in zip_longest(*ranked) for i in row if i is not None)


def _doubt(plan: Plan, step: LabelStep | SpanStep, own: Answers, other: Answers) -> float | None:
    """Return the doubt about a step's answer, in [0, 2]; None where it does not apply, or neither finds a span."""
    found, found_by_other = _found(plan, step, own), _found(plan, step, other)
    if not found and not (found_by_other and (step.id in own.labels or step.id in own.spans)):
        return None
    scores = [item.score for item in found]
    uncertainty = 1 - min([*scores, own.none_prob.get(step.id, 1.0)])
    mine, theirs = ({_identity(item) for item in items} for items in (found, found_by_other))
    return uncertainty + 1 - len(mine & theirs) / len(mine | theirs)


def _found(plan: Plan, step: LabelStep | SpanStep, answers: Answers) -> list[Label | Span]:
    """Return the labels or spans that answer a step, about the text or about each span of its parent step."""
    holders: list[Answers | Span] = [answers]
    if step.of is not None:
        holders = [span for span in _found(plan, plan[step.of], answers) if isinstance(span, Span)]
    labels = [holder.labels[step.id] for holder in holders if step.id in holder.labels]
    return [*labels, *(span for holder in holders for span in holder.spans.get(step.id, ()))]


def _identity(answer: Label | Span) -> object:
    return answer.value if isinstance(answer, Label) else (answer.start, answer.end)
