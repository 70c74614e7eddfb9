"""Readers of raw rows: one module per format, each streamed."""

from langchain_falconer.corpus.readers.discovery import find_readers
from langchain_falconer.corpus.readers.json_lines import JsonLines
from langchain_falconer.corpus.readers.objects import ObjectReader, object_reader
from langchain_falconer.corpus.readers.reading import FileReader, translate_errors

RowReader = FileReader | ObjectReader
"""A source of raw rows."""

__all__ = ["FileReader", "JsonLines", "ObjectReader", "RowReader", "find_readers", "object_reader", "translate_errors"]
