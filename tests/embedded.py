"""Texts embedded without a network: a text is near to those with the same first word."""

from __future__ import annotations

import hashlib

import numpy as np

from langchain_falconer.corpus import EmbeddingStore, KeyCollector, PassageIndex

WIDTH = 32


class Encoder:
    """Embeds a text as a pseudo-random unit vector near that of its first word, and counts what it embeds."""

    def __init__(self):
        self.texts = []
        self.dies_after = None

    def __call__(self, texts):
        if self.dies_after is not None and len(self.texts) >= self.dies_after:
            raise KeyboardInterrupt
        self.texts += texts
        vectors = np.stack([self._of(text.split(" ")[0]) + 0.5 * self._of(text) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    @staticmethod
    def _of(text):
        return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=WIDTH).digest(), np.uint8) / 127.5 - 1


def index_of(texts, folder, encoder, limit=1_000_000):
    collector = KeyCollector(limit)
    assert list(collector.watch(texts)) == list(texts)
    return PassageIndex(lambda: texts, collector.keys(), EmbeddingStore(folder, WIDTH), encoder)


def words(n, first="word"):
    return [f"{first} {i}" for i in range(n)]
