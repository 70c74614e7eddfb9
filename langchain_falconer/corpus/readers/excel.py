"""Excel workbooks as raw rows (extra ``excel``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

from langchain_falconer.corpus.columns import PEEK, ColumnLayout, Row, columns_of
from langchain_falconer.corpus.readers.reading import SheetReader, translate_errors
from langchain_falconer.errors import CorpusError, first_line
from langchain_falconer.urls import Url

NO_OPENPYXL = "Excel files need openpyxl; run: pip install 'langchain-falconer[excel]', or use .csv"


class Excel(SheetReader):
    """The first sheet of a workbook, under its first row; formulas are the values that they had."""

    format = "Excel"

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the rows that are not empty."""
        header = self._header()
        wanted = {column: header.index(column) for column in layout.wanted(header) if column}
        filled = ((at, cells) for at, cells in enumerate(self._cells(), start=1) if any(c is not None for c in cells))
        for number, (at, cells) in enumerate(islice(filled, 1, None)):
            row = {column: cells[index] if index < len(cells) else None for column, index in wanted.items()}
            text = row.get(layout.text or "")
            if text is not None:
                row[str(layout.text)] = str(text)  # a cell in which nothing but a number was typed is one
            yield Row(number, at, row)

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} row {at}"

    def _names(self) -> list[str]:
        first = next((cells for cells in self._cells() if any(cell is not None for cell in cells)), None)
        if first is None:
            message = f"the first sheet of {self.path} is empty; move the table, with its header, to the first sheet"
            raise CorpusError(message, path=str(self.path))
        return ["" if cell is None else str(cell).strip() for cell in first]

    def _columns(self) -> dict[str, bool]:
        first = islice(self.rows(ColumnLayout(None)), PEEK)
        return dict.fromkeys(self._header(), False) | columns_of(row.value for row in first)

    def _cells(self) -> Iterator[tuple[Any, ...]]:
        """Yield the cells of every row of the sheet."""
        with self._open() as book:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # those in the file may be wrong
            yield from sheet.iter_rows(values_only=True)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        if importlib.util.find_spec("openpyxl") is None:
            raise CorpusError(NO_OPENPYXL, path=str(self.path))
        from openpyxl import load_workbook

        with ExitStack() as stack, translate_errors(self.path):
            try:
                source = stack.enter_context(self.path.open("rb")) if isinstance(self.path, Url) else self.path
                book = load_workbook(source, read_only=True, data_only=True)
                stack.callback(book.close)
                yield book
            except (OSError, CorpusError, GeneratorExit):
                raise
            except Exception as error:  # openpyxl raises what its parsers of zip and XML raise
                message = f"{self.path} is not valid Excel ({first_line(error)}); save it again"
                raise CorpusError(message, path=str(self.path)) from error
