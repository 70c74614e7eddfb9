"""Conversion of raw rows to documents: the columns of text and id, and the rows that cannot be read."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any, NamedTuple

from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings

PEEK = 20
"""Readable rows that are inspected for the columns of a source without a schema."""

TEXT_NAMES = (
    "text", "content", "page_content", "body", "review", "review_text", "sentence", "document", "message", "comment",
    "tweet", "post", "passage", "article", "abstract", "utterance", "query", "question", "description", "headline",
)  # fmt: skip
ID_NAMES = ("id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "row_id", "text_id")
METADATA_NAMES = ("source", "url", "title")


class RowError(Exception):
    """The reason why a row cannot be read; raised, or stored in place of the value of the row."""


class Row(NamedTuple):
    """A raw row: its number from 0, its position for ``where`` of its reader, and its value or why it has none."""

    number: int
    at: int
    value: Mapping[str, Any] | str | RowError


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The columns of text and id.

    Attributes:
        text: Column of the text; None where rows are bare texts.
        id: Column of the id; None where rows are numbered.
        id_is_named: Whether the user named the column of the id, so that each row must have one.
    """

    text: str | None
    id: str | None = None
    id_is_named: bool = False

    def wanted(self, columns: Collection[str]) -> list[str]:
        """Return those of ``columns`` that a document is made from."""
        names = (self.text, self.id, *METADATA_NAMES, "metadata")
        return [column for column in dict.fromkeys(names) if column in columns]  # type: ignore[misc]


def find_layout(name: str, columns: Mapping[str, bool], settings: CorpusSettings) -> ColumnLayout:
    """Return the text and id columns of a source, as named in the settings or detected by their names.

    ``columns`` says of each column, in order, whether it holds strings. Raises ``CorpusError`` if a named one does not
    exist, or the column of the text cannot be determined.
    """
    detected = None if settings.id_column == "" else _first(ID_NAMES, columns)
    id_column = _named(name, columns, settings.id_column, "id") or detected
    text = _named(name, columns, settings.text_column, "text") or _detect_text(columns, id_column)
    if text is None and columns:
        options = f"--text-column (text_column=): {_listed(columns)}"
        raise CorpusError(f"{name}: the column of the text cannot be determined; name one of these with {options}")
    return ColumnLayout(text, id_column, bool(settings.id_column))


def _named(name: str, columns: Mapping[str, bool], wanted: str | None, role: str) -> str | None:
    if not wanted or wanted in columns:
        return wanted or None
    message = f"{name} holds bare texts, which have no column '{wanted}'; omit --{role}-column"
    if columns:
        options = f"--{role}-column ({role}_column=): {_listed(columns)}"
        message = f"{name} has no column '{wanted}'; name one of these with {options}"
    raise CorpusError(message, column=wanted)


def _listed(columns: Mapping[str, bool]) -> str:
    more = f" and {len(columns) - 30} more" if len(columns) > 30 else ""
    return ", ".join(list(columns)[:30]) + more


def _first(names: Iterable[str], columns: Iterable[str]) -> str | None:
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _detect_text(columns: Mapping[str, bool], id_column: str | None) -> str | None:
    excluded = (*ID_NAMES, "source", "url")
    strings = [
        column
        for column, is_string in columns.items()
        if is_string and column != id_column and column.lower() not in excluded
    ]
    if usual := _first(TEXT_NAMES, strings):
        return usual
    return strings[0] if len(strings) == 1 else _first(TEXT_NAMES, columns)


def columns_of(values: Iterable[Any]) -> dict[str, bool]:
    """Return the columns of the first readable rows in order of appearance, and whether each holds strings."""
    columns: dict[str, bool] = {}
    readable = (value for value in values if not isinstance(value, RowError))
    for row in islice(readable, PEEK):
        for key, cell in row.items() if isinstance(row, Mapping) else ():
            if isinstance(key, str):
                columns[key] = columns.get(key, False) or isinstance(cell, str)
    return columns


