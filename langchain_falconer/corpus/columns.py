"""Conversion of raw rows to documents: the columns of text, id and metadata, and the rows that cannot be read."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.corpus.json_values import jsonable, limited_values
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings, KeptColumns

PEEK = 20
"""Readable rows that are inspected for the columns of a source without a schema."""

TEXT_NAMES = (
    "text", "content", "page_content", "body", "review", "review_text", "sentence", "document", "message", "comment",
    "tweet", "post", "passage", "article", "abstract", "utterance", "query", "question", "description", "headline",
)  # fmt: skip
ID_NAMES = ("id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "row_id", "text_id")
METADATA = "metadata"
"""Column whose entries, where it holds an object, are columns themselves."""


ENCODING_FIX = "name the encoding of the file with --encoding (encoding=), such as --encoding cp1252 or utf-16"
_MISSING = object()


class RowError(Exception):
    """The reason why a row cannot be read; raised, or stored in place of the value of the row.

    Attributes:
        fix: What to do about it where all rows of the file are concerned; empty where it is about this row alone.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


class NoTextError(RowError):
    """A row without text: an empty cell, or none."""


class Row(NamedTuple):
    """A raw row: its number from 0, its position for ``where`` of its reader, and its value or why it has none."""

    number: int
    at: int
    value: Mapping[str, Any] | str | RowError


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The columns of text, id and metadata.

    Attributes:
        text: Column of the text; None where rows are bare texts.
        id: Column of the id; None where rows are numbered.
        id_is_named: Whether the user named the column of the id, so that each row must have one.
        text_is_guessed: Whether the column of the text was detected by its name.
        keep: The other columns that are kept as metadata.
        unknown: Columns that are to be kept and that the source does not have.
    """

    text: str | None
    id: str | None = None
    id_is_named: bool = False
    text_is_guessed: bool = False
    keep: KeptColumns = "all"
    unknown: frozenset[str] = frozenset()

    def wanted(self, columns: Collection[str]) -> list[str]:
        """Return those of ``columns`` that a document is made from."""
        if self.keep == "all":
            return list(columns)
        names = [name for name in (self.text, self.id, METADATA, *(() if self.keep == "none" else self.keep)) if name]
        return [column for column in columns if any(is_inside(name, column) for name in names)]


def is_inside(name: str, column: str) -> bool:
    """Return whether a name is that of a column, or a path into it: ``data.text`` is the entry ``text`` of ``data``."""
    return name == column or name.startswith(f"{column}.")


def cell_at(row: Mapping[Any, Any], name: str, default: Any = None) -> Any:
    """Return the cell of a column, or the value at a dotted path into one; ``default`` where there is none."""
    if name in row:
        return row[name]
    cell: Any = row
    for part in name.split("."):
        if not isinstance(cell, Mapping) or part not in cell:
            return default
        cell = cell[part]
    return cell


def find_layout(name: str, columns: Mapping[str, bool], settings: CorpusSettings) -> ColumnLayout:
    """Return the columns of a source, as named in the settings or detected by their names.

    ``columns`` says of each column, in order, whether it holds strings. Raises ``CorpusError`` if a named one does not
    exist, or the column of the text cannot be determined.
    """
    detected = None if settings.id_column == "" else _first(ID_NAMES, columns)
    id_column = _named(name, columns, settings.id_column, "id") or detected
    named = _named(name, columns, settings.text_column, "text")
    text = named or _detect_text(columns, id_column)
    if text is None and columns:
        message = f"{name}: the column of the text cannot be determined; name one of these with --text-column"
        raise CorpusError(f"{message} (text_column=), or one inside it as COLUMN.NAME: {_listed(columns)}")
    is_guessed = text is not None and named is None
    unknown = frozenset(name for name in kept_names(settings) if not _is_known(name, columns))
    return ColumnLayout(text, id_column, bool(settings.id_column), is_guessed, settings.keep, unknown)


def with_entries(
    layout: ColumnLayout, columns: Collection[str], rows: Callable[[ColumnLayout], Iterable[Row]]
) -> ColumnLayout:
    """Return a layout that knows those columns to keep that are entries of the column ``metadata`` of some row.

    Reads ``rows`` until it has seen all of them: only a wrong name takes the whole source.
    """
    unknown = set(layout.unknown)
    if not unknown or METADATA not in columns:
        return layout
    for row in rows(layout):
        unknown.difference_update(_entries_of(row.value))
        if not unknown:
            break
    return replace(layout, unknown=frozenset(unknown))


def _entries_of(value: Any) -> Mapping[Any, Any]:
    return (_entries(value.get(METADATA)) or {}) if isinstance(value, Mapping) else {}


def named_columns(settings: CorpusSettings) -> list[str]:
    """Return the columns that the user named, so that a source has them although its first rows may not."""
    return [column for column in (settings.text_column, settings.id_column, *kept_names(settings)) if column]


def kept_names(settings: CorpusSettings) -> tuple[str, ...]:
    """Return the names of the columns to keep."""
    return settings.keep if isinstance(settings.keep, tuple) else ()


def _is_known(name: str, columns: Iterable[str]) -> bool:
    return any(is_inside(name, column) for column in columns)


def _named(name: str, columns: Mapping[str, bool], wanted: str | None, role: str) -> str | None:
    if not wanted or _is_known(wanted, columns):
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


def columns_of(values: Iterable[Any], named: Collection[str] = ()) -> dict[str, bool]:
    """Return the columns of the first readable rows in order of appearance, and whether each holds strings.

    Reads on, to the end if need be, until it has seen the ``named`` columns, or entries of the column ``metadata`` of
    this name: the first rows may lack them.
    """
    columns: dict[str, bool] = {}
    missing = set(named)
    readable = (value for value in values if not isinstance(value, RowError))
    for number, row in enumerate(readable):
        if number >= PEEK and not missing:
            break
        for key, cell in row.items() if isinstance(row, Mapping) else ():
            if isinstance(key, str) and (number < PEEK or key in missing):
                columns[key] = columns.get(key, False) or isinstance(cell, str)
        if missing:
            missing.difference_update(columns, _entries_of(row))
            missing = {name for name in missing if not _is_known(name, columns)}
    return columns


def read_row(row: Row, layout: ColumnLayout, prefix: str, limit: int, where: Callable[[int], str]) -> Document | BadRow:
    """Convert a raw row to a document, or to a ``BadRow`` with the reason why it cannot be read.

    A row without an id has ``prefix`` and its number; a text has at most ``limit`` UTF-8 bytes.
    """
    row_id, metadata = f"{prefix}{row.number}", dict[str, Any]()
    try:
        if isinstance(row.value, RowError):
            raise row.value
        row_id = _row_id(row.value, layout) or row_id
        if bad_row := _stored_bad_row(row.value, row_id):
            return bad_row
        metadata = _metadata(row.value, layout)
        return Document(row_id, _text(row.value, layout, limit), metadata)
    except NoTextError as error:
        return BadRow(row_id, str(error), where(row.at), is_empty=True, metadata=metadata)
    except RowError as error:
        return BadRow(row_id, str(error), where(row.at), error.fix)


def _row_id(value: Mapping[str, Any] | str, layout: ColumnLayout) -> str | None:
    if layout.id is None or isinstance(value, str):
        return None
    cell = cell_at(value, layout.id)
    if cell is None:
        if layout.id_is_named:
            raise RowError(f"its id (column '{layout.id}') is missing")
        return None
    if isinstance(cell, str):
        row_id = cell
    elif isinstance(cell, bytes):
        row_id = decode(cell)
    else:
        row_id = _scalar_id(cell, layout)
    if not row_id or row_id.isspace():
        raise RowError(f"its id (column '{layout.id}') is blank")
    utf8_length(row_id)
    return row_id


def _scalar_id(cell: Any, layout: ColumnLayout) -> str:
    """Return the string of an id that is a number, date, truth value or other scalar."""
    scalar = jsonable(cell)
    if scalar is None or isinstance(scalar, list | dict):
        raise RowError(f"its id (column '{layout.id}') is {type_name(cell)}, not a single value")
    if isinstance(cell, Decimal):
        return format(cell, "f")
    return json.dumps(scalar) if isinstance(scalar, bool) else str(scalar)


def _text(value: Mapping[str, Any] | str, layout: ColumnLayout, limit: int) -> str:
    text: Any
    if isinstance(value, str):
        text = value
    elif layout.text is None:
        raise RowError("it is an object where the other rows are bare texts")
    else:
        text = cell_at(value, layout.text, _MISSING)
    if isinstance(text, RowError):
        raise text
    if text is _MISSING or text is None or text != text:  # pandas has NaN for an empty cell
        raise NoTextError(f"it has no text (column '{layout.text}')")
    if isinstance(text, bytes):
        if len(text) > limit:
            raise too_long(limit)
        text = decode(text)
    elif not isinstance(text, str):
        raise RowError(f"its text (column '{layout.text}') is {type_name(text)}, not a string")
    elif utf8_length(text) > limit:
        raise too_long(limit)
    if not text or text.isspace():
        raise NoTextError("its text is empty" if not text else "its text is blank")
    return str(text)


def _metadata(value: Mapping[str, Any] | str, layout: ColumnLayout) -> dict[str, Any]:
    """Return the columns that are kept, as JSON data.

    The entries of an object in the column ``metadata`` are columns like the others. Where a column and an entry have
    the same name, the entry is kept as ``metadata.NAME``.
    """
    if isinstance(value, str) or layout.keep == "none":
        return {}
    entries = _entries(value.get(METADATA))
    columns: Mapping[Any, Any] = value
    for own in (layout.text, layout.id, None if entries is None else METADATA):
        columns = columns if own is None else _without(columns, own)
    if isinstance(layout.keep, tuple):
        columns = {name: cell for name in layout.keep if (cell := cell_at(columns, name, _MISSING)) is not _MISSING}
    try:
        metadata = limited_values(columns, layout.keep)
        for name, cell in limited_values(entries or {}, layout.keep).items():
            metadata[f"{METADATA}.{name}" if name in metadata else name] = cell
    except RecursionError:
        raise RowError("one of its columns nests too deeply (--keep leaves columns out)") from None
    return metadata


def _without(row: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    """Return a row without a column, or without what is at a dotted path into one."""
    if name in row or "." not in name:
        return {column: cell for column, cell in row.items() if column != name}
    column, _, rest = name.partition(".")
    inner = row.get(column)
    return {**row, column: _without(inner, rest)} if isinstance(inner, Mapping) else row


def _entries(cell: Any) -> Mapping[Any, Any] | None:
    """Return the entries of an object in the column ``metadata``, which tables hold as JSON; None if it is not one."""
    if isinstance(cell, Mapping):
        return cell
    if isinstance(cell, str) and cell.startswith("{"):
        try:
            data = json.loads(cell)
        except (ValueError, RecursionError):
            return None
        return data if isinstance(data, dict) else None
    return None


def _stored_bad_row(value: Mapping[str, Any] | str, row_id: str) -> BadRow | None:
    """Return the bad row that :func:`record_line` encoded, if the value is one."""
    data = value.get("bad_row") if isinstance(value, Mapping) and value.get("text", "") is None else None
    if not (isinstance(data, Mapping) and all(isinstance(data.get(name), str) for name in ("reason", "where", "fix"))):
        return None
    metadata = value.get(METADATA, {}) if isinstance(value, Mapping) else {}
    return BadRow(row_id, data["reason"], data["where"], data["fix"], data.get("empty") is True, metadata)


def record_line(record: Document | BadRow) -> bytes:
    """Encode a record as one line of JSON with its newline; :func:`read_row` decodes the same record."""
    data: dict[str, Any] = {"id": record.id, "text": None if isinstance(record, BadRow) else record.text}
    if isinstance(record, BadRow):
        data["bad_row"] = {"reason": record.reason, "where": record.where, "fix": record.fix, "empty": record.is_empty}
    if record.metadata:
        data["metadata"] = record.metadata
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def parse_json(line: bytes) -> Mapping[str, Any] | str:
    """Parse a row of JSON Lines: an object, or a bare string. Raises :class:`RowError`."""
    text = decode(line, ENCODING_FIX)
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


def decode(data: bytes, fix: str = "") -> str:
    """Decode UTF-8. Raises :class:`RowError`, which names the first invalid byte, and the fix."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise RowError("it is UTF-16, not UTF-8", fix) from None
        raise RowError(f"it is not UTF-8 (byte 0x{data[error.start]:02x} at byte {error.start})", fix) from None


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
