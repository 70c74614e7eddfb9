"""JSON Lines as raw rows."""

from __future__ import annotations

from collections.abc import Iterator

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, columns_of, find_layout, parse_json
from langchain_falconer.corpus.readers.reading import FileReader, value_or_error
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings


class JsonLines(FileReader):
    """A file with one JSON object, or string, per line."""

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id."""
        rows = self.rows(ColumnLayout(None))
        first = next(rows, None)
        if first is None:
            raise CorpusError(f"{self.path} is empty; give a file with at least one row", path=str(self.path))
        columns = columns_of(row.value for part in ([first], rows) for row in part)
        return find_layout(str(self.path), columns, settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        lines = ((at, line) for at, line in self._records() if isinstance(line, RowError) or not line.isspace())
        for number, (line, record) in enumerate(lines):
            yield Row(number, line, value_or_error(parse_json, record))
