"""Search over a stored corpus by meaning: what gathers documents where there is no web."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from langchain_falconer.corpus import CorpusPart, nearest
from langchain_falconer.falconer import Falconer
from langchain_falconer.files import digest, replacing
from langchain_falconer.model import Embedder

_CHARS = 1_000  # of a document, from its beginning, that are embedded


class CorpusRetriever(BaseRetriever):
    """The documents of a stored corpus that are nearest to a query (FAISS over the metamodel's sentence vectors).

    Vectors are computed once for each part of the corpus and kept in the home.

    Example:
        ``CorpusRetriever(falconer=falconer, corpus="archive", k=20).invoke("strikes at railways")``
    """

    falconer: Any = Field(exclude=True, repr=False)
    corpus: str
    """The name of the corpus."""
    k: int = 20
    """How many documents."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        falconer: Falconer = self.falconer
        stored = falconer.corpus(self.corpus)
        embed = Embedder(falconer.settings.base)
        texts = [document for document in stored if hasattr(document, "text")]
        vectors = np.concatenate([self._vectors(part, embed) for part in stored.parts])
        cosines, rows = nearest(embed([query]), vectors, self.k)
        return [
            Document(texts[row].text, id=texts[row].id, metadata={**texts[row].metadata, "cosine": round(float(c), 4)})
            for row, c in zip(rows[0], cosines[0], strict=True)
        ]

    def _vectors(self, part: CorpusPart, embed: Embedder) -> np.ndarray:
        """The vectors of a part (n, d), float32, from the home or computed now."""
        from langchain_falconer.corpus import Document as Stored
        from langchain_falconer.corpus import open_corpus_files, stored_settings

        folder: Path = self.falconer.home.folder / "vectors"
        file = folder / f"{digest(part.digest, embed.base)}.npy"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            rows = open_corpus_files([part.path], stored_settings())
            vectors = embed([row.text[:_CHARS] for row in rows if isinstance(row, Stored)])
            with replacing(file) as partial, partial.open("wb") as out:
                np.save(out, vectors, allow_pickle=False)
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
