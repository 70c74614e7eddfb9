"""JSON Lines, and JSON arrays, as raw rows."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain

from langchain_falconer.corpus.columns import (
    ColumnLayout,
    Row,
    RowError,
    columns_of,
    find_layout,
    named_columns,
    parse_json,
    with_entries,
)
from langchain_falconer.corpus.readers.framing import CHUNK_BYTES, read_items, read_records, value_or_error
from langchain_falconer.corpus.readers.reading import FileReader, open_file, translate_errors
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings


class JsonLines(FileReader):
    """A file with one JSON object, or string, per line; or with an array of them."""

    format = "JSON"

    def rows(self, layout: ColumnLayout | None = None) -> Iterator[Row]:
        """Yield the lines that are not blank, or the items of the array."""
        number = 0
        read = read_items if self._is_array else read_records
        for at, record in read(self.path, self.settings):
            if isinstance(record, RowError) or record.strip():
                yield Row(number, at, value_or_error(parse_json, record))
                number += 1

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} {'item' if self._is_array else 'line'} {at}"

    @cached_property
    def _is_array(self) -> bool:
        """Whether the file is one array: its first line is the beginning of one."""
        with translate_errors(self.path), open_file(self.path, self.settings.encoding) as stream:
            first = next((line for line in iter(lambda: stream.readline(CHUNK_BYTES), b"") if not line.isspace()), b"")
        return first.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns, of which the named ones may first appear anywhere in the file."""
        columns = self._columns(named_columns(settings))
        return with_entries(find_layout(str(self.path), columns, settings), columns, self.rows)

    def _columns(self, named: Sequence[str] = ()) -> Mapping[str, bool]:
        rows = self.rows()
        first = next(rows, None)
        if first is None:
            raise CorpusError(f"{self.path} is empty; give a file with at least one row", path=str(self.path))
        if self.path.suffixes[-1:] == [".json"] and isinstance(first.value, RowError):
            fix = "write one object a line, or an array of objects"
            raise CorpusError(f"{self.path} is neither: {fix}", path=str(self.path))
        return columns_of((row.value for row in chain([first], rows)), named)
