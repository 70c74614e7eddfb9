"""CSV and TSV as raw rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, decode, find_layout
from langchain_falconer.corpus.readers.framing import CHUNK_BYTES, QuoteTracker
from langchain_falconer.corpus.readers.reading import FileReader, open_file, translate_errors, value_or_error
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings


class Delimited(FileReader):
    """Values separated by commas, semicolons or tabs under a header, quoted as in RFC 4180.

    The standard library's ``csv`` is not used because its limit of 131,072 characters per field can be raised only for
    the whole process.
    """

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id."""
        header = self._header(self._delimiter())
        return find_layout(str(self.path), dict.fromkeys(header, True), settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        delimiter = self._delimiter()
        header = self._header(delimiter)
        positions = [(column, header.index(column)) for column in layout.wanted(header)]
        field = _field_pattern(delimiter)

        def cells(record: bytes) -> Mapping[str, Any]:
            fields = _fields(decode(record), field)
            if len(fields) != len(header):
                raise RowError(f"it has {len(fields)} fields where the header has {len(header)}")
            return {column: fields[position] for column, position in positions}

        records = self._records(QuoteTracker(delimiter))
        next(records, None)
        for number, (line, record) in enumerate(records):
            yield Row(number, line, value_or_error(cells, record))

    def _delimiter(self) -> bytes:
        if ".tsv" in self.path.suffixes[-2:]:
            return b"\t"
        with translate_errors(self.path), open_file(self.path) as stream:
            unquoted = re.sub(rb'"[^"]*"', b"", stream.readline(CHUNK_BYTES))
        return max((b",", b";", b"\t"), key=unquoted.count)

    def _header(self, delimiter: bytes) -> list[str]:
        shown = str(self.path)
        _, record = next(self._records(QuoteTracker(delimiter)), (0, None))
        if record is None:
            raise CorpusError(f"{shown} is empty; give a file with a header and at least one row", path=shown)
        try:
            if isinstance(record, RowError):
                raise record
            header = [name.strip() for name in _fields(decode(record), _field_pattern(delimiter))]
        except RowError as error:
            raise CorpusError(
                f"{shown} line 1: the header cannot be read: {error}; correct it", path=shown, row=1
            ) from error
        duplicate = next((name for name, count in Counter(header).items() if name and count > 1), None)
        if duplicate:
            raise CorpusError(
                f"{shown} line 1: the header names '{duplicate}' twice; rename one of the two",
                path=shown,
                row=1,
                column=duplicate,
            )
        return header


def _field_pattern(delimiter: bytes) -> re.Pattern[str]:
    mark = delimiter.decode()
    return re.compile(rf'(?:"([^"]*(?:""[^"]*)*)"|([^"{mark}][^{mark}]*|))({mark}|\Z)')


def _fields(record: str, pattern: re.Pattern[str]) -> list[str]:
    fields: list[str] = []
    position = 0
    while match := pattern.match(record, position):
        quoted, unquoted, end = match.groups()
        fields.append(unquoted if quoted is None else quoted.replace('""', '"'))
        if not end:
            return fields
        position = match.end()
    raise RowError(f"field {len(fields) + 1} has text after its closing quote (double the quotes in a quoted field)")
