"""Failures of LLM calls: what a provider's error means, whatever its status, wording and class."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_falconer.errors import LLMErrorKind
from langchain_falconer.llm.durations import asked_wait

Cause = Literal[
    "content",
    "length",
    "mode",
    "missing",
    "web_page",
    "access",
    "credit",
    "rate_limit",
    "connection",
    "timeout",
    "server",
]
_KINDS: Mapping[Cause, LLMErrorKind] = {
    "content": "content",
    "length": "length",
    "mode": "request",
    "missing": "access",
    "web_page": "access",
    "access": "access",
    "credit": "access",
    "rate_limit": "server",
    "connection": "server",
    "timeout": "server",
    "server": "server",
}
_CONTENT = re.compile(
    r"content.{0,3}(filter|polic|management|moderation|safety|exists.risk|blocked|violat)|responsible.?ai|moderation"
    r"|flagged|data_?inspection|usage.polic|prohibited.content|inappropriate|sensitive|unsafe|harmful|safety"
    r"|violat\w* (of )?(our|the|its|this|\w+'s) .{0,30}polic",
    re.IGNORECASE,
)
_LENGTH = re.compile(
    r"context.?(length|size|window)|n_ctx|max_model_len|(prompt|input|request|message)s?.{0,20}too (long|large)"
    r"|too many (input )?tokens|token.{0,30}exceed|exceed\w*.{0,60}tokens|reduce (the length|your message)"
    r"|max_new_tokens.{0,20}must be|maximum (input|prompt) length",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_?not_?found|model.{0,80}(does not exist|not found)|no such model|unknown model", re.IGNORECASE
)
_CREDIT = re.compile(
    r"insufficient.?(quota|credit|balance|funds)|out of credit|billing|payment.required", re.IGNORECASE
)
# For bodies of errors without a number: (status, words of code, type or message).
_STATUSES = (
    (429, re.compile(r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl|quota", re.IGNORECASE)),
    (401, re.compile(r"api.?key|unauthenticated|unauthorized|authentication|credential", re.IGNORECASE)),
    (403, re.compile(r"permission.?denied|forbidden", re.IGNORECASE)),
)
_REFUSES_PARAMETER = re.compile(
    r"support|permitted|unknown|unrecogni[sz]ed|unexpected|invalid|extra|deprecated|not allowed|unavailable|remove"
    r"|only .{0,20}default",
    re.IGNORECASE,
)
# Parameters without which a request means the same, or nearly so.
_DROPPABLE = (
    "temperature", "max_completion_tokens", "max_tokens", "parallel_tool_calls", "strict", "tool_choice", "top_p",
    "seed", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias", "reasoning_effort",
    "stream_options", "service_tier", "store", "metadata", "user", "n", "stop",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error of a provider means.

    Attributes:
        cause: What went wrong: ``content`` and ``length`` are about the text; ``mode`` and ``missing`` (404) may be
            about the output mode; ``rate_limit``, ``connection``, ``timeout`` and ``server`` pass.
        message: The provider's own words, in one line.
        status: HTTP status, or the code in an error that came with status 200; ``None`` if there is none.
        wait_s: Seconds after which the server wants to be asked again.
        parameter: Parameter that the provider refuses.
    """

    cause: Cause
    message: str
    status: int | None = None
    wait_s: float | None = None
    parameter: str | None = None

    @property
    def kind(self) -> LLMErrorKind:
        """Kind of the :class:`LLMError` that reports it; 405 and 501 refuse every request, not this one."""
        return "access" if self.cause == "mode" and self.status in (405, 415, 501) else _KINDS[self.cause]

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.cause in ("rate_limit", "connection", "timeout", "server")

    @property
    def may_be_mode(self) -> bool:
        """Whether another output mode may work where this one failed; some servers crash, or hang, in one mode."""
        return self.cause in ("mode", "missing", "server", "timeout")


def diagnose(error: BaseException) -> Failure:
    """Return what an error of a chat model means; no provider's package is imported."""
    body = _body(error)
    message = _message(error, body)
    if (status := _status(error, body)) is None:
        return Failure(_cause_without_status(error), message)
    words = f"{message} {json.dumps(body, ensure_ascii=False, default=str)[:4000] if body else ''}"
    cause = _cause(status, words, error)
    wait = asked_wait(_headers(error), words) if cause in ("rate_limit", "server") else None
    parameter = _parameter(body, message) if cause == "mode" else None
    return Failure(cause, message, status, wait, parameter)


