"""Arrow tables as raw rows: the base of the Parquet and the Hugging Face reader."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from langchain_falconer.corpus.columns import ColumnLayout, Row, find_layout
from langchain_falconer.corpus.readers.reading import FileReader, translate_errors
from langchain_falconer.errors import CorpusError, first_line
from langchain_falconer.settings import CorpusSettings

BATCH_ROWS = 256
"""Rows that are converted to Python objects at once."""


class ArrowReader(FileReader):
    """A table that pyarrow reads, in batches of the columns that count.

    Attributes:
        format: Name of the file format, for messages.
    """

    format = "Arrow"

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} row {at}"

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id."""
        return find_layout(str(self.path), self._columns(), settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        wanted = layout.wanted(self._columns())
        number = 0
        with self._translated_errors():
            for batch in self._batches(wanted):
                columns = [_cells(batch.column(name)) for name in wanted]
                for cells in zip(*columns, strict=True):
                    yield Row(number, number, dict(zip(wanted, cells, strict=True)))
                    number += 1

    def _columns(self) -> dict[str, bool]:
        with self._translated_errors():
            return {field.name: _is_string(field.type) for field in self._schema()}

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            with translate_errors(self.path):
                yield
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise CorpusError(
                f"{self.path} is not valid {self.format} ({first_line(error, None)}); write it again",
                path=str(self.path),
            ) from error

    @abstractmethod
    def _schema(self) -> Any:
        """Return the ``pyarrow.Schema``."""

    @abstractmethod
    def _batches(self, columns: list[str]) -> Iterator[Any]:
        """Yield ``pyarrow.RecordBatch`` objects with these columns, of at most ``BATCH_ROWS`` rows."""


def _is_string(arrow_type: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type):
        return _is_string(arrow_type.value_type)
    return any(test(arrow_type) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _cells(array: Any) -> list[Any]:
    """Return the values of a column; strings as bytes, so that an invalid one does not fail its whole batch."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_string(array.type):
        array = array.cast(pa.large_string()).cast(pa.large_binary())
    return cast(list[Any], array.to_pylist())
