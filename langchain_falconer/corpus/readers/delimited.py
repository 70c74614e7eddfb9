"""CSV and TSV as raw rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_falconer.corpus.columns import ENCODING_FIX, ColumnLayout, Row, RowError, decode
from langchain_falconer.corpus.readers.framing import CHUNK_BYTES, QuoteTracker, read_records, value_or_error
from langchain_falconer.corpus.readers.reading import SheetReader, open_file, translate_errors
from langchain_falconer.errors import CorpusError


class Delimited(SheetReader):
    """Values separated by commas, semicolons, bars or tabs under a header, quoted as in RFC 4180.

    The standard library's ``csv`` is not used because its limit of 131,072 characters per field can be raised only for
    the whole process.
    """

    format = "CSV"

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the records below the header."""
        delimiter = self._delimiter()
        header = self._header()
        wanted = {column: header.index(column) for column in layout.wanted(header) if column}
        own = (layout.text, layout.id)
        pattern = _field_pattern(delimiter)

        def cells(record: bytes) -> Mapping[str, Any]:
            fields = _fields(decode(record, ENCODING_FIX), pattern)
            if len(fields) != len(header):
                fix = _DELIMITER_FIX if len(header) == 1 else ""
                raise RowError(f"it has {len(fields)} fields where the header has {len(header)}", fix)
            # An empty cell of another column is a missing value: CSV has no other.
            return {column: fields[at] or (None if column not in own else "") for column, at in wanted.items()}

        records = read_records(self.path, self.settings, QuoteTracker(delimiter))
        next(records, None)
        for number, (line, record) in enumerate(records):
            yield Row(number, line, value_or_error(cells, record))

    def _columns(self) -> Mapping[str, bool]:
        return dict.fromkeys(self._header(), True)

    def _delimiter(self) -> bytes:
        if self.settings.delimiter:
            return self.settings.delimiter.encode()
        if ".tsv" in self.path.suffixes[-2:]:
            return b"\t"
        with translate_errors(self.path), open_file(self.path, self.settings.encoding) as stream:
            unquoted = re.sub(rb'"[^"]*"', b"", stream.readline(CHUNK_BYTES))
        return max((b",", b";", b"\t", b"|"), key=unquoted.count)

    def _names(self) -> list[str]:
        path, delimiter = str(self.path), self._delimiter()
        _, record = next(read_records(self.path, self.settings, QuoteTracker(delimiter)), (0, None))
        if record is None:
            raise CorpusError(f"{path} is empty; give a file with a header and at least one row", path=path)
        try:
            if isinstance(record, RowError):
                raise record
            return [name.strip() for name in _fields(decode(record, ENCODING_FIX), _field_pattern(delimiter))]
        except RowError as error:
            message = f"{path} line 1: the header cannot be read: {error}; {error.fix or 'correct it'}"
            raise CorpusError(message, path=path, row=1) from error


_DELIMITER_FIX = "name what separates the fields with --delimiter (delimiter=), such as --delimiter ';' or tab"


def _field_pattern(delimiter: bytes) -> re.Pattern[str]:
    mark = re.escape(delimiter.decode())
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
