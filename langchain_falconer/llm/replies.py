"""Replies of an LLM: the one JSON object in what it wrote, wherever a server put it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_falconer.llm.usage import Usage
from langchain_falconer.records import JsonObject

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

CUT_OFF = "the reply was cut off at the output limit; raise max_output_tokens (--max-output-tokens) or ask for less"
FILTERED = "the provider's content filter withheld the reply"
_NO_OBJECT = "the reply holds no JSON object"
_AMBIGUOUS = "the reply holds several JSON objects that differ; write one"

_END_OF_REASONING = re.compile(
    r"</(?:\w+:)?(?:think|thinking|thought|thoughts|reasoning|reflection|analysis)>|◁/think▷|\[/THINK\]"
    r"|<\|END_THINKING\|>|<\|message\|>",
    re.IGNORECASE,
)
# Tool calls that a server left in the text in a notation other than JSON.
_PARAMETERS = (
    re.compile(r"(?s)<parameter=([^>\s]+)>\s*(.*?)\s*</parameter>"),
    re.compile(r"(?s)<parameter name=\"([^\"]+)\"[^>]*>\s*(.*?)\s*</parameter>"),
    re.compile(r"(?s)<arg_key>\s*(.*?)\s*</arg_key>\s*<arg_value>\s*(.*?)\s*</arg_value>"),
)
_MAX_OBJECTS = 200
_MAX_DEPTH = 4

Accepts = Callable[[JsonObject], bool]
"""Whether an object that does not fit the schema answers all the same."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of an LLM.

    Attributes:
        data: JSON object that fits the schema, or that the caller accepts; ``None`` if the reply has none.
        text: Text of the reply.
        usage: Usage of all attempts for this reply.
        error: Reason why ``data`` is ``None``, for a repair round.
        is_refusal: Whether the LLM, or its provider's filter, declined to answer: asking again cannot help.
        is_cut_off: Whether it ended at the output limit.
    """

    data: JsonObject | None
    text: str
    usage: Usage
    error: str | None = None
    is_refusal: bool = False
    is_cut_off: bool = False


def message_text(message: AIMessage) -> str:
    """Return the text of a message, or the arguments of its first tool call as JSON."""
    if message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
    return without_surrogates(str(message.text) or str(message.additional_kwargs.get("refusal") or ""))


def read_message(
    message: AIMessage, schema: Mapping[str, object], accepts: Accepts | None
) -> tuple[JsonObject | None, str | None]:
    """Return the object in a message, else the reason why there is none; the reasoning is read last.

    Args:
        message: Message of the LLM.
        schema: JSON schema of the object.
        accepts: Whether an object that does not fit the schema will do.
    """
    faults = []
    for text in _texts(message):
        data, fault = read_text(text, schema, accepts)
        if data is not None:
            return data, None
        faults.append(fault)
    return None, next((fault for fault in faults if fault != _NO_OBJECT), _NO_OBJECT)


def read_text(
    text: str, schema: Mapping[str, object], accepts: Accepts | None = None
) -> tuple[JsonObject | None, str | None]:
    """Return the one JSON object in a text that fits the schema (else, that is accepted), or the reason for none.

    The text itself may be the object; else what follows the last mark that closes reasoning is searched, or all of it
    where nothing follows. Two objects that fit and differ are no answer.
    """
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema)
    objects = _objects(_answer(text))
    fitting = _distinct(found for one in objects for found in _nested(one, validator.is_valid))
    if not fitting and accepts:
        fitting = _distinct(found for one in objects for found in _nested(one, accepts))
        if len(fitting) != 1 and (merged := _merged(objects)) is not None and accepts(merged):
            fitting = [merged]  # an object for each text
    if len(fitting) == 1:
        return fitting[0], None
    if fitting:
        return None, _AMBIGUOUS
    return None, _fault(validator, objects[0]) if objects else _NO_OBJECT


def _answer(text: str) -> str:
    """Return a text without the reasoning before its answer."""
    whole = text.strip()
    if whole.startswith("{") and _decoded(whole, 0)[1] == len(whole):
        return whole  # a mark in it is a quote
    answer = _END_OF_REASONING.split(text)[-1]
    return answer if answer.strip() else text


def _texts(message: AIMessage) -> Iterator[str]:
    """Yield the texts of a message that may hold the object, the most likely first."""
    extra = message.additional_kwargs
    for call in message.tool_calls:
        yield json.dumps(call["args"], ensure_ascii=False)
    yield str(message.text)
    for invalid in message.invalid_tool_calls:
        yield str(invalid.get("args") or "")
    yield str((extra.get("function_call") or {}).get("arguments") or "")
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") in ("reasoning", "thinking", "reasoning_content"):
            yield str(next((block[name] for name in ("reasoning", "thinking", "text") if block.get(name)), ""))
    yield str(extra.get("reasoning_content") or extra.get("reasoning") or "")


def _fault(validator: Any, data: JsonObject) -> str | None:
    from jsonschema.exceptions import best_match

    error = best_match(validator.iter_errors(data))
    if error is None:
        return None
    field = ".".join(str(part) for part in error.absolute_path)
    return f"{field + ': ' if field else ''}{error.message[:300]}"


def _objects(text: str) -> list[JsonObject]:
    """Return the outermost JSON objects in a text, in order; one that was cut off is never completed.

    LangChain's ``parse_json_markdown`` completes such JSON, which would pass for a whole answer.
    """
    objects: list[JsonObject] = []
    at = text.find("{")
    for _ in range(_MAX_OBJECTS):
        if at < 0:
            break
        value, end = _decoded(text, at)
        if value is not None:
            objects.append(value)
        at = text.find("{", end)
    found = [pattern.findall(text) for pattern in _PARAMETERS]
    return objects + [{name: _scalar(value) for name, value in pairs} for pairs in found if pairs]


def _decoded(text: str, at: int) -> tuple[JsonObject | None, int]:
    """Return the object that begins here, None if none does, and where to search on."""
    decoder = json.JSONDecoder(object_pairs_hook=_unambiguous, parse_constant=_refuse)
    try:
        value, end = decoder.raw_decode(text, at)
        return _clean(value), end
    except RecursionError:
        return None, len(text)
    except ValueError:
        pass
    closing = _closing(text, at)
    if closing is None:
        return None, at + 1
    block = text[at:closing]
    # Small models write Python's literals, and commas before a closing bracket.
    for parse in (ast.literal_eval, lambda part: decoder.decode(_TRAILING_COMMA.sub(r"\1\2", part))):
        try:
            value = parse(block)
            if isinstance(value, dict):
                return _clean(value), closing
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None, at + 1


_TRAILING_COMMA = re.compile(r"(\"(?:[^\"\\]|\\.)*\")|,(\s*[}\]])")


def _closing(text: str, at: int) -> int | None:
    """Return the end of the block of braces that begins here, quotes respected; None where it does not end."""
    depth, quote, i = 0, "", at
    while i < len(text):
        char = text[i]
        if quote:
            i += char == "\\"
            quote = "" if char == quote else quote
        elif char == '"' or (char == "'" and not text[i - 1].isalnum()):
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return i + 1
        i += 1
    return None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object without the keys that occur with two values: which is meant, nobody knows."""
    data: dict[str, Any] = {}
    conflicting = set()
    for key, value in pairs:
        if key in data and data[key] != value:
            conflicting.add(key)
        data[key] = value
    return {key: value for key, value in data.items() if key not in conflicting}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _clean(value: Any) -> JsonObject:
    """Return a value as JSON that can be encoded; raise ``ValueError`` for what is none."""
    whole = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return json.loads(without_surrogates(whole))  # type: ignore[no-any-return]


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nested(value: JsonObject, fits: Accepts, depth: int = 0) -> Iterator[JsonObject]:
    """Yield the object if it fits, else those inside it that do: an answer in a wrapper, such as a tool call."""
    if fits(value):
        yield value
        return
    if depth == _MAX_DEPTH:
        return
    for inner in value.values():
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, str) and item.lstrip().startswith("{"):
                item = _decoded(item, item.index("{"))[0]
            if isinstance(item, dict):
                yield from _nested(item, fits, depth + 1)


def _merged(objects: list[JsonObject]) -> JsonObject | None:
    """Return objects without a common key as one, such as a line for each text; None where there are fewer than two."""
    keys = [key for one in objects for key in one]
    if len(objects) < 2 or len(set(keys)) < len(keys):
        return None
    return {key: value for one in objects for key, value in one.items()}


def _distinct(objects: Iterator[JsonObject]) -> list[JsonObject]:
    distinct: list[JsonObject] = []
    for one in objects:
        if one not in distinct:
            distinct.append(one)
    return distinct


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which neither requests nor stores can encode, by U+FFFD; offsets stay."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
