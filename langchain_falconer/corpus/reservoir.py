"""A uniform sample of a stream, in one pass."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def sample_uniform(items: Iterable[T], n: int, seed: int, key: Callable[[T], str]) -> list[T]:
    """Draw items uniformly over their distinct texts; of items with the same text, the first one.

    Bottom-k sampling (Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches"): the items whose texts have
    the lowest keyed hashes. One pass, O(n) memory; the same texts in any order give the same sample, and a smaller
    sample is a prefix of a larger one with the same seed.

    Args:
        items: The stream.
        n: Size of the sample.
        seed: Key of the hash.
        key: Function from an item to its text.

    Returns:
        At most ``n`` items, ordered by hash.
    """
    secret = seed.to_bytes(32, "big", signed=True)
    heap: list[int] = []  # negated ranks: the highest selected rank is on top
    chosen: dict[int, T] = {}
    for item in items:
        data = key(item).encode("utf-8", "surrogatepass")
        rank = int.from_bytes(hashlib.blake2b(data, digest_size=16, key=secret).digest(), "big")
        if rank in chosen or (heap and len(heap) == n and rank > -heap[0]):
            continue
        chosen[rank] = item
        heapq.heappush(heap, -rank)
        if len(heap) > n:
            del chosen[-heapq.heappop(heap)]
    return [chosen[rank] for rank in sorted(chosen)]
