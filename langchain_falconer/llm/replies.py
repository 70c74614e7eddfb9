"""Replies of an LLM: the JSON object in what it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_falconer.llm.usage import Usage
from langchain_falconer.records import JsonObject

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

CUT_OFF = "the reply was cut off at the output limit; raise max_output_tokens or ask for less at once"
FILTERED = "the provider's content filter withheld the reply"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of an LLM.

    Attributes:
        data: JSON object that fits the schema; ``None`` if the reply has none.
        text: Text of the reply.
        usage: Usage of all attempts for this reply.
        error: Reason why ``data`` is ``None``, for a repair round.
    """

    data: JsonObject | None
    text: str
    usage: Usage
    error: str | None = None


def message_text(message: AIMessage) -> str:
    """Return the text of a message, or the arguments of its first tool call as JSON."""
    if message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
    return without_surrogates(str(message.text) or str(message.additional_kwargs.get("refusal") or ""))


def parse_reply(text: str, schema: Mapping[str, object]) -> tuple[JsonObject | None, str | None]:
    """Return the JSON object in a reply if it fits the schema, else the reason."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    data = _json_object(text)
    if data is None:
        return None, "the reply holds no JSON object"
    fault = best_match(Draft202012Validator(schema).iter_errors(data))
    if fault is None:
        return data, None
    field = ".".join(str(part) for part in fault.absolute_path)
    return None, f"{field + ': ' if field else ''}{fault.message[:300]}"


def _json_object(text: str) -> JsonObject | None:
    """Parse the reply itself, a fenced block in it, or the text from its first to its last brace.

    LangChain's ``parse_json_markdown`` completes JSON that was cut off, which would pass for a whole answer.
    """
    text = re.sub(r"(?s)^\s*<think>.*?</think>", "", text).strip()
    fenced = re.search(r"(?s)```[a-zA-Z]*\s*(\{.*?\})\s*```", text)
    for candidate in (text, fenced[1] if fenced else "", text[text.find("{") : text.rfind("}") + 1]):
        try:
            data = json.loads(candidate)
            if isinstance(data, dict):  # written without NaN and infinity, which are not JSON
                whole = json.dumps(data, ensure_ascii=False, allow_nan=False)
                return json.loads(without_surrogates(whole))  # type: ignore[no-any-return]
        except (ValueError, RecursionError):
            continue
    return None


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which neither requests nor stores can encode, by U+FFFD; offsets stay."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
