"""Selection of texts to annotate: a mixed sample first, then the texts with the lowest confidence of the proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from langchain_falconer.corpus import PassageIndex, diverse, near_duplicates, nearest

Vectors = npt.NDArray[np.float32]

_DUPLICATE_COSINE = 0.95
"""Cosine similarity from which two texts count as near-duplicates: annotating both adds little."""
_CANDIDATES = 3  # passages that are retrieved for each that is wanted, as some are near-duplicates


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
    steps' instructions, where rare positives are. Near-duplicates are used only when nothing else remains. Without
    vectors all are drawn uniformly. An unbiased estimate needs a separate uniform sample.

    Args:
        pool: The texts.
        n: Number of texts to choose; fewer are returned if the pool has fewer distinct texts.
        seed: Random seed; equal seeds give equal choices.
        vectors: Unit vectors of the texts, shape (texts, dimensions).
        instructions: Unit vectors of the steps' instructions, shape (steps, dimensions).

    Returns:
        Indices into the pool, without repeats, in random order (so that every prefix is mixed too).
    """
    rng = np.random.default_rng(seed)
    distinct = list({text: i for i, text in reversed(list(enumerate(pool)))}.values())[::-1]
    shuffled: list[int] = rng.permutation(distinct).tolist()
    if vectors is None or n >= len(distinct):
        return shuffled[:n]
    representatives = set(np.array(distinct)[near_duplicates(vectors[distinct], _DUPLICATE_COSINE)].tolist())
    dissimilar = [i for i in shuffled if i in representatives]
    third = n // 3
    chosen = dict.fromkeys(dissimilar[: n - 2 * third])
    if instructions is not None:
        rest = [i for i in dissimilar if i not in chosen]
        _, rows = nearest(instructions, vectors[rest], third)
        by_rank = dict.fromkeys(rows.T.ravel().tolist())  # each instruction's nearest, then each one's second, ...
        chosen |= dict.fromkeys(rest[row] for row in list(by_rank)[:third])
    rest = [i for i in dissimilar if i not in chosen]
    chosen |= dict.fromkeys(rest[row] for row in diverse(vectors[rest], third, seed)) if rest else {}
    chosen |= dict.fromkeys([i for i in [*dissimilar, *shuffled] if i not in chosen][: n - len(chosen)])
    return [int(i) for i in rng.permutation(list(chosen))]


def retrieve(index: PassageIndex, queries: Sequence[str], n: int, exclude: Iterable[str] = ()) -> list[str]:
    """Retrieve the passages of a whole corpus that are nearest to questions or to example texts.

    Each query gives its nearest passage, then each its second nearest, and so on; near-duplicates (cosine 0.95) of what
    was retrieved before are left out.

    Args:
        index: The passages.
        queries: Instructions, names and descriptions of labels, or texts whose like is wanted.
        n: Number of passages; fewer are returned where there are no more.
        exclude: Texts that are left out, such as those that are annotated or held out.

    Returns:
        Distinct passages, the nearest first.
    """
    if not queries or n < 1:
        return []
    vectors = index.embed(list(queries))
    _, rows = index.top(lambda passages: passages @ vectors.T, _CANDIDATES * n, index.rows(exclude))
    return index.texts(dissimilar(index, rows, n))


def dissimilar(index: PassageIndex, ranked: npt.NDArray[np.int64], n: int) -> list[int]:
    """Select rows of an index from several rankings (rankings, rows), in turn, without near-duplicates."""
    candidates = list(dict.fromkeys(ranked.T.ravel().tolist()))
    distinct = np.flatnonzero(near_duplicates(index.vectors(candidates), _DUPLICATE_COSINE))
    return [candidates[at] for at in distinct[:n]]


def most_uncertain(scores: Sequence[float], n: int) -> list[int]:
    """Return the indices of the ``n`` lowest scores (probabilities of the decisions), the lowest first."""
    return [int(i) for i in np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")[:n]]
