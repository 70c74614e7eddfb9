"""CSV and TSV as raw rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, decode
from langchain_falconer.corpus.readers.framing import CHUNK_BYTES, QuoteTracker, read_records, value_or_error
from langchain_falconer.corpus.readers.reading import FileReader, open_file, translate_errors
from langchain_falconer.errors import CorpusError


class Delimited(FileReader):
    """Values separated by commas, semicolons or tabs under a header, quoted as in RFC 4180.

    The standard library's ``csv`` is not used because its limit of 131,072 characters per field can be raised only for
    the whole process.
    """

    format = "CSV"

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the records below the header."""
        delimiter = self._delimiter()
        header = self._header(delimiter)
        wanted = {column: header.index(column) for column in layout.wanted(header) if column}
        own = (layout.text, layout.id)
        pattern = _field_pattern(delimiter)

        def cells(record: bytes) -> Mapping[str, Any]:
            fields = _fields(decode(record), pattern)
            if len(fields) != len(header):
                raise RowError(f"it has {len(fields)} fields where the header has {len(header)}")
            # An empty cell of another column is a missing value: CSV has no other.
            return {column: fields[at] or (None if column not in own else "") for column, at in wanted.items()}

        records = read_records(self.path, self.limit, QuoteTracker(delimiter))
        next(records, None)
        for number, (line, record) in enumerate(records):
            yield Row(number, line, value_or_error(cells, record))

    def _columns(self) -> Mapping[str, bool]:
        return dict.fromkeys(self._header(self._delimiter()), True)

    def _delimiter(self) -> bytes:
        if ".tsv" in self.path.suffixes[-2:]:
            return b"\t"
        with translate_errors(self.path), open_file(self.path) as stream:
            unquoted = re.sub(rb'"[^"]*"', b"", stream.readline(CHUNK_BYTES))
        return max((b",", b";", b"\t"), key=unquoted.count)

    def _header(self, delimiter: bytes) -> list[str]:
        path = str(self.path)
        _, record = next(read_records(self.path, self.limit, QuoteTracker(delimiter)), (0, None))
        if record is None:
            raise CorpusError(f"{path} is empty; give a file with a header and at least one row", path=path)
        try:
            if isinstance(record, RowError):
                raise record
            header = [name.strip() for name in _fields(decode(record), _field_pattern(delimiter))]
        except RowError as error:
            message = f"{path} line 1: the header cannot be read: {error}; correct it"
            raise CorpusError(message, path=path, row=1) from error
        duplicate = next((name for name, count in Counter(header).items() if name and count > 1), None)
        if duplicate:
            message = f"{path} line 1: the header names '{duplicate}' twice; rename one of the two"
            raise CorpusError(message, path=path, row=1, column=duplicate)
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
