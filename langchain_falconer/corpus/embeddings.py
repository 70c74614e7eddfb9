"""Embeddings of the passages of corpora on disk, and search among those of one corpus.

A passage is known by a hash of its text, so that each distinct one is embedded once, in whichever file it stands: a
file that grew, was copied or is read again costs only what is new in it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from langchain_falconer.errors import CorpusError

Keys = NDArray[np.uint64]
Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], np.ndarray]
"""Returns a unit vector (n, d) of each text."""
ScoreFn = Callable[[Vectors], np.ndarray]
"""Returns scores (n, targets) of vectors (n, d)."""

_KEY, _VALUE = np.dtype("<u8"), np.dtype("<f2")
_BLOCK = 4_096  # passages that are embedded before they are written: the most work that a crash costs
_SCORED = 16_384  # vectors that are held in memory at once


def passage_key(text: str) -> int:
    """Return the hash by which a passage is known (64 bits; those of a million passages differ but for 1 in 10^7)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def passage_keys(texts: Iterable[str]) -> Keys:
    """Return the keys of passages."""
    return np.fromiter(map(passage_key, texts), _KEY)


class KeyCollector:
    """Collects the keys of the distinct passages of a stream; of more than ``limit``, a uniform draw of that many.

    The draw is the passages with the lowest keys (bottom-k sampling): the same in any order, and as a corpus grows,
    what remains in it was in it before. Memory is O(limit).

    Args:
        limit: Maximum number of keys.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_sample = False
        self._highest = 2**64
        self._keys = array("Q")

    def watch(self, passages: Iterable[str]) -> Iterator[str]:
        """Yield the passages, and collect their keys."""
        for text in passages:
            key = passage_key(text)
            if key < self._highest:
                self._keys.append(key)
                if len(self._keys) >= 2 * self.limit + _BLOCK:
                    self._reduce()
            yield text

    def keys(self) -> Keys:
        """Return the keys, sorted."""
        self._reduce()
        return np.array(self._keys, _KEY)

    def _reduce(self) -> None:
        distinct = np.unique(np.array(self._keys, _KEY))
        if len(distinct) > self.limit:
            self.is_sample = True
            distinct = distinct[: self.limit]
            self._highest = int(distinct[-1]) + 1
        self._keys = array("Q", distinct.tobytes())


class EmbeddingStore:
    """Embeddings in a folder, by the key of their passage: float16, memory-mapped, only ever appended to.

    ``vectors.f16`` holds a row for each key in ``keys.u64``. Vectors are written and synchronised before their keys, so
    that a key on disk has its vector; what a killed process wrote beyond is overwritten. Several processes may append.

    Args:
        folder: Created on first use. It belongs to one way of embedding, after which it is named.
        width: Length d of a vector.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width

    def keys(self) -> Keys:
        """Return the keys of all rows."""
        file = self.folder / "keys.u64"
        if not file.is_file():
            return np.empty(0, _KEY)
        size = file.stat().st_size // _KEY.itemsize
        return np.fromfile(file, _KEY, size)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Return the vectors (n, d) of rows; the file is mapped meanwhile, so that what was read counts no longer."""
        if not len(rows):
            return np.empty((0, self.width), np.float32)
        with (
            (self.folder / "vectors.f16").open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            stored = np.frombuffer(mapped, _VALUE)
            vectors = stored[: len(stored) // self.width * self.width].reshape(-1, self.width)[rows].astype(np.float32)
            del stored  # a map that is still referred to cannot be closed
        return vectors

    def append(self, keys: Keys, vectors: np.ndarray) -> None:
        """Append the vectors (n, d) of passages that are not there yet.

        Raises:
            CorpusError: The folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                known = self.keys()
                new = ~np.isin(keys, known)
                _write_at(self.folder / "vectors.f16", len(known) * self.width, vectors[new].astype(_VALUE))
                _write_at(self.folder / "keys.u64", len(known), keys[new].astype(_KEY))
        except OSError as error:
            message = f"{self.folder} cannot be written: {error.strerror}; free space or choose another home"
            raise CorpusError(message, path=self.folder) from error


def _write_at(file: Path, n: int, values: np.ndarray) -> None:
    """Write values after the first ``n`` of a file, in place of what follows these."""
    file.touch()
    with file.open("rb+") as out:
        out.truncate(n * values.itemsize)
        out.seek(0, 2)
        out.write(np.ascontiguousarray(values).tobytes())
        out.flush()
        os.fsync(out.fileno())


