"""JSON Lines as raw rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, columns_of, parse_json
from langchain_falconer.corpus.readers.framing import read_records, value_or_error
from langchain_falconer.corpus.readers.reading import FileReader
from langchain_falconer.errors import CorpusError


class JsonLines(FileReader):
    """A file with one JSON object, or string, per line."""

    format = "JSON Lines"

    def rows(self, layout: ColumnLayout | None = None) -> Iterator[Row]:
        """Yield the lines that are not blank."""
        number = 0
        for line, record in read_records(self.path, self.limit):
            if isinstance(record, RowError) or not record.isspace():
                yield Row(number, line, value_or_error(parse_json, record))
                number += 1

    def _columns(self) -> Mapping[str, bool]:
        rows = self.rows()
        first = next(rows, None)
        if first is None:
            raise CorpusError(f"{self.path} is empty; give a file with at least one row", path=str(self.path))
        return columns_of(row.value for row in chain([first], rows))
