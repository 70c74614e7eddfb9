"""Text files as raw rows, one document each."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, too_long
from langchain_falconer.corpus.readers.reading import open_file, translate_errors
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place


@dataclass(frozen=True)
class TextFiles:
    """Text files of a folder, each one document whose id is its path in the folder.

    Attributes:
        root: The folder.
        names: Paths of the files, relative to the folder.
        limit: Maximum size of a file in bytes.
        prefix: Prefix of the ids.
        label: Name of the file in ids: empty, since each document has an id.
        replayable: Whether the rows can be read more than once: always.
    """

    root: Place
    names: Sequence[str]
    limit: int
    prefix: str = ""
    label = ""
    replayable = True

    @property
    def files(self) -> Iterator[Place]:
        """The files that are read."""
        return (self.root / name for name in self.names)

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id."""
        for role, column in (("text", settings.text_column), ("id", settings.id_column)):
            if column:
                path = self.root / self.names[0]
                raise CorpusError(
                    f"{path} is plain text, which has no columns; omit --{role}-column", path=str(path), column=column
                )
        return ColumnLayout("text", "id")

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        for number, name in enumerate(self.names):
            yield Row(number, number, {"id": self.prefix + name, "text": self._text(self.root / name)})

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return self.prefix + self.names[at]

    def _text(self, path: Place) -> bytes | RowError:
        with translate_errors(path), open_file(path) as stream:
            data = stream.read(self.limit + len(codecs.BOM_UTF8) + 1).removeprefix(codecs.BOM_UTF8)
        return data if len(data) <= self.limit else too_long(self.limit)