def read_row(row: Row, layout: ColumnLayout, prefix: str, limit: int, where: Callable[[int], str]) -> Document | BadRow:
    """Convert a raw row to a document, or to a ``BadRow`` with the reason why it cannot be read.

    A row without an id has ``prefix`` and its number; a text has at most ``limit`` UTF-8 bytes.
    """
    row_id = f"{prefix}{row.number}"
    try:
        if isinstance(row.value, RowError):
            raise row.value
        row_id = _row_id(row.value, layout) or row_id
        if bad_row := _stored_bad_row(row.value, row_id):
            return bad_row
        return Document(row_id, _text(row.value, layout, limit), _metadata(row.value, layout))
    except RowError as error:
        return BadRow(row_id, str(error), where(row.at))


def _row_id(value: Mapping[str, Any] | str, layout: ColumnLayout) -> str | None:
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
        raise RowError(f"its id (column '{layout.id}') is {type_name(cell)}, neither a string nor a number")
    row_id = str(cell)
    if not row_id or row_id.isspace():
        raise RowError(f"its id (column '{layout.id}') is blank")
    utf8_length(row_id)
    return row_id


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
        raise RowError(f"its text (column '{layout.text}') is {type_name(text)}, not a string")
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
    nested = value.get("metadata")
    try:
        metadata: dict[str, Any] = jsonable(nested) if isinstance(nested, Mapping) else {}
    except RecursionError:
        raise RowError("its metadata nests too deeply") from None
    for name in METADATA_NAMES:
        cell = value.get(name) if name not in (layout.text, layout.id) else None
        if isinstance(cell, str | bytes | Real) and cell not in ("", b""):
            metadata[name] = jsonable(cell)
    return metadata


def jsonable(value: Any) -> Any:
    """Convert a value to plain JSON data that UTF-8 can encode; other types become strings. Idempotent."""
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


def _stored_bad_row(value: Mapping[str, Any] | str, row_id: str) -> BadRow | None:
    """Return the bad row that :func:`record_line` encoded, if the value is one."""
    data = value.get("bad_row") if isinstance(value, Mapping) and value.get("text", "") is None else None
    if isinstance(data, Mapping) and isinstance(data.get("reason"), str) and isinstance(data.get("where"), str):
        return BadRow(row_id, data["reason"], data["where"])
    return None


def record_line(record: Document | BadRow) -> bytes:
    """Encode a record as one line of JSON with its newline; :func:`read_row` decodes the same record."""
    data: dict[str, Any] = {"id": record.id}
    if isinstance(record, BadRow):
        data |= {"text": None, "bad_row": {"reason": record.reason, "where": record.where}}
    else:
        data |= {"text": record.text} | ({"metadata": record.metadata} if record.metadata else {})
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def parse_json(line: bytes) -> Mapping[str, Any] | str:
    """Parse a row of JSON Lines: an object, or a bare string. Raises :class:`RowError`."""
    text = decode(line)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"it is not JSON ({error.msg} at column {error.colno})") from None
    except ValueError:
        raise RowError("it is JSON that cannot be read (a number has too many digits)") from None
    except RecursionError:
        raise RowError("it is JSON that cannot be read (it nests too deeply)") from None
    if not isinstance(value, dict | str):
        raise RowError(f"it is {type_name(value)}, neither a JSON object nor a string")
    return value


def decode(data: bytes) -> str:
    """Decode UTF-8. Raises :class:`RowError`, which names the first invalid byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise RowError("it is UTF-16, not UTF-8") from None
        raise RowError(f"it is not UTF-8 (byte 0x{data[error.start]:02x} at byte {error.start})") from None


def utf8_length(text: str) -> int:
    """Return the size of a text in UTF-8 bytes. Raises :class:`RowError` for a lone surrogate."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        surrogate = ord(text[error.start])
        raise RowError(f"it has a lone surrogate (U+{surrogate:04X} at character {error.start})") from None


def too_long(limit: int) -> RowError:
    """Return the error of a row over the limit, in bytes."""
    return RowError(f"it is longer than max_row_bytes ({limit:,})")


def type_name(value: object) -> str:
    """Return the type of a JSON value with its article, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case Real():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"
