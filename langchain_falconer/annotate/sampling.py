"""Which texts to annotate: a mixed sample to begin with, then those on which the proxy is least sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from langchain_falconer.corpus import diverse, near_duplicates, nearest

Vectors = npt.NDArray[np.float32]

_SAME = 0.95
"""Cosine from which two texts count as near-duplicates: annotating both teaches little."""


def choose(
    pool: Sequence[str],
    n: int,
    seed: int,
    *,
    vectors: Vectors | None = None,
    instructions: Vectors | None = None,
) -> list[int]:
    """Choose texts of a pool to annotate for training.

    A third is drawn uniformly, a third spread over the pool's k-means clusters, and a third lies nearest to the
    steps' instructions, where rare positives are. Near-duplicates are passed over as long as there are others.
    Without vectors all are drawn uniformly. For an unbiased estimate draw a uniform sample apart from this one.

    Args:
        pool: the texts.
        n: how many to choose (fewer come back if the pool has fewer distinct texts).
        seed: equal seeds give equal choices.
        vectors: unit vectors of the texts, shape (texts, dimensions).
        instructions: unit vectors of the steps' instructions, shape (steps, dimensions).

    Returns:
        Indices into the pool, without repeats, in random order (so that any beginning of it is mixed too).
    """
    rng = np.random.default_rng(seed)
    distinct = list({text: i for i, text in reversed(list(enumerate(pool)))}.values())[::-1]
    shuffled: list[int] = rng.permutation(distinct).tolist()
    if vectors is None or n >= len(distinct):
        return shuffled[:n]
    kept = set(np.array(distinct)[near_duplicates(vectors[distinct], _SAME)].tolist())
    unlike = [i for i in shuffled if i in kept]
    third = n // 3
    chosen = dict.fromkeys(unlike[: n - 2 * third])
    if instructions is not None:
        rest = [i for i in unlike if i not in chosen]
        _, rows = nearest(instructions, vectors[rest], third)
        in_turn = dict.fromkeys(rows.T.ravel().tolist())  # each instruction's nearest, then each one's second, ...
        chosen |= dict.fromkeys(rest[row] for row in list(in_turn)[:third])
    rest = [i for i in unlike if i not in chosen]
    chosen |= dict.fromkeys(rest[row] for row in diverse(vectors[rest], third, seed)) if rest else {}
    chosen |= dict.fromkeys([i for i in [*unlike, *shuffled] if i not in chosen][: n - len(chosen)])
    return [int(i) for i in rng.permutation(list(chosen))]


def most_uncertain(scores: Sequence[float], n: int) -> list[int]:
    """The indices of the ``n`` lowest scores (the probabilities of what was decided), the least sure first."""
    return [int(i) for i in np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")[:n]]
