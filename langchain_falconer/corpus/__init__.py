"""Corpora: readers of files and objects, stored corpora that grow, passages, samples and vector search.

Documents are streamed, and a row that cannot be read is a :class:`BadRow` with its reason. Corpus text is data: nothing
in it is executed, used as a path or followed as a link.
"""

from langchain_falconer.corpus.documents import BadRow, Document, checked_texts, listed_texts
from langchain_falconer.corpus.embeddings import EmbeddingStore, KeyCollector, PassageIndex
from langchain_falconer.corpus.index import diverse, near_duplicates, nearest
from langchain_falconer.corpus.partitions import CorpusStats, Dataset, Partition
from langchain_falconer.corpus.passages import Passages, is_joined, overlapping, split_passages
from langchain_falconer.corpus.reservoir import sample_uniform
from langchain_falconer.corpus.streaming import Corpus, files_of, materialize, open_corpus, open_corpus_files
from langchain_falconer.corpus.workspace import (
    CorpusData,
    IngestReport,
    StoredCorpus,
    Workspace,
    stored_settings,
    text_id,
)
from langchain_falconer.urls import Place, Url, as_place

__all__ = [
    "BadRow",
    "Corpus",
    "CorpusData",
    "CorpusStats",
    "Dataset",
    "Document",
    "EmbeddingStore",
    "IngestReport",
    "KeyCollector",
    "Partition",
    "PassageIndex",
    "Passages",
    "Place",
    "StoredCorpus",
    "Url",
    "Workspace",
    "as_place",
    "checked_texts",
    "diverse",
    "files_of",
    "is_joined",
    "listed_texts",
    "materialize",
    "near_duplicates",
    "nearest",
    "open_corpus",
    "open_corpus_files",
    "overlapping",
    "sample_uniform",
    "split_passages",
    "stored_settings",
    "text_id",
]
