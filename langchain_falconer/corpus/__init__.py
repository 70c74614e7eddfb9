"""Texts in, whatever they lie in: streamed documents, passages with offsets, samples, and nearness between vectors.

Everything streams, and a row that cannot be read is a :class:`BadRow` with its reason, never a gap. Corpus text is
data: nothing in it is executed, taken for a path or followed.
"""

from langchain_falconer._urls import Place, Url, place
from langchain_falconer.corpus._corpus import Corpus, open_corpus, open_corpus_files, spool
from langchain_falconer.corpus._index import diverse, near_duplicates, nearest
from langchain_falconer.corpus._model import BadRow, CorpusSettings, Document
from langchain_falconer.corpus._passages import overlapping, split_passages
from langchain_falconer.corpus._sample import sample_uniform
from langchain_falconer.corpus._workspace import Added, CorpusPart, StoredCorpus, Workspace, stored_settings, text_id

__all__ = [
    "Added",
    "BadRow",
    "Corpus",
    "CorpusPart",
    "CorpusSettings",
    "Document",
    "Place",
    "StoredCorpus",
    "Url",
    "Workspace",
    "diverse",
    "near_duplicates",
    "nearest",
    "open_corpus",
    "open_corpus_files",
    "overlapping",
    "place",
    "sample_uniform",
    "split_passages",
    "spool",
    "stored_settings",
    "text_id",
]
