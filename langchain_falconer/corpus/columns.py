"""From a raw row to a document: which columns count, and what makes a row unreadable."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Protocol

from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place

PEEK = 20
"""How many readable rows are looked at to learn the columns of a source that has no schema."""

TEXT_NAMES = (
    "text", "content", "page_content", "body", "review", "review_text", "sentence", "document", "message", "comment",
    "tweet", "post", "passage", "article", "abstract", "utterance", "query", "question", "description", "headline",
)  # fmt: skip
ID_NAMES = ("id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "row_id", "text_id")
KEPT = ("source", "url", "title")


class RowError(Exception):
    """Why a row cannot be read; raised, or carried in place of the value that it stands for."""


class Row(NamedTuple):
    """A raw row: its number from 0, the place that ``RowReader.where`` names, and what stands there."""

    number: int
    at: int
    value: Mapping[str, Any] | str | RowError


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Where the text and the id of a row stand; no ``text`` column means that rows are bare texts."""

    text: str | None
    id: str | None = None
    id_is_named: bool = False

    def wanted(self, columns: Collection[str]) -> list[str]:
        """Those of ``columns`` that are worth reading."""
        names = (self.text, self.id, *KEPT, "metadata")
        return [column for column in dict.fromkeys(names) if column in columns]  # type: ignore[misc]


class RowReader(Protocol):
    """A file, or an object in memory, that gives raw rows; each call of ``rows`` starts anew."""

    @property
    def label(self) -> str:
        """What tells this file from the others in ids; empty in memory."""

    @property
    def files(self) -> Iterable[Place]:
        """The files that are read; none in memory."""

    @property
    def replayable(self) -> bool:
        """Whether the rows can be read more than once."""

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return which columns hold text and id."""
        ...

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        ...

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        ...


def find_layout(name: str, columns: Mapping[str, bool], settings: CorpusSettings) -> ColumnLayout:
    """The text and id columns of a source, named or found.

    Args:
        name: What to call the source in an error.
        columns: The columns in order; the value says whether a column holds strings.
        settings: The names that the user gave.

    Raises:
        CorpusError: A named column does not exist, or no column is evidently the text.
    """
    found = None if settings.id_column == "" else _first(ID_NAMES, columns)
    id_column = _named(name, columns, settings.id_column, "id") or found
    text = _named(name, columns, settings.text_column, "text")
    if text is None and columns:
        text = _evident_text(columns, id_column)
        if text is None:
            raise CorpusError(
                f"{name}: no column is evidently the text; name one of these with --text-column (text_column=): "
                f"{_listed(columns)}"
            )
    return ColumnLayout(text, id_column, bool(settings.id_column))


def _named(name: str, columns: Mapping[str, bool], wanted: str | None, role: str) -> str | None:
    if not wanted or wanted in columns:
        return wanted or None
    if not columns:
        raise CorpusError(f"{name} holds bare texts, which have no column '{wanted}'; leave --{role}-column out")
    raise CorpusError(
        f"{name} has no column '{wanted}'; name one of these with --{role}-column ({role}_column=): {_listed(columns)}"
    )


def _listed(columns: Mapping[str, bool]) -> str:
    more = f" and {len(columns) - 30} more" if len(columns) > 30 else ""
    return ", ".join(list(columns)[:30]) + more


def _first(names: Iterable[str], columns: Iterable[str]) -> str | None:
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _evident_text(columns: Mapping[str, bool], id_column: str | None) -> str | None:
    aside = (*ID_NAMES, "source", "url")
    strings = [
        column
        for column, is_string in columns.items()
        if is_string and column != id_column and column.lower() not in aside
    ]
    if known := _first(TEXT_NAMES, strings):
        return known
    return strings[0] if len(strings) == 1 else _first(TEXT_NAMES, columns)


def columns_of(values: Iterable[Any]) -> dict[str, bool]:
    """The columns of the first readable rows, in order of appearance, and which of them hold strings."""
    columns: dict[str, bool] = {}
    readable = 0
    for value in values:
        if isinstance(value, RowError):
            continue
        for key, cell in value.items() if isinstance(value, Mapping) else ():
            if isinstance(key, str):
                columns[key] = columns.get(key, False) or isinstance(cell, str)
        readable += 1
        if readable == PEEK:
            break
    return columns


def read_row(row: Row, layout: ColumnLayout, prefix: str, limit: int, where: Callable[[int], str]) -> Document | BadRow:
    """The document in a raw row, or why there is none; ``prefix`` stands before the number of a row without an id."""
    row_id = f"{prefix}{row.number}"
    try:
        if isinstance(row.value, RowError):
            raise row.value
        row_id = _own_id(row.value, layout) or row_id
        if bad := _spooled_bad_row(row.value, row_id):
            return bad
        return Document(row_id, _text(row.value, layout, limit), _metadata(row.value, layout))
    except RowError as error:
        return BadRow(row_id, str(error), where(row.at))


def _own_id(value: Mapping[str, Any] | str, layout: ColumnLayout) -> str | None:
    if layout.id is None or isinstance(value, str):
        return None
    cell = value.get(layout.id)
    if cell is None:
        if layout.id_is_named:
            raise RowError(f"its id (column '{layout.id}') is missing")
        return None
    if isinstance(cell, bytes):
        cell = decode(cell)
    if isinstance(cell, bool) or not isinstance(cell, str | Real) or cell != cell:
        raise RowError(f"its id (column '{layout.id}') is {kind(cell)}, neither a string nor a number")
    own = str(cell)
    if not own or own.isspace():
        raise RowError(f"its id (column '{layout.id}') is blank")
    utf8_length(own)
    return own


def _text(value: Mapping[str, Any] | str, layout: ColumnLayout, limit: int) -> str:
    if isinstance(value, str):
        text: Any = value
    elif layout.text is None:
        raise RowError("it is an object where the other rows are bare texts")
    elif layout.text not in value:
        raise RowError(f"it has no column '{layout.text}'")
    else:
        text = value[layout.text]
    if isinstance(text, RowError):
        raise text
    if isinstance(text, bytes):
        if len(text) > limit:
            raise too_long(limit)
        text = decode(text)
    elif not isinstance(text, str):
        raise RowError(f"its text (column '{layout.text}') is {kind(text)}, not a string")
    elif utf8_length(text) > limit:
        raise too_long(limit)
    if not text:
        raise RowError("its text is empty")
    if text.isspace():
        raise RowError("its text is blank")
    return str(text)


def _metadata(value: Mapping[str, Any] | str, layout: ColumnLayout) -> dict[str, Any]:
    if isinstance(value, str):
        return {}
    own = value.get("metadata")
    try:
        kept: dict[str, Any] = jsonable(own) if isinstance(own, Mapping) else {}
    except RecursionError:
        raise RowError("its metadata nests too deeply") from None
    for name in KEPT:
        cell = value.get(name) if name not in (layout.text, layout.id) else None
        if isinstance(cell, str | bytes | Real) and cell not in ("", b""):
            kept[name] = jsonable(cell)
    return kept


def jsonable(value: Any) -> Any:
    """``value`` as plain JSON data that UTF-8 can hold; what JSON lacks becomes its string. Idempotent."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {jsonable(str(key)): jsonable(cell) for key, cell in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(cell) for cell in value]
    return jsonable(str(value))


