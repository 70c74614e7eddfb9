"""Framing of byte streams: records end at newlines that are not inside CSV quotes, and their size is limited."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain_falconer.corpus.columns import RowError, too_long
from langchain_falconer.corpus.readers.reading import open_file, translate_errors
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place

CHUNK_BYTES = 1 << 16
"""Bytes that are read from a file at once."""
_OUTSIDE, _IN_STRING = re.compile(rb'["\[\]{},]'), re.compile(rb'["\\]')  # of JSON
_UTF16 = "is UTF-16; read it with --encoding utf-16 (encoding='utf-16')"
_NOT_TEXT = {
    codecs.BOM_UTF16_LE: _UTF16,
    codecs.BOM_UTF16_BE: _UTF16,
    b"PK\x03\x04": "is a zip archive, whatever its name; unzip it and give the file in it (Excel files end in .xlsx)",
    b"\x1f\x8b": "is gzip, whatever its name; add .gz to it",
    b"PAR1": "is Parquet, whatever its name; end it in .parquet",
}


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


def read_records(
    path: Place, settings: CorpusSettings, quotes: QuoteTracker | None = None
) -> Iterator[tuple[int, bytes | RowError]]:
    """Yield the records of a file; empty lines are skipped.

    Args:
        path: The file; a byte order mark of UTF-8 is removed.
        settings: How to read it; of a record longer than the limit no more than this is held in memory.
        quotes: Quote state of CSV; None where each line is a record.

    Yields:
        Number of the record's first line, from 1, and the record without its newline, or a ``RowError`` if it is
        longer than ``limit``.

    Raises:
        CorpusError: The file cannot be read or is not text, or a quote is not closed at its end.
    """
    chunks: list[bytes] = []
    size, line, start, limit = 0, 1, 1, settings.max_row_bytes
    with translate_errors(path), open_file(path, settings.encoding) as stream:
        while chunk := stream.readline(CHUNK_BYTES):
            if start == 1 and size == 0:
                chunk = _checked_start(chunk, path)
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


def read_items(path: Place, settings: CorpusSettings) -> Iterator[tuple[int, bytes | RowError]]:
    """Yield the items of a JSON array, undecoded, in memory that does not grow with it.

    Yields:
        Number of the item, from 1, and its JSON, or a ``RowError`` if it is longer than the limit.

    Raises:
        CorpusError: The file cannot be read, or the array does not end where the file does.
    """
    item, number, depth, at = _Item(settings.max_row_bytes), 1, 0, 0
    in_string = is_over = False
    with translate_errors(path), open_file(path, settings.encoding) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            start = 0
            if not (depth or is_over):
                at = start = chunk.find(b"[") + 1
                depth = min(start, 1)
            while depth and (match := (_IN_STRING if in_string else _OUTSIDE).search(chunk, at)):
                at, mark = match.end(), match[0]
                if mark == b"\\":
                    at += 1  # the character that it escapes may be the first of the next chunk
                elif mark == b'"':
                    in_string = not in_string
                elif mark != b",":
                    depth += 1 if mark in b"[{" else -1
                    is_over = not depth
                if is_over or (depth == 1 and mark == b","):
                    yield number, item.take(chunk[start : at - 1])
                    start, number = at, number + 1
            if is_over and chunk[start:].strip():
                message = f"{path}: there is more after the end of its array; give one array, or one object a line"
                raise CorpusError(message, path=str(path))
            item.add(chunk[start:] if depth else b"")
            at = max(0, at - len(chunk))
    if not is_over:
        raise CorpusError(f"{path} is truncated: its array has no end; copy or download it again", path=str(path))


class _Item:
    """The bytes of an item so far, of which no more than a limit are held."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size, self._chunks = limit, 0, list[bytes]()

    def add(self, chunk: bytes) -> None:
        """Add the next bytes."""
        self.size += len(chunk)
        if self.size <= self.limit:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def take(self, end: bytes) -> bytes | RowError:
        """Return the whole item, of which ``end`` are the last bytes, and start anew."""
        self.add(end)
        item = b"".join(self._chunks) if self.size <= self.limit else too_long(self.limit)
        self.size = 0
        self._chunks.clear()
        return item


def _join(start: int, chunks: list[bytes], size: int, limit: int) -> Iterator[tuple[int, bytes | RowError]]:
    record = b"".join(chunks).removesuffix(b"\n").removesuffix(b"\r")
    if len(record) > limit or size > limit + 2:
        yield start, too_long(limit)
    elif record:
        yield start, record


def _checked_start(chunk: bytes, path: Place) -> bytes:
    """Return the beginning of a text file without its byte order mark. Raises ``CorpusError`` if it is none."""
    fault = next((fault for mark, fault in _NOT_TEXT.items() if chunk.startswith(mark)), None)
    if fault:
        raise CorpusError(f"{path} {fault}", path=str(path))
    return chunk.removeprefix(codecs.BOM_UTF8)


def value_or_error(
    parse: Callable[[bytes], Mapping[str, Any] | str], record: bytes | RowError
) -> Mapping[str, Any] | str | RowError:
    """Return the parsed record, or the reason why it cannot be parsed."""
    try:
        return record if isinstance(record, RowError) else parse(record)
    except RowError as error:
        return error
