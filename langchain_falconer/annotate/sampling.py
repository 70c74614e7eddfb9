"""Selection of texts to annotate: a diverse part of a pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from langchain_falconer.annotate.candidates import DUPLICATE_COSINE
from langchain_falconer.corpus import diverse, near_duplicates

Vectors = npt.NDArray[np.float32]


def choose(pool: Sequence[str], n: int, seed: int, vectors: Vectors) -> list[int]:
    """Choose texts of a pool that are unlike each other: one of each of ``n`` k-means clusters.

    Near-duplicates are used only when nothing else remains. An unbiased estimate needs a uniform sample.

    Args:
        pool: The texts, distinct.
        n: Number of texts to choose; fewer are returned if the pool has fewer.
        seed: Random seed; equal seeds give equal choices.
        vectors: Unit vectors of the texts, shape (texts, dimensions).

    Returns:
        Indices into the pool, without repeats, in random order.
    """
    rng = np.random.default_rng(seed)
    shuffled: list[int] = rng.permutation(len(pool)).tolist()
    if n >= len(pool):
        return shuffled
    distinct = np.flatnonzero(near_duplicates(vectors, DUPLICATE_COSINE))
    chosen = dict.fromkeys(distinct[diverse(vectors[distinct], n, seed)].tolist()) if n > 0 else {}
    chosen |= dict.fromkeys([i for i in shuffled if i not in chosen][: n - len(chosen)])
    return [int(i) for i in rng.permutation(list(chosen))]
