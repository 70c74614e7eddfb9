"""Failures of LLM calls: what a provider's error means, in one sentence and without secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error; None if it has none."""
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status_code", "code", "status"):
            if isinstance(value := getattr(holder, attribute, None), int) and 100 <= value < 600:
                return value
    return None


def has_class_name(error: BaseException, *names: str) -> bool:
    """Return whether the error's class or a base of it has one of these names; no provider's package is imported."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def is_timeout(error: BaseException) -> bool:
    """Return whether a request timed out."""
    names = ("APITimeoutError", "TimeoutException", "ModelTimeoutError")
    return isinstance(error, TimeoutError) or has_class_name(error, *names)


def is_out_of_credit(error: BaseException) -> bool:
    """Return whether the account has no credit left."""
    return "insufficient_quota" in (getattr(error, "code", None), getattr(error, "type", None))


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    if (status := status_of(error)) is not None:
        return (status in (408, 409, 425, 429) or status >= 500) and status != 501 and not is_out_of_credit(error)
    is_disconnected = has_class_name(error, "APIConnectionError", "TransportError")
    return is_disconnected or isinstance(error, ConnectionError) or is_timeout(error)


def is_unsupported(error: Exception) -> bool:
    """Return whether another output mode may work where this one failed."""
    if re.search(r"context.?(length|size|window)|too long|model_not_found", f"{getattr(error, 'code', '')} {error}"):
        return False
    if (status := status_of(error)) is not None:
        return status in (400, 404, 405, 415, 422, 501)
    return isinstance(error, NotImplementedError | TypeError | ValueError)


def error_message(error: BaseException) -> str:
    """Return the provider's own message in one line, or the error's."""
    body = getattr(error, "body", None)
    provider_message = body.get("message") if isinstance(body, dict) else None
    line = " ".join(str(provider_message or error).split())
    return f"{line[:300]}…" if len(line) > 300 else line.rstrip(".") or type(error).__name__


def safe_cause(error: BaseException, model: BaseChatModel | None) -> BaseException | None:
    """Return the error as a cause to show, or None if a traceback of it and its own causes would show a secret."""
    link: BaseException | None = error
    while link is not None:
        shown = f"{error_message(link)} {link}"
        if redacted(shown, model) != shown:
            return None
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return error


def redacted(text: str, model: BaseChatModel | None) -> str:
    """Remove the model's secrets, anything that looks like a key, and credentials in URLs."""
    for value in vars(model).values() if model is not None else ():
        if isinstance(value, SecretStr) and len(secret := value.get_secret_value()) > 4:
            text = text.replace(secret, "***")
    text = re.sub(r"(?i)(bearer\s+|\b(?:sk|pk|gsk|xai)[-_]|\bAIza)[\w\-.*]{6,}", r"\1***", text)
    return re.sub(r"://[^/\s@]+@", "://", text)
