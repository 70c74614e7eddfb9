"""Arrow tables as raw rows: Parquet files, and datasets that Hugging Face saved on disk."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from langchain_falconer.corpus.columns import ColumnLayout, Row
from langchain_falconer.corpus.readers.reading import FileReader, translate_errors
from langchain_falconer.errors import CorpusError, first_line
from langchain_falconer.urls import Url

_BATCH_ROWS = 256  # converted to Python objects at once


class ArrowReader(FileReader):
    """A table that pyarrow reads, in batches of the columns that count."""

    format = "Arrow"

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the rows of the table."""
        wanted = layout.wanted(self._columns())
        number = 0
        with self._translated_errors():
            for batch in self._batches(wanted):
                columns = [self._cells(batch.column(name), name, layout) for name in wanted]
                for cells in zip(*columns, strict=True):
                    yield Row(number, number, dict(zip(wanted, cells, strict=True)))
                    number += 1

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} row {at}"

    def _cells(self, array: Any, name: str, layout: ColumnLayout) -> list[Any]:
        """Return the values of a column, those of text and id as bytes if they are strings."""
        if name in (layout.text, layout.id):
            return _bytes_of_strings(array)
        try:
            return _values(array)
        except Exception as error:
            message = f"{self.path}: the values of column '{name}' cannot be read ({first_line(error, None)})"
            raise CorpusError(f"{message}; name the columns to keep with --keep", column=name) from error

    def _columns(self) -> Mapping[str, bool]:
        with self._translated_errors():
            return {field.name: _is_string(field.type) for field in self._schema()}

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            with translate_errors(self.path):
                yield
        except (pa.ArrowException, UnicodeDecodeError) as error:
            message = f"{self.path} is not valid {self.format} ({first_line(error, None)}); write it again"
            raise CorpusError(message, path=str(self.path)) from error

    @abstractmethod
    def _schema(self) -> Any:
        """Return the ``pyarrow.Schema``."""

    @abstractmethod
    def _batches(self, columns: list[str]) -> Iterator[Any]:
        """Yield ``pyarrow.RecordBatch`` objects with these columns, of at most ``_BATCH_ROWS`` rows."""


class Parquet(ArrowReader):
    """A Parquet file, read through a buffer so that no row group is held whole."""

    format = "Parquet"

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with ExitStack() as stack:
            source = stack.enter_context(self.path.open("rb")) if isinstance(self.path, Url) else self.path
            yield stack.enter_context(pq.ParquetFile(source, buffer_size=1 << 20))

    def _schema(self) -> Any:
        with self._open() as file:
            return file.schema_arrow

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        with self._open() as file:
            yield from file.iter_batches(_BATCH_ROWS, columns=columns)


class SavedDataset(ArrowReader):
    """A folder that ``Dataset.save_to_disk`` of Hugging Face wrote; read with pyarrow alone."""

    path: Path

    @property
    def files(self) -> Sequence[Path]:
        """The files that are read."""
        state = self.path / "state.json"
        try:
            with translate_errors(state):
                data = json.loads(state.read_bytes())
            names = [entry["filename"] for entry in data["_data_files"]]
            if not names or any(Path(name).name != name for name in names):
                raise ValueError("no data files in this folder")
        except (ValueError, KeyError, TypeError) as error:
            message = f"{state} does not list the files of the dataset ({error}); save the dataset again"
            raise CorpusError(message, path=state) from error
        if data.get("_indices_data_files"):
            message = f"{self.path} was saved with an index mapping; save dataset.flatten_indices() instead"
            raise CorpusError(message, path=self.path)
        return tuple(self.path / name for name in names)

    @contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        import pyarrow as pa

        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield stream

    def _schema(self) -> Any:
        with self._open(self.files[0]) as stream:
            return stream.schema

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        for path in self.files:
            with self._open(path) as stream:
                for batch in stream:
                    selected = batch.select(columns)
                    for start in range(0, selected.num_rows, _BATCH_ROWS):
                        yield selected.slice(start, _BATCH_ROWS)


def _is_string(arrow_type: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type):
        return _is_string(arrow_type.value_type)
    return any(test(arrow_type) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _values(array: Any) -> list[Any]:
    """Return the values of a column: invalid UTF-8 is replaced, dates beyond those of Python are strings."""
    import pyarrow as pa

    try:
        return cast(list[Any], array.to_pylist())
    except UnicodeDecodeError:
        cells = _bytes_of_strings(array)
        return [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in cells]
    except (ValueError, OverflowError):
        return cast(list[Any], array.cast(pa.string()).to_pylist())


def _bytes_of_strings(array: Any) -> list[Any]:
    """Return the values of a column; strings as bytes, so that an invalid one does not fail its whole batch."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_string(array.type):
        array = array.cast(pa.large_string()).cast(pa.large_binary())
    return cast(list[Any], array.to_pylist())
