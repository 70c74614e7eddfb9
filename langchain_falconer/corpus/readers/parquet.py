"""Parquet files as raw rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from langchain_falconer.corpus.readers.arrow_table import BATCH_ROWS, ArrowReader
from langchain_falconer.urls import Url


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
            yield from file.iter_batches(BATCH_ROWS, columns=columns)
