"""Hugging Face datasets saved on disk as raw rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_falconer.corpus.readers.arrow_table import BATCH_ROWS, ArrowReader
from langchain_falconer.corpus.readers.reading import translate_errors
from langchain_falconer.errors import CorpusError


class SavedDataset(ArrowReader):
    """A folder that ``Dataset.save_to_disk`` of Hugging Face wrote; read with pyarrow alone."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        state = self.path / "state.json"
        try:
            with translate_errors(state):
                data = json.loads(state.read_bytes())
            names = [entry["filename"] for entry in data["_data_files"]]
            if not names or any(Path(name).name != name for name in names):
                raise ValueError("no data files in this folder")
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{state} does not list the files of the dataset ({error}); save the dataset again", path=state
            ) from error
        if data.get("_indices_data_files"):
            raise CorpusError(
                f"{self.path} was saved with an index mapping; save dataset.flatten_indices() instead", path=self.path
            )
        return tuple(self.path / name for name in names)

    def _schema(self) -> Any:
        import pyarrow as pa

        with pa.OSFile(str(self.files[0])) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        import pyarrow as pa

        for path in self.files:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    selected = batch.select(columns)
                    yield from (selected.slice(start, BATCH_ROWS) for start in range(0, selected.num_rows, BATCH_ROWS))
