"""JSON Lines as raw rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from langchain_falconer.corpus.columns import (
    ColumnLayout,
    Row,
    RowError,
    columns_of,
    find_layout,
    named_columns,
    parse_json,
)
from langchain_falconer.corpus.readers.framing import read_records, value_or_error
from langchain_falconer.corpus.readers.reading import FileReader
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings


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

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns, of which the named ones may first appear anywhere in the file."""
        columns = self._columns()
        named = named_columns(settings, columns)
        return find_layout(str(self.path), self._columns(named) if {*named} - {*columns} else columns, settings)

    def _columns(self, named: Sequence[str] = ()) -> Mapping[str, bool]:
        rows = self.rows()
        first = next(rows, None)
        if first is None:
            raise CorpusError(f"{self.path} is empty; give a file with at least one row", path=str(self.path))
        return columns_of((row.value for row in chain([first], rows)), named)