def _cause(status: int, words: str, error: BaseException) -> Cause:
    if status == 200:
        return "web_page" if re.search(r"(?i)html", _headers(error).get("content-type", "")) else "server"
    if status == 402 or (status in (400, 403, 429) and _CREDIT.search(words)):
        return "credit"
    if status != 401 and (status == 413 or _LENGTH.search(words)):
        return "length"
    if status == 451 or (status in (400, 403, 406, 422) and _CONTENT.search(words)):
        return "content"
    if status in (401, 403):
        return "access"
    if status == 404:
        return "access" if _NO_MODEL.search(words) else "missing"
    if status == 429:
        return "rate_limit"
    if status in (408, 409, 425) or (status >= 500 and status != 501):
        return "server"
    return "access" if _NO_MODEL.search(words) else "mode"


def _cause_without_status(error: BaseException) -> Cause:
    if is_timeout(error):
        return "timeout"
    if has_class_name(error, "APIConnectionError", "TransportError") or isinstance(error, ConnectionError):
        return "server" if _was_connected(error) else "connection"
    if has_class_name(error, "AuthenticationError", "PermissionDeniedError"):
        return "access"
    text = str(error)
    if "Unexpected response type" in text or "'str' object has no attribute" in text:
        return "web_page" if "<" in text else "server"
    if isinstance(error, json.JSONDecodeError | AttributeError | LookupError) or "choices" in text:
        return "server"  # a reply that is no chat completion: cut off, or of a gateway
    return "mode"


def _was_connected(error: BaseException) -> bool:
    """Return whether the connection was lost, rather than never made."""
    link: BaseException | None = error
    while link is not None:
        if has_class_name(link, "RemoteProtocolError", "ReadError", "ConnectionResetError", "IncompleteRead"):
            return True
        link = link.__cause__ or link.__context__
    return False


def has_class_name(error: BaseException, *names: str) -> bool:
    """Return whether the error's class or a base of it has one of these names."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def is_timeout(error: BaseException) -> bool:
    """Return whether a request timed out."""
    names = ("APITimeoutError", "TimeoutException", "ModelTimeoutError")
    return isinstance(error, TimeoutError) or has_class_name(error, *names)


def _status(error: BaseException, body: Mapping[str, Any]) -> int | None:
    """Return the status; that of an error in a reply with status 200 is its code, or follows from its words."""
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status_code", "code", "status"):
            value = getattr(holder, attribute, None)
            if isinstance(value, int) and 100 <= value < 600 and value != 200:
                return value
    if body:
        for name in ("code", "status", "status_code"):
            if re.fullmatch(r"[45]\d\d", str(body.get(name))):
                return int(body[name])
        words = json.dumps(body, default=str)
        if _CREDIT.search(words):
            return 402
        if _LENGTH.search(words) or _CONTENT.search(words):
            return 400
        return next((status for status, pattern in _STATUSES if pattern.search(words)), 500)
    return 200 if getattr(getattr(error, "response", None), "status_code", None) == 200 else None


def _body(error: BaseException) -> Mapping[str, Any]:
    """Return the provider's error object; empty if there is none."""
    body = getattr(error, "body", None) or next(iter(error.args), None)
    if not isinstance(body, dict | list):
        try:
            body = json.loads(error.response.text)  # type: ignore[attr-defined]
        except Exception:  # there is no response, its body was not read, or it is not JSON
            return {}
    if isinstance(body, list):
        body = next((item for item in body if isinstance(item, dict)), {})
    if isinstance(inner := body.get("error"), dict | str) and inner:
        body = inner if isinstance(inner, dict) else {**body, "message": inner}
    is_error = any(isinstance(body.get(name), str | int) for name in ("message", "code", "detail", "status"))
    return body if is_error or "detail" in body else {}


def _message(error: BaseException, body: Mapping[str, Any]) -> str:
    line = " ".join(str(body.get("message") or body.get("detail") or error).split())
    return f"{line[:300]}…" if len(line) > 300 else line.rstrip(".") or type(error).__name__


def _headers(error: BaseException) -> Mapping[str, str]:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in dict(headers).items()}


def _parameter(body: Mapping[str, Any], message: str) -> str | None:
    """Return the parameter that a 400 refuses: the one that it names, or the first in its message."""
    named = str(body.get("param") or "").rpartition(".")[2]
    if named in _DROPPABLE:
        return named
    where = str(body.get("loc") or body.get("detail") or "")
    words = f"{message} {where}"
    if not _REFUSES_PARAMETER.search(words):
        return None
    found = [
        (match.start(), name)
        for name in _DROPPABLE
        # a short name is a word of any sentence: only in quotes is it a parameter
        if (match := re.search(rf"(?<!\w){name}(?!\w)" if len(name) > 8 else rf"['\"`]{name}['\"`]", words))
    ]
    return min(found)[1] if found else None
