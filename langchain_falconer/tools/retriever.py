"""A retriever over a stored corpus, by sentence embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from langchain_falconer.corpus import Document as StoredDocument
from langchain_falconer.corpus import StoredCorpus, nearest
from langchain_falconer.falconer import Falconer
from langchain_falconer.files import digest, replacing
from langchain_falconer.model import Embedder

_MAX_CHARS = 1_000  # only the beginning of a document is embedded


class CorpusRetriever(BaseRetriever):
    """A retriever of the nearest documents of a stored corpus (FAISS over the base model's sentence embeddings).

    Embeddings are computed once per partition of the corpus and cached in the home.

    Attributes:
        falconer: The Falconer whose home holds the corpus.
        corpus: Name of the corpus.
        k: Number of documents to return; ``invoke(query, k=…)`` asks for another number.

    Example:
        ``CorpusRetriever(falconer=falconer, corpus="archive", k=20).invoke("strikes at railways")``
    """

    falconer: Falconer = Field(exclude=True, repr=False)
    corpus: str
    k: int = 20

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        stored = self.falconer.corpus(self.corpus)
        embed = Embedder(self.falconer.settings.base)
        documents = [row for row in stored if isinstance(row, StoredDocument)]
        vectors = np.concatenate([self._vectors(stored, number, embed) for number in range(len(stored.partitions))])
        cosines, rows = nearest(embed([query]), vectors, self.k if k is None else k)
        return [
            Document(
                documents[row].text,
                id=documents[row].id,
                metadata={**documents[row].metadata, "cosine": round(float(cosine), 4)},
            )
            for row, cosine in zip(rows[0], cosines[0], strict=True)
        ]

    def _vectors(self, stored: StoredCorpus, number: int, embed: Embedder) -> np.ndarray:
        """Return the embeddings of a partition, float32 of shape (n, d), from the cache or computed now."""
        folder: Path = self.falconer.home.folder / "vectors"
        file = folder / f"{digest(stored.partitions[number].digest, embed.base)}.npy"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            vectors = embed([row.text[:_MAX_CHARS] for row in stored.open(number) if isinstance(row, StoredDocument)])
            with replacing(file) as partial, partial.open("wb") as out:
                np.save(out, vectors, allow_pickle=False)
        cached: np.ndarray = np.load(file, allow_pickle=False)
        return cached
