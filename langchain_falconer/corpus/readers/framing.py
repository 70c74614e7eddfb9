"""Framing of byte streams: records end at newlines that are not inside CSV quotes, and their size is limited."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain_falconer.corpus.columns import RowError, too_long
from langchain_falconer.corpus.readers.reading import open_file, translate_errors
from langchain_falconer.errors import CorpusError
from langchain_falconer.urls import Place

CHUNK_BYTES = 1 << 16
"""Bytes that are read from a file at once."""


class QuoteTracker:
    """The quote state of CSV (RFC 4180) over the chunks of a record, to distinguish its end from a quoted newline.

    Args:
        delimiter: The separator of fields, one byte.

    Attributes:
        inside: Whether the last byte lies inside a quoted field.
    """

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self.reset()

    def reset(self) -> None:
        """Start a new record."""
        self.inside = False
        self._unquoted = False  # in a field that began without a quote: quotes are literal there

    def feed(self, chunk: bytes) -> None:
        """Follow the quotes of the next chunk."""
        *segments, rest = chunk.split(b'"')
        for segment in segments:  # a quote follows: it closes, or opens at a field's start, or reopens if doubled
            if self.inside:
                self.inside = False
                continue
            if segment:
                self._unquoted = not segment.endswith(self._delimiter)
            self.inside = not self._unquoted
        if rest and not self.inside:
            self._unquoted = not rest.endswith(self._delimiter)


def read_records(path: Place, limit: int, quotes: QuoteTracker | None = None) -> Iterator[tuple[int, bytes | RowError]]:
    """Yield the records of a file; empty lines are skipped.

    Args:
        path: The file; a byte order mark of UTF-8 is removed.
        limit: Maximum size of a record in bytes; of a longer one no more than this is held in memory.
        quotes: Quote state of CSV; None where each line is a record.

    Yields:
        Number of the record's first line, from 1, and the record without its newline, or a ``RowError`` if it is
        longer than ``limit``.

    Raises:
        CorpusError: The file cannot be read or is UTF-16, or a quote is not closed at its end.
    """
    chunks: list[bytes] = []
    size, line, start = 0, 1, 1
    with translate_errors(path), open_file(path) as stream:
        while chunk := stream.readline(CHUNK_BYTES):
            if start == 1 and size == 0:
                chunk = _without_bom(chunk, path)
            size += len(chunk)
            if size <= limit + 2:
                chunks.append(chunk)
            else:
                chunks.clear()
            if quotes:
                quotes.feed(chunk)
            if not chunk.endswith(b"\n"):
                continue
            line += 1
            if quotes and quotes.inside:
                continue
            yield from _join(start, chunks, size, limit)
            chunks.clear()
            size, start = 0, line
            if quotes:
                quotes.reset()
    if quotes and quotes.inside:
        fix = "close it or double the quotes in the field"
        message = f"{path}: line {start}: a quote that opens here is never closed; {fix}"
        raise CorpusError(message, path=str(path), row=start)
    yield from _join(start, chunks, size, limit)


def _join(start: int, chunks: list[bytes], size: int, limit: int) -> Iterator[tuple[int, bytes | RowError]]:
    record = b"".join(chunks).removesuffix(b"\n").removesuffix(b"\r")
    if len(record) > limit or size > limit + 2:
        yield start, too_long(limit)
    elif record:
        yield start, record


def _without_bom(chunk: bytes, path: Place) -> bytes:
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(f"{path}: the file is UTF-16; save it as UTF-8", path=str(path))
    return chunk.removeprefix(codecs.BOM_UTF8)


def value_or_error(
    parse: Callable[[bytes], Mapping[str, Any] | str], record: bytes | RowError
) -> Mapping[str, Any] | str | RowError:
    """Return the parsed record, or the reason why it cannot be parsed."""
    try:
        return record if isinstance(record, RowError) else parse(record)
    except RowError as error:
        return error
