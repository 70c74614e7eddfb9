"""Secrets, which no message and no traceback shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def redacted(text: str, model: BaseChatModel | None) -> str:
    """Remove the model's secrets, anything that looks like a key, and credentials in URLs."""
    for value in vars(model).values() if model is not None else ():
        if isinstance(value, SecretStr) and len(secret := value.get_secret_value()) > 4:
            text = text.replace(secret, "***")
    text = re.sub(r"(?i)(bearer\s+|\b(?:sk|pk|gsk|xai)[-_]|\bAIza)[\w\-.*]{6,}", r"\1***", text)
    return re.sub(r"://[^/\s@]+@", "://", text)


def safe_cause(error: BaseException, model: BaseChatModel | None) -> BaseException | None:
    """Return the error as a cause to show, or None if a traceback of it and its own causes would show a secret."""
    link: BaseException | None = error
    while link is not None:
        shown = f"{getattr(link, 'body', None)} {link}"
        if redacted(shown, model) != shown:
            return None
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return error
