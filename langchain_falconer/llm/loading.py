"""Loading: a chat model by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from langchain_falconer.errors import LLMError
from langchain_falconer.llm.failures import error_message, redacted, safe_cause
from langchain_falconer.settings import LLMSettings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


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
        reason = redacted(error_message(error), None)
        if "infer model provider" in reason:
            message = "is not of a known provider; write provider:model, such as openai:gpt-4.1-mini"
        elif re.search(r"key|credential|token", reason, re.IGNORECASE):
            message = f"has no credentials; set {api_key_hint(provider)}"
        else:
            message = f"could not be set up ({reason}); check its name and its provider's settings"
        raise LLMError(f"'{spec}' {message}", model=spec) from safe_cause(error, None)


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
