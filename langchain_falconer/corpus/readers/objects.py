"""Objects in memory as raw rows: texts, mappings, LangChain documents and loaders, Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, ClassVar

from langchain_falconer.corpus.columns import (
    METADATA,
    PEEK,
    ColumnLayout,
    Row,
    RowError,
    columns_of,
    find_layout,
    kept_names,
    named_columns,
    type_name,
    with_entries,
)
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place


@dataclass(frozen=True)
class ObjectReader:
    """A reader of an object in memory.

    Attributes:
        name: Name of the object, for messages.
        noun: Kind of its items: ``"text"``, ``"row"`` or ``"document"``.
        read: Function from column names to the items, from the first one on; items that are mappings have at least
            those columns.
        columns: Column names in order, and whether each holds strings.
        replayable: Whether the rows can be read more than once.
        sampled: Whether ``columns`` are those of the first rows, so that others may follow.
    """

    label: ClassVar[str] = ""
    files: ClassVar[tuple[Place, ...]] = ()

    name: str
    noun: str
    read: Callable[[list[str]], Iterable[Any]]
    columns: Mapping[str, bool]
    replayable: bool = True
    sampled: bool = False

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id. Raises ``CorpusError`` if they cannot be determined."""
        if self.noun != "document":
            columns = self._columns(named_columns(settings))
            layout = find_layout(self.name, columns, settings)
        else:
            columns, layout = {METADATA: False}, self._document_layout(settings)
        return with_entries(layout, columns, self.rows) if self.replayable and self.sampled else layout

    def _document_layout(self, settings: CorpusSettings) -> ColumnLayout:
        if settings.text_column:
            message = f"{self.name}: the text of LangChain documents is page_content; omit --text-column"
            raise CorpusError(message, column=settings.text_column)
        id_key = None if settings.id_column == "" else settings.id_column or "id"
        # A loader is not run twice for the sake of a name.
        unknown = frozenset(kept_names(settings) if self.sampled and self.replayable else ())
        return ColumnLayout("page_content", id_key, bool(settings.id_column), keep=settings.keep, unknown=unknown)

    def _columns(self, named: Sequence[str]) -> Mapping[str, bool]:
        """Return the columns, of which the named ones may first appear in any row."""
        if not self.sampled or not self.columns or set(named) <= set(self.columns):
            return self.columns
        # What can be read only once is not searched for a named column: the rows will show it.
        return columns_of(self.read([]), named) if self.replayable else {**self.columns, **dict.fromkeys(named, True)}

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.noun} {at}"

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order, from the first one on."""
        number = 0
        try:
            for item in self.read(layout.wanted(self.columns)):
                yield Row(number, number, _value(item, layout))
                number += 1
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            message = f"{self.name} failed at {self.where(number)} ({reason}); fix it and try again"
            raise CorpusError(message, row=number + 1) from error


def object_reader(source: Any, *, once: bool = False) -> ObjectReader:
    """Return the reader of a collection, a loader or a Hugging Face dataset; ``once`` allows an iterator too.

    Raises:
        CorpusError: The object is not a collection of texts, or it is empty.
    """
    name = type(source).__name__
    if any(base.__module__.partition(".")[0] == "datasets" for base in type(source).__mro__):
        return _hugging_face(source, name)
    if callable(getattr(source, "lazy_load", None)):
        return ObjectReader(f"the loader {name}", "document", lambda _: source.lazy_load(), {})
    if hasattr(source, "columns"):
        raise CorpusError(f"a {name} is not a list of texts; give its rows, as with frame.to_dict('records')")
    if isinstance(source, bytes | Mapping | Set) or not isinstance(source, Iterable):
        raise CorpusError(f"a {name} is not a corpus; give a path, a list of texts, documents, a loader or a dataset")
    return _collection(source, name, once)


def _hugging_face(source: Any, name: str) -> ObjectReader:
    if isinstance(source, Mapping):
        raise CorpusError(f"the {name} holds splits; give one of them: {', '.join(map(str, source))}")
    unformatted = source.with_format(None)
    if not unformatted.features:
        columns = columns_of(islice(unformatted, PEEK))
        return ObjectReader(f"the {name}", "row", lambda _: unformatted, columns, sampled=True)
    strings = ("string", "large_string")
    # Images, audio and video would be decoded to be read.
    features = {key: one for key, one in unformatted.features.items() if not hasattr(one, "decode_example")}
    columns = {key: getattr(feature, "dtype", None) in strings for key, feature in features.items()}
    return ObjectReader(f"the {name}", "row", unformatted.select_columns, columns)


def _collection(source: Iterable[Any], name: str, once: bool) -> ObjectReader:
    iterator = iter(source)
    is_iterator = iterator is source
    if is_iterator and not once:
        fix = "give a list, or write it to a file first with materialize()"
        raise CorpusError(f"a {name} can be read only once; {fix}")
    first = list(islice(iterator, PEEK))
    if not first:
        raise CorpusError(f"the {name} is empty; give at least one text")
    noun = "document" if _is_document(first[0]) else "row" if isinstance(first[0], Mapping) else "text"
    items = chain(first, iterator) if is_iterator else source
    return ObjectReader(
        f"the {name} of {noun}s", noun, lambda _: items, columns_of(first), not is_iterator, sampled=True
    )


def _is_document(item: Any) -> bool:
    return hasattr(item, "page_content") and hasattr(item, "metadata")


def _value(item: Any, layout: ColumnLayout) -> Mapping[str, Any] | str | RowError:
    if isinstance(item, str | Mapping):
        return item
    if not _is_document(item):
        return RowError(f"it is {type_name(item)}, not a text")
    row = {"page_content": item.page_content, "metadata": item.metadata}
    if layout.id:
        row[layout.id] = item.metadata.get(layout.id) if layout.id_is_named else getattr(item, "id", None)
    return row
