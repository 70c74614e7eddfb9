"""Values of any type as plain JSON data that UTF-8 can encode, and of limited size."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from numbers import Integral, Real
from typing import Any

from langchain_falconer.records import JsonObject
from langchain_falconer.settings import KeptColumns

MAX_CHARS = 4_096
"""Longest value of a column that is kept whole, in characters of JSON."""
MAX_ITEMS = 256
"""Longest list, or object, that is kept whole."""
_EXACT = 2**53  # integers up to here are exact in every reader of JSON
_PLAIN = frozenset({bool, type(None)})
_SMALL = range(-_EXACT, _EXACT)


def limited_values(columns: Mapping[Any, Any], keep: KeptColumns) -> JsonObject:
    """Convert the columns that are kept to JSON data of limited size.

    A string longer than 4,096 characters is cut and ends in "…"; a list or object that is as long, or has more than 256
    items, becomes the beginning of its JSON, which ends so too. Idempotent. Raises ``RecursionError``.
    """
    if keep == "none":
        return {}
    if keep != "all":
        columns = {name: cell for name, cell in columns.items() if name in keep}
    # Most values are short already: a corpus of many columns is read as fast as the proxy answers.
    return {
        name if type(name) is str and name.isascii() else jsonable(str(name)): cell
        if (kind := type(cell)) in _PLAIN
        or (kind is str and cell.isascii() and len(cell) <= MAX_CHARS)
        or (kind is int and cell in _SMALL)
        else _limited(cell)
        for name, cell in columns.items()
    }


def _limited(value: Any) -> Any:
    is_cut = isinstance(value, Mapping | list | tuple | set | frozenset) and len(value) > MAX_ITEMS
    if is_cut:
        value = dict(islice(value.items(), MAX_ITEMS)) if isinstance(value, Mapping) else [*islice(value, MAX_ITEMS)]
    plain = jsonable(value)
    if not isinstance(plain, str | list | dict):
        return plain
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    if not is_cut and len(text) <= MAX_CHARS:
        return plain
    return text[: min(len(text), MAX_CHARS) - 1] + "…"


def jsonable(value: Any) -> Any:
    """Convert a value to plain JSON data that UTF-8 can encode. Idempotent. Raises ``RecursionError``.

    Dates and times become ISO 8601, bytes text, or base64 where they are none; numbers that are not finite, and the
    missing values of pandas, become null; a decimal that no float holds, and other types, become strings.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or kind is bool:
        return value
    if isinstance(value, Integral):  # those of numpy too
        whole = int(value)
        return whole if whole.bit_length() <= 1_024 else None  # Python writes no number of thousands of digits
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {jsonable(str(key)): jsonable(cell) for key, cell in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(cell) for cell in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return jsonable(str(value))
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    if isinstance(value, date | datetime | time):
        return value.isoformat() if value == value else None  # pandas.NaT is not equal to itself
    if hasattr(value, "dtype") and getattr(value.dtype, "kind", "M") not in "mM":  # numpy; its dates are ISO as strings
        return jsonable(value.tolist())
    return None if str(value) in ("NaT", "<NA>") else jsonable(str(value))


def _decimal(value: Decimal) -> int | float | str | None:
    if not value.is_finite():
        return None
    if abs(value) < _EXACT and value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data[: 3 * MAX_CHARS]).decode()  # more than is kept
