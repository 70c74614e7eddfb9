"""Formatting of numbers and answers for people; a value that is missing or not a number becomes a dash."""

from __future__ import annotations

import math
from typing import Any

DASH = "–"


def count(value: Any) -> str:
    """Format a count: 7 → 7, 12345 → 12,345, 3_900_000 → 3.90M."""
    if not _is_number(value):
        return DASH
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < 999.5 * size else f"{value / size:,.0f}{unit}"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:.2g}"


def percent(value: Any) -> str:
    """Format a share: 0.9412 → 94.1%, 0.00023 → 0.02%; only exactly 1 and 0 give 100% and 0%."""
    if not _is_number(value):
        return DASH
    if value in (0, 1):
        return f"{value:.0%}"
    if abs(value) < 0.01:
        return "<0.01%" if 0 < value < 0.0001 else f"{value:.2%}"
    return ">99.9%" if 0.9995 <= value < 1 else f"{value:.1%}"


def duration(seconds: Any) -> str:
    """Format seconds: 0.0123 → 12.3 ms, 4.2 → 4.2 s, 252 → 4 min 12 s, 7500 → 2 h 5 min."""
    if not _is_number(seconds):
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{count(minutes // 60)} h {minutes % 60} min"


def usd(value: Any) -> str:
    """Format a price: 0.0004 → $0.0004, 12.3 → $12.30; not a number → no price known."""
    if not _is_number(value):
        return "no price known"
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"


def answer(value: Any) -> str:
    """Format the value of a label."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def printable(text: Any) -> str:
    """Return one line of text that is safe for a terminal: control and direction characters become spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
