"""Exact vector search with FAISS: near-duplicates, diverse samples, nearest neighbours.

All functions take float32 arrays of shape (n, d) whose rows are L2-normalised, so that a dot product is a cosine.
FAISS runs on one thread here: the same input gives the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_falconer.errors import CorpusError

Vectors = NDArray[np.float32]
_BLOCK = 1024


@contextmanager
def _faiss() -> Iterator[Any]:
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(threads)


def _checked(vectors: Vectors) -> Vectors:
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim != 2 or not matrix.shape[1] or not np.isfinite(matrix).all():
        raise CorpusError(f"vectors of shape {matrix.shape} are not a finite (n, d) matrix; give one row per text")
    return matrix


def near_duplicates(vectors: Vectors, threshold: float = 0.95) -> NDArray[np.bool_]:
    """Return a mask of the rows that remain after near-duplicates are removed.

    Rows are visited in order; one remains unless its cosine with an earlier remaining row is at least ``threshold``.
    Memory is O(n d), however many duplicates there are.

    Args:
        vectors: Shape (n, d).
        threshold: Cosine from which two rows are duplicates. Default 0.95.

    Returns:
        A mask of shape (n,).
    """
    matrix = _checked(vectors)
    mask = np.zeros(len(matrix), dtype=np.bool_)
    with _faiss() as faiss:
        index = faiss.IndexFlatIP(matrix.shape[1])
        for start in range(0, len(matrix), _BLOCK):
            block = matrix[start : start + _BLOCK]
            fresh = np.ones(len(block), dtype=np.bool_)
            if index.ntotal:
                fresh = index.search(block, 1)[0][:, 0] < threshold
            near = block @ block.T >= threshold
            for row in np.flatnonzero(fresh):
                fresh[row] = not (near[row, :row] & fresh[:row]).any()
            mask[start : start + _BLOCK] = fresh
            index.add(block[fresh])
    return mask


def diverse(vectors: Vectors, k: int, seed: int) -> list[int]:
    """Select representative rows: of each of ``k`` clusters (spherical k-means) the one nearest to its centre.

    Where identical rows leave clusters empty, other rows are added.

    Args:
        vectors: Shape (n, d).
        k: Number of rows to select.
        seed: Seed of the initial centres.

    Returns:
        ``min(k, n)`` distinct row numbers, those of the largest clusters first.
    """
    matrix = _checked(vectors)
    n, d = matrix.shape
    if k >= n:
        return list(range(n))
    if k < 1:
        return []
    with _faiss() as faiss:
        means = faiss.Kmeans(d, k, niter=20, seed=seed % 2**31, spherical=True, min_points_per_centroid=1)
        means.train(matrix, init_centroids=matrix[_kmeans_plusplus(matrix, k, np.random.default_rng(seed % 2**31))])
        scores, clusters = (columns[:, 0] for columns in means.index.search(matrix, 1))
    by_cluster_nearest_first = np.lexsort((np.arange(n), -scores, clusters))
    _, firsts, sizes = np.unique(clusters[by_cluster_nearest_first], return_index=True, return_counts=True)
    medoids = by_cluster_nearest_first[firsts][np.lexsort((firsts, -sizes))]
    chosen = dict.fromkeys(medoids.tolist())
    return list(chosen | dict.fromkeys(range(n)))[:k]


def _kmeans_plusplus(matrix: Vectors, k: int, random: np.random.Generator) -> list[int]:
    """Return initial rows of k-means by k-means++ (Arthur and Vassilvitskii 2007); random ones miss clusters."""
    chosen = [int(random.integers(len(matrix)))]
    distance = np.full(len(matrix), np.inf, dtype=np.float32)
    while len(chosen) < k:
        distance = np.minimum(distance, np.maximum(0, 1 - matrix @ matrix[chosen[-1]]))
        cumulative = np.cumsum(distance, dtype=np.float64)
        row = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
        chosen.append(min(row, len(matrix) - 1))
    return chosen


def nearest(queries: Vectors, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the ``k`` nearest rows of ``vectors`` (all, if fewer) for each query.

    Args:
        queries: Shape (queries, d).
        vectors: Shape (n, d).
        k: Number of neighbours.

    Returns:
        Cosines and row numbers, each of shape (queries, min(k, n)), best first.
    """
    matrix, query_matrix = _checked(vectors), _checked(queries)
    if matrix.shape[1] != query_matrix.shape[1]:
        raise CorpusError(
            f"queries have {query_matrix.shape[1]} dimensions, vectors {matrix.shape[1]}; encode both with one model"
        )
    k = max(0, min(k, len(matrix)))
    if not k or not len(query_matrix):
        return np.empty((len(query_matrix), k), np.float32), np.empty((len(query_matrix), k), np.int64)
    with _faiss() as faiss:
        index = faiss.IndexFlatIP(matrix.shape[1])
        index.add(matrix)
        scores, rows = index.search(query_matrix, k)
    return scores, rows
