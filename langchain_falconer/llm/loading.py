"""Loading: a chat model by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from langchain_falconer.errors import LLMError
from langchain_falconer.llm.redaction import redacted, safe_cause
from langchain_falconer.settings import LLMSettings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_MAKERS = (
    (
        "ollama",
        r"(llama|codellama|tinyllama|qwen|phi|gemma|mistral|mixtral|deepseek-r1|smollm|gpt-oss)[\w.-]*:[\w.-]+$",
    ),
    ("openai", r"gpt-|chatgpt|o\d\b|text-"),
    ("anthropic", r"claude"),
    ("google_genai", r"gemini|gemma-"),
    ("mistralai", r"mistral|mixtral|ministral|codestral"),
    ("deepseek", r"deepseek-"),
    ("xai", r"grok"),
    ("cohere", r"command"),
    ("perplexity", r"sonar"),
)
"""Providers by how the names of their models begin."""
_PROVIDERS = {
    "anthropic": "anthropic", "azure": "azure_openai", "azure_openai": "azure_openai", "bedrock": "bedrock",
    "claude": "anthropic", "cohere": "cohere", "deepseek": "deepseek", "fireworks": "fireworks",
    "gemini": "google_genai", "google": "google_genai", "google_genai": "google_genai", "groq": "groq",
    "huggingface": "huggingface", "mistral": "mistralai", "mistralai": "mistralai", "ollama": "ollama",
    "openai": "openai", "openrouter": "openrouter", "perplexity": "perplexity", "together": "together", "xai": "xai",
}  # fmt: skip
"""LangChain's names of providers by what people call them."""


def load_model(spec: str | BaseChatModel, settings: LLMSettings) -> BaseChatModel:
    """Set up a chat model. Raises ``LLMError`` that names what to install or set."""
    from langchain_core.language_models import BaseChatModel

    if isinstance(spec, BaseChatModel):
        return spec
    if not isinstance(spec, str):
        raise LLMError(
            f"an LLM is a LangChain chat model or a name such as 'openai:gpt-4.1-mini', not a {type(spec).__name__}"
        )
    if spec.startswith("gguf:"):
        from langchain_falconer.gguf import GGUFChatModel

        return GGUFChatModel(
            path=spec.removeprefix("gguf:"), temperature=settings.temperature, max_tokens=settings.max_output_tokens
        )
    if spec.startswith("systemone:"):
        from langchain_falconer.llm.systemone import SystemOneChatModel

        return SystemOneChatModel(url=spec.removeprefix("systemone:"), timeout=settings.timeout_s)
    provider, colon, rest = spec.partition(":")
    if "://" in spec or not provider or (colon and not rest):
        raise LLMError(
            "an LLM is named provider:model, such as openai:gpt-4.1-mini; a server's URL goes into OPENAI_BASE_URL",
            model=redacted(spec, None),
        )
    try:
        return _init_chat_model(spec, provider, settings)
    except ImportError as error:
        package = re.search(r"pip install (\S+?)`", str(error))
        missing = package[1] if package else f"the package for '{provider}'"
        raise LLMError(f"'{spec}' needs {missing}; pip install {missing}", model=spec) from error
    except Exception as error:
        reason = redacted(" ".join(str(error).split())[:300].rstrip("."), None)
        suggestion = _suggestion(spec)
        if suggestion and (not colon or "infer model provider" in reason):
            message = f"names no provider; did you mean {suggestion}?"
        elif "infer model provider" in reason:
            message = (
                "is not of a known provider; write provider:model, such as openai:gpt-4.1-mini, or openai:"
                f"{rest or spec} for a server at OPENAI_BASE_URL"
            )
        elif re.search(r"key|credential|token", reason, re.IGNORECASE):
            message = f"has no credentials; set {api_key_hint(provider)}"
        else:
            message = f"could not be set up ({reason}); check its name and its provider's settings"
        raise LLMError(f"'{spec}' {message}", model=spec) from safe_cause(error, None)


def _suggestion(spec: str) -> str | None:
    """Return the ``provider:model`` that a name without a known provider most likely means."""
    first, mark, rest = re.match(r"([^:/]*)([:/]?)(.*)", spec).groups()  # type: ignore[union-attr]
    if mark and rest and (close := get_close_matches(first.lower(), _PROVIDERS, 1, 0.8)):
        return f"{_PROVIDERS[close[0]]}:{rest}"
    return next((f"{name}:{spec}" for name, models in _MAKERS if re.match(models, spec.lower())), None)


def _init_chat_model(spec: str, provider: str, settings: LLMSettings) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {"temperature": settings.temperature}
    if provider == "ollama":
        options |= {"num_predict": settings.max_output_tokens, "client_kwargs": {"timeout": settings.timeout_s}}
    else:
        options |= {"max_tokens": settings.max_output_tokens, "timeout": settings.timeout_s, "max_retries": 0}
    init: Callable[..., BaseChatModel] = init_chat_model  # its overloads confuse keyword dictionaries
    try:
        return init(spec, **options)
    except ValidationError as error:
        refused = {e["loc"][0] for e in error.errors() if e["type"] == "extra_forbidden" and e["loc"]}
        if not refused & set(options):
            raise
        return init(spec, **{k: v for k, v in options.items() if k not in refused})


def model_name(model: BaseChatModel) -> str:
    """Return ``provider:model``."""
    params = model._get_ls_params()
    provider = params.get("ls_provider") or type(model).__name__
    model_name = params.get("ls_model_name") or getattr(model, "model_name", None) or getattr(model, "model", None)
    return f"{provider}:{model_name}" if model_name else str(provider)


def api_key_hint(provider: str) -> str:
    """Return what to set for a provider to accept the credentials."""
    return f"the API key in the environment variable {provider.upper().replace('-', '_')}_API_KEY"
