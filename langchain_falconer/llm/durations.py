"""Durations: how long a server wants a client to wait, by its headers or in its own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

_SECONDS = {"ms": 0.001, "mi": 60.0, "m": 60.0, "s": 1.0, "h": 3600.0, "d": 86400.0}
_PART = (
    r"\d+(?:\.\d+)?\s*(?:ms\b|milliseconds?|minutes?|mins?|m(?![a-z])|seconds?|secs?|s(?![a-z])|hours?|h(?![a-z])|days?"
    r"|d(?![a-z]))"
)
_NUMBER = r"\d+(?:\.\d+)?(?![\d\-:/.])"
_IN_WORDS = re.compile(
    rf"(?:retry|try.{{0,10}}again|wait|reset)[^\d]{{0,40}}?(?P<parts>{_PART}(?:[\s,]*(?:and\s*)?{_PART})*|{_NUMBER})",
    re.IGNORECASE,
)
_ONE_MINUTE = re.compile(r"(?:retry|try.{0,10}again|wait)\D{0,30}\b(?:a|one) minute", re.IGNORECASE)


def asked_wait(headers: Mapping[str, str], words: str) -> float | None:
    """Return the seconds that a server asks to wait before the next attempt; ``None`` if it names none.

    Args:
        headers: Headers of the response, names in lower case: ``retry-after-ms``, ``retry-after`` (seconds or a date,
            RFC 9110, 10.2.3), else those of OpenAI's rate limits.
        words: Body of the response, such as "retry in 58s", "Please try again in 1m3s" or ``"retryDelay": "58s"``.
    """
    with suppress(ValueError, KeyError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    if (value := headers.get("retry-after")) is not None:
        with suppress(ValueError):
            return max(0.0, float(value))
        with suppress(ValueError, TypeError):
            return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
        if (seconds := _seconds(value)) is not None:
            return seconds
    if match := _IN_WORDS.search(words):
        return _seconds(match["parts"])
    if _ONE_MINUTE.search(words):
        return 60.0
    # The limit that is used up resets last; one that is not used up resets at once.
    resets = [
        seconds
        for name in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{name}") == "0"
        and (seconds := _seconds(headers.get(f"x-ratelimit-reset-{name}", ""))) is not None
    ]
    return max(resets, default=None)


def _seconds(text: str) -> float | None:
    """Return the seconds of "1m3s", "58 seconds", "500ms" or "58"; ``None`` if the text is no duration."""
    with suppress(ValueError):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.lower())
    if not parts:
        return None
    return sum(float(number) * (_SECONDS.get(unit[:2]) or _SECONDS.get(unit[:1], 0.0)) for number, unit in parts)
