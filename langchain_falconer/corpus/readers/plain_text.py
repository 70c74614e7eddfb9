"""Text files as raw rows: one document a file, or one a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_falconer.corpus.columns import ENCODING_FIX, ColumnLayout, Row, RowError, decode, find_layout, too_long
from langchain_falconer.corpus.readers.framing import read_records, value_or_error
from langchain_falconer.corpus.readers.reading import FileReader, open_file, translate_errors
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place


@dataclass(frozen=True)
class TextFiles(FileReader):
    """A text file, or the text files of a folder; the id of a document is its label, or its path in the folder.

    Attributes:
        names: Paths of the files of a folder, relative to it; empty for a single file.
    """

    names: Sequence[str] = ()
    format = "plain text"

    @property
    def files(self) -> Sequence[Place]:
        """The files that are read."""
        return [self.path / name for name in self.names] or [self.path]

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id. Raises ``CorpusError`` if the user named one."""
        for role, column in (("text", settings.text_column), ("id", settings.id_column)):
            if column:
                path = str(self.files[0])
                message = f"{path} is plain text, which has no columns; omit --{role}-column"
                raise CorpusError(message, path=path, column=column)
        return ColumnLayout("text", "id", keep="none")

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield one row per file."""
        for number, file in enumerate(self.files):
            yield Row(number, number, {"id": self.where(number), "text": self._text(file)})

    def where(self, at: int) -> str:
        """Return the id of a document."""
        return self.names[at] if self.names else self.label

    def _text(self, path: Place) -> Any:
        with translate_errors(path), open_file(path, self.settings.encoding) as stream:
            data = stream.read(self.limit + len(codecs.BOM_UTF8) + 1).removeprefix(codecs.BOM_UTF8)
        return value_or_error(_decoded, data if len(data) <= self.limit else too_long(self.limit))

    def _columns(self) -> Mapping[str, bool]:
        return {"id": True, "text": True}


class TextLines(FileReader):
    """A text file with one document a line; blank lines are skipped."""

    format = "lines of text"

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the layout of bare texts. Raises ``CorpusError`` if the user named a column."""
        return find_layout(str(self.path), {}, settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield one row per line."""
        number = 0
        for line, record in read_records(self.path, self.settings):
            if isinstance(record, RowError) or not record.isspace():
                yield Row(number, line, value_or_error(_decoded, record))
                number += 1

    def _columns(self) -> Mapping[str, bool]:
        return {}


def _decoded(data: bytes) -> str:
    return decode(data, ENCODING_FIX)
