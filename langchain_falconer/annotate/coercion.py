"""Coercion: an answer in another form than was asked for is taken where it has exactly one reading."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_falconer.plan import LabelStep
from langchain_falconer.records import LabelValue

_YES, _NO = ("yes", "true", "y", "t", "1"), ("no", "false", "n", "f", "0")
_WRAPPERS = (
    "answer", "answers", "label", "labels", "value", "values", "result", "results", "output", "prediction", "category",
    "categories", "class", "classification", "choice", "spans", "span", "quotes", "quote", "entities", "extractions",
)  # fmt: skip
_QUOTES = ("text", "span", "quote", "value", "entity", "extraction")
_AROUND = " \t\r\n\"'`*_.,;:!?()[]{}<>-“”‘’«»„"
_PREFIX = re.compile(r"^(?:the )?(?:final )?(?:answer|label|labels|category|class)(?: is\b|\s*[:=])\s*")
_MAX_WRAPPERS = 3


class UnreadableError(ValueError):
    """An answer with no reading, or with more than one."""


def coerce_label(step: LabelStep, value: Any) -> LabelValue:
    """Return the label, labels or truth value that an answer means.

    Case, white space, quotes, punctuation around a label, ``{"label": ..}`` wrappers, lists of one, and words or
    numbers for truth values are read; a label inside a sentence is not.

    Raises:
        UnreadableError: The answer has no reading, or several.
    """
    value = _unwrapped(_decoded(value), lambda inner: not _is_selection(step.names, inner))
    if step.kind == "multi":
        chosen = _choices(step.names, value)
        return tuple(name for name in step.names if name in chosen)
    if _is_selection(step.names, value):
        value = [name for name, is_chosen in value.items() if is_chosen]
    if isinstance(value, list) and len(value) == 1:
        value = _unwrapped(value[0])
    if step.kind == "choice":
        return _choice(step.names, value)
    word = _word(value)
    if word in _YES or word in _NO:
        return word in _YES
    raise UnreadableError(f"{_shown(value)} is neither true nor false")


def coerce_quotes(text: str, value: Any) -> list[str]:
    """Return the quotes that an answer means: from a bare quote, objects that hold a quote each, or a wrapper.

    Args:
        text: The text that is quoted.
        value: The answer.

    Raises:
        UnreadableError: The answer has no reading, or several.
    """
    value = _decoded(value)
    if isinstance(value, dict) and not any(isinstance(value.get(name), str) for name in _QUOTES):
        value = _unwrapped(value)
    if not isinstance(value, list):
        value = [value]
        if not (quote := _quote(text, value[0])).strip() or quote.strip() not in text:
            raise UnreadableError(f"{_shown(value[0])} is no list of quotes")
    return [_quote(text, item) for item in value]


def _quote(text: str, item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        return str(item)
    if isinstance(item, dict):
        quotes: set[str] = {item[name] for name in _QUOTES if isinstance(item.get(name), str)}
        verbatim = {quote for quote in quotes if quote.strip() and quote.strip() in text}
        if len(found := verbatim or quotes) == 1:
            return found.pop()
    raise UnreadableError(f"{_shown(item)} is no quote")


def _choice(names: Sequence[str], value: Any) -> str:
    """Return the one name that a value means: letter by letter, else by its words, else by their letters."""
    if isinstance(value, bool):
        words: Iterable[str] = _YES if value else _NO
    elif isinstance(value, str | int | float):
        words = [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)]
    else:
        raise UnreadableError(f"{_shown(value)} is no label")
    forms: tuple[Callable[[str], str], ...] = (str, str.strip, _word, _letters)
    for form in forms:
        wanted = {form(word) for word in words} - {""}
        found = [name for name in names if form(name) in wanted]
        if len(found) > 1:
            raise UnreadableError(f"{_shown(value)} may be {' or '.join(found)}")
        if found:
            return found[0]
    raise UnreadableError(f"{_shown(value)} is no label of the task")


def _choices(names: Sequence[str], value: Any) -> set[str]:
    """Return the names that a value means: a list of them, one, several with commas, or an object of truth values."""
    if _is_selection(names, value):
        return {_choice(names, name) for name, is_chosen in value.items() if is_chosen}
    if isinstance(value, list):
        return {_choice(names, _unwrapped(item)) for item in value}
    try:
        return {_choice(names, value)}
    except UnreadableError:
        if not isinstance(value, str):
            raise
    if _word(value) in ("none", "none of them", "none of the above"):
        return set()
    parts = re.split(r"[,;|\n]", value)
    if len(parts) < 2:
        raise UnreadableError(f"{_shown(value)} is no list of labels")
    return {_choice(names, part) for part in parts}


def _is_selection(names: Sequence[str], value: Any) -> bool:
    """Return whether a value is an object of truth values by label."""
    if not (isinstance(value, dict) and value and all(isinstance(one, bool) for one in value.values())):
        return False
    return {_word(name) for name in value} <= {_word(name) for name in names}


def _decoded(value: Any) -> Any:
    """Return a value that was written as JSON in a string."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _unwrapped(value: Any, is_wrapper: Callable[[Any], bool] = lambda _: True) -> Any:
    """Return what an object holds under the one name in it that stands for an answer, or under its only name."""
    for _ in range(_MAX_WRAPPERS):
        if not (isinstance(value, dict) and is_wrapper(value)):
            break
        known = [name for name in value if str(name).lower() in _WRAPPERS] or (list(value) if len(value) == 1 else [])
        if len(known) != 1:
            raise UnreadableError(f"{_shown(value)} holds no answer, or several")
        value = _decoded(value[known[0]])
    return value


def _word(value: Any) -> str:
    """Return the words of a value without case, quotes and punctuation around them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(int(value) if isinstance(value, bool) else value if isinstance(value, str | int) else "")
    text = unicodedata.normalize("NFKC", text).casefold().strip(_AROUND)
    return " ".join(_PREFIX.sub("", text).strip(_AROUND).split())


def _letters(text: str) -> str:
    return re.sub(r"[\s_\-/]+", "", _word(text))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
