"""Readers of raw rows: one module per format, each streamed."""

from langchain_falconer.corpus.readers.discovery import find_readers
from langchain_falconer.corpus.readers.objects import ObjectReader, object_reader
from langchain_falconer.corpus.readers.reading import translate_errors

__all__ = ["ObjectReader", "find_readers", "object_reader", "translate_errors"]
