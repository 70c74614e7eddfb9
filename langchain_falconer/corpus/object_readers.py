"""Objects in memory as raw rows: texts, mappings, LangChain documents and loaders, Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from langchain_falconer.corpus.columns import PEEK, ColumnLayout, Row, RowError, columns_of, find_layout, kind
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings


@dataclass(frozen=True)
class ObjectReader:
    """Rows from an object: ``read`` gives its items anew, of mappings at least the columns that it is asked for."""

    name: str
    noun: str
    read: Callable[[list[str]], Iterable[Any]]
    columns: Mapping[str, bool]
    replayable: bool = True
    label = ""
    files: tuple[Path, ...] = ()

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return which columns hold text and id."""
        if self.noun != "document":
            return find_layout(self.name, self.columns, settings)
        if settings.text_column:
            raise CorpusError(f"{self.name}: LangChain documents have one text, page_content; leave --text-column out")
        id_key = None if settings.id_column == "" else settings.id_column or "id"
        return ColumnLayout("page_content", id_key, bool(settings.id_column))

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        for number, item in enumerate(self._read(layout)):
            yield Row(number, number, _value(item, layout))

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.noun} {at}"

    def _read(self, layout: ColumnLayout) -> Iterator[Any]:
        number = 0
        try:
            for item in self.read(layout.wanted(self.columns)):
                yield item
                number += 1
        except Exception as error:
            what = f"{type(error).__name__}: {str(error)[:300]}"
            raise CorpusError(f"{self.name} failed at {self.where(number)} ({what}); mend it and try again") from error


def find_items(source: Any, *, once: bool = False) -> ObjectReader:
    """The reader of an object in memory; an iterator, which can be read only ``once``, is refused otherwise.

    Raises:
        CorpusError: The object is no collection of texts, or an empty one.
    """
    name = type(source).__name__
    if any(base.__module__.partition(".")[0] == "datasets" for base in type(source).__mro__):
        return _hugging_face(source, name)
    if callable(getattr(source, "lazy_load", None)):
        return ObjectReader(f"the loader {name}", "document", lambda _: source.lazy_load(), {})
    if hasattr(source, "columns"):
        raise CorpusError(f"a {name} is no list of texts; give its rows, as with frame.to_dict('records')")
    if isinstance(source, bytes | Mapping | Set) or not isinstance(source, Iterable):
        raise CorpusError(f"a {name} is no corpus; give a path, a list of texts, documents, a loader or a dataset")
    return _collection(source, name, once)


def _hugging_face(source: Any, name: str) -> ObjectReader:
    if isinstance(source, Mapping):
        raise CorpusError(f"the {name} holds splits; give one of them: {', '.join(map(str, source))}")
    plain = source.with_format(None)
    if not plain.features:
        return ObjectReader(f"the {name}", "row", lambda _: plain, columns_of(islice(plain, PEEK)))
    strings = ("string", "large_string")
    columns = {key: getattr(feature, "dtype", None) in strings for key, feature in plain.features.items()}
    return ObjectReader(f"the {name}", "row", plain.select_columns, columns)


def _collection(source: Iterable[Any], name: str, once: bool) -> ObjectReader:
    iterator = iter(source)
    is_iterator = iterator is source
    if is_iterator and not once:
        raise CorpusError(
            f"a {name} can be read only once; give a list, or write it to a file first with materialize()"
        )
    first = list(islice(iterator, PEEK))
    if not first:
        raise CorpusError(f"the {name} is empty; give at least one text")
    noun = "document" if _is_document(first[0]) else "row" if isinstance(first[0], Mapping) else "text"
    read: Callable[[list[str]], Iterable[Any]] = (
        (lambda _: chain(first, iterator)) if is_iterator else (lambda _: source)
    )
    return ObjectReader(f"the {name} of {noun}s", noun, read, columns_of(first), replayable=not is_iterator)


def _is_document(item: Any) -> bool:
    return hasattr(item, "page_content") and hasattr(item, "metadata")


def _value(item: Any, layout: ColumnLayout) -> Mapping[str, Any] | str | RowError:
    if isinstance(item, str | Mapping):
        return item
    if not _is_document(item):
        return RowError(f"it is {kind(item)}, not a text")
    row = {"page_content": item.page_content, "metadata": item.metadata, "id": getattr(item, "id", None)}
    if layout.id and layout.id_is_named:
        row[layout.id] = item.metadata.get(layout.id)
    return row