def _spooled_bad_row(value: Mapping[str, Any] | str, row_id: str) -> BadRow | None:
    """The bad row that :func:`spool` wrote down, if this is one."""
    bad = value.get("bad_row") if isinstance(value, Mapping) and value.get("text", "") is None else None
    if isinstance(bad, Mapping) and isinstance(bad.get("reason"), str) and isinstance(bad.get("where"), str):
        return BadRow(row_id, bad["reason"], bad["where"])
    return None


def record_line(record: Document | BadRow) -> bytes:
    """A record as one line of JSON, newline included; :func:`read_row` gives the same record back."""
    if isinstance(record, BadRow):
        data: dict[str, Any] = {
            "id": record.id,
            "text": None,
            "bad_row": {"reason": record.reason, "where": record.where},
        }
    else:
        data = {"id": record.id, "text": record.text}
        if record.metadata:
            data["metadata"] = record.metadata
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def parse_json(line: bytes) -> Mapping[str, Any] | str:
    """A JSON Lines row: an object, or a bare string."""
    text = decode(line)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"it is not JSON ({error.msg} at column {error.colno})") from None
    except ValueError:
        raise RowError("it is not JSON that can be read (a number has too many digits)") from None
    except RecursionError:
        raise RowError("it is not JSON that can be read (it nests too deeply)") from None
    if not isinstance(value, dict | str):
        raise RowError(f"it is {kind(value)}, neither a JSON object nor a string")
    return value


def decode(data: bytes) -> str:
    """``data`` as UTF-8, or a :class:`RowError` that names the first bad byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise RowError("it is UTF-16, not UTF-8") from None
        raise RowError(f"it is not UTF-8 (byte 0x{data[error.start]:02x} at byte {error.start})") from None


def utf8_length(text: str) -> int:
    """How many UTF-8 bytes ``text`` takes; a lone surrogate, which UTF-8 cannot hold, is a :class:`RowError`."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        surrogate = ord(text[error.start])
        raise RowError(f"it has a lone surrogate (U+{surrogate:04X} at character {error.start})") from None


def too_long(limit: int) -> RowError:
    """The row is over the limit."""
    return RowError(f"it is longer than max_row_bytes ({limit:,})")


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a truth value"),
        (Real, "a number"),
        (str, "a string"),
        ((list, tuple), "a list"),
        (Mapping, "an object"),
    ]
    return "null" if value is None else next((n for t, n in names if isinstance(value, t)), f"a {type(value).__name__}")