@dataclass(frozen=True)
class PassageIndex:
    """The embedded passages of a corpus, in the order of their keys.

    Scores are exact: every vector is compared, a block at a time, so that memory is flat.

    Attributes:
        passages: Opens the passages of the corpus anew.
        keys: Keys of the passages, sorted.
        store: Holds their embeddings.
        embed: Embeds texts as the passages were.
    """

    passages: Callable[[], Iterable[str]]
    keys: Keys
    store: EmbeddingStore
    embed: Embed

    def __len__(self) -> int:
        return len(self.keys)

    def build(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> PassageIndex:
        """Embed the passages that the store lacks, and return this index.

        Args:
            on_progress: Called as ``on_progress(done, total)``, in passages, after each of at most 4,096.

        Raises:
            CorpusError: The store cannot be written, or the corpus not be read.
        """
        missing = np.setdiff1d(self.keys, self.store.keys())
        done, total = 0, len(missing)
        block: dict[int, str] = {}
        for key, text in self._selected(missing) if total else ():
            block[key] = text
            if len(block) == _BLOCK or done + len(block) == total:
                self.store.append(np.fromiter(block, _KEY), self.embed(list(block.values())))
                done += len(block)
                on_progress(done, total)
                block = {}
        if done < total:
            raise CorpusError("the corpus changed while it was read; run again once nothing writes to it")
        return self

    def texts(self, rows: Iterable[int]) -> list[str]:
        """Return the passages at these rows, in one pass over the corpus."""
        keys = self.keys[list(rows)].tolist()
        found = dict(self._selected(np.unique(np.array(keys, _KEY))))
        if len(found) < len(set(keys)):
            raise CorpusError("the corpus changed while it was read; run again once nothing writes to it")
        return [found[key] for key in keys]

    def rows(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of those of the texts that are passages of the index."""
        keys = passage_keys(texts)
        return np.flatnonzero(np.isin(self.keys, keys))

    def vectors_of(self, texts: Sequence[str]) -> Vectors:
        """Return the unit vectors (n, d) of texts; those that are no passages of the index are embedded now."""
        keys = passage_keys(texts)
        rows = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        new = np.flatnonzero(self.keys[rows] != keys)
        vectors = self.vectors(rows)
        if len(new):
            vectors[new] = self.embed([texts[i] for i in new.tolist()])
        return vectors

    def vectors(self, rows: Iterable[int]) -> Vectors:
        """Return the unit vectors (n, d) of rows."""
        return self.store.vectors(self._at[np.fromiter(rows, np.int64)])

    def top(self, score: ScoreFn, n: int, exclude: Collection[int] = ()) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return the rows with the ``n`` highest scores for each target.

        Args:
            score: Returns the scores (n, targets) of vectors.
            n: Number of rows; fewer are returned where there are no more.
            exclude: Rows that are left out.

        Returns:
            Scores and rows, each of shape (targets, at most n), best first; equal scores in the order of rows.
        """
        allowed = np.ones(len(self), np.bool_)
        allowed[list(exclude)] = False
        in_store = np.argsort(self._at)  # so that a block of rows lies together on disk, and its pages are read once
        in_store = in_store[allowed[in_store]]
        best: tuple[np.ndarray, NDArray[np.int64]] | None = None
        for start in range(0, len(in_store), _SCORED):
            rows = in_store[start : start + _SCORED]
            scores = np.asarray(score(self.vectors(rows)), np.float32).T
            places = np.broadcast_to(rows, scores.shape)
            if best is not None:
                scores, places = np.concatenate([best[0], scores], 1), np.concatenate([best[1], places], 1)
            order = np.lexsort((places, -scores), axis=1)[:, :n]
            best = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        return best if best is not None else (np.empty((0, 0), np.float32), np.empty((0, 0), np.int64))

    def _selected(self, keys: Keys) -> Iterator[tuple[int, str]]:
        """Yield the passages with these keys (sorted), the first of each key."""
        wanted = np.ones(len(keys), np.bool_)
        passages = iter(self.passages())
        while wanted.any() and (texts := list(islice(passages, _BLOCK))):
            own = passage_keys(texts)
            at = np.searchsorted(keys, own).clip(max=len(keys) - 1)
            for i in np.flatnonzero(keys[at] == own):
                if wanted[at[i]]:
                    wanted[at[i]] = False
                    yield int(own[i]), texts[i]

    @cached_property
    def _at(self) -> NDArray[np.int64]:
        """The row in the store of each row of the index."""
        stored = self.store.keys()
        order = np.argsort(stored, kind="stable")
        return order[np.searchsorted(stored, self.keys, sorter=order)]
