"""The LLM client: one JSON object a call, with retries, rate limit, and usage of every attempt."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from langchain_falconer.errors import LLMError
from langchain_falconer.llm.capabilities import Capabilities
from langchain_falconer.llm.exchange import Exchange, Request
from langchain_falconer.llm.failures import Failure
from langchain_falconer.llm.loading import api_key_hint, load_model, model_name
from langchain_falconer.llm.output_modes import OutputMode, with_reasoning
from langchain_falconer.llm.prices import Price, list_price
from langchain_falconer.llm.redaction import redacted
from langchain_falconer.llm.replies import Accepts, Reply, without_surrogates
from langchain_falconer.llm.usage import Meter, Usage
from langchain_falconer.llm.waiting import MAX_WAIT_S, Pause, rate_limiter
from langchain_falconer.settings import LLMSettings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class LLM:
    """An LLM that answers in JSON under a schema. Thread-safe.

    Servers differ in what they support and in how they say so. What this one turned out to support is remembered: the
    output mode that works, the parameters that it accepts, the output limit that suffices.

    Args:
        model: ``"provider:model"`` for LangChain's ``init_chat_model`` (``OPENAI_BASE_URL`` and the like count),
            ``"gguf:/path/to/model.gguf"`` for llama.cpp in this process, ``"systemone:URL"`` for a server of typed
            decisions, or any LangChain chat model.
        settings: Timeout, retries, rate limit and price.

    Raises:
        LLMError: The model cannot be set up; the message names what to install or set.
    """

    def __init__(self, model: str | BaseChatModel, settings: LLMSettings | None = None) -> None:
        self.settings = settings or LLMSettings()
        loaded = load_model(model, self.settings)
        self.name = model_name(loaded)
        self.capabilities = Capabilities(with_reasoning(loaded), self.settings.max_output_tokens)
        self.slots = threading.BoundedSemaphore(self.settings.max_concurrency)
        self.pause = Pause()
        self.rate_limiter = rate_limiter(self.settings.requests_per_second)

    @property
    def output_mode(self) -> OutputMode | None:
        """The output mode that gave an object that fits; ``None`` as long as none did."""
        return self.capabilities.output_mode

    @property
    def is_decider(self) -> bool:
        """Whether it answers typed questions only (``systemone:URL``), and writes no text."""
        return self.name.startswith("systemone:")

    @property
    def base_url(self) -> str | None:
        """Address of the server without credentials; ``None`` where the model names none."""
        model = self.capabilities.model
        names = ("openai_api_base", "base_url", "anthropic_api_url", "azure_endpoint")
        client = getattr(getattr(model, "root_client", None), "base_url", None)
        found = next((url for url in (client, *(getattr(model, name, None) for name in names)) if url), None)
        return redacted(str(found), model).rstrip("/") if found else None

    def price(self) -> Price | None:
        """Return the price of the model, the settings' before that of the table; ``None`` if it is unknown."""
        if self.settings.usd_per_million_tokens is not None:
            return Price(*self.settings.usd_per_million_tokens, source="as set")
        if self.name.startswith("gguf:"):
            return Price(0.0, 0.0, source="it runs on this machine")
        return list_price(self.name)

    def usage(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Usage:
        """Return the usage of one call with so many tokens, at the price of this LLM."""
        price = self.price()
        usd = price.usd(input_tokens, output_tokens, cached_tokens) if price else None
        return Usage(1, input_tokens, output_tokens, usd)

    def complete(
        self,
        messages: list[tuple[str, str]],
        schema: Mapping[str, object],
        meter: Meter | None = None,
        *,
        accepts: Accepts | None = None,
        mode: OutputMode | None = None,
    ) -> Reply:
        """Request one JSON object.

        Structured output is requested as JSON schema, then as a tool call, then as JSON in plain text; the first mode
        that gives an object that fits is used from now on, and the others are tried again where it stops to work.

        Args:
            messages: ``(role, text)`` pairs; roles are ``system``, ``user`` and ``assistant``.
            schema: JSON schema of an object, with a ``title``. Closed objects with every field required suit
                strict modes and small models.
            meter: Account of every attempt.
            accepts: Whether an object that does not fit the schema answers all the same.
            mode: Use this output mode only.

        Raises:
            LLMError: The provider refused, or did not answer within all retries; see ``LLMError.kind``.
            BudgetError: The meter refused an attempt.
        """
        request = Request([(role, without_surrogates(text)) for role, text in messages], schema, accepts)
        return Exchange(self, request, meter).complete(mode)

    def error(self, failure: Failure, attempts: int) -> LLMError:
        """Return a failure as an error: one sentence with its fix, and the data that a caller needs."""
        provider, status, url = self.name.partition(":")[0], failure.status, self.base_url
        reason = redacted(failure.message, self.capabilities.model)
        at = f" at {url}" if url else ""
        if failure.cause == "credit":
            message = "reports that the account has no credit left; top it up or name another model"
        elif failure.cause == "access" and status in (401, 403, None):
            message = f"refused the credentials ({status or 'no access'}); check {api_key_hint(provider)}"
        elif failure.cause == "content":
            message = f"refused the texts of this call ({reason})"
        elif failure.cause == "length":
            message = (
                f"cannot take a request of this length ({reason}); ask about fewer texts in one call, or shorter ones"
            )
        elif failure.cause == "web_page":
            message = (
                f"answers with a web page{at} instead of OpenAI's protocol; set OPENAI_BASE_URL to the API's address, "
                f"which often ends in /v1"
            )
        elif failure.wait_s is not None and failure.wait_s > MAX_WAIT_S:
            message = f"wants to be left alone for {failure.wait_s / 60:,.0f} minutes ({reason}); run again then"
        elif failure.is_transient:
            message = (
                f"gave no answer{at} in {attempts} attempt{'s' * (attempts > 1)} ({reason}); check that the server "
                "runs and is reachable, or allow more attempts (--max-retries) or a longer timeout (--timeout)"
            )
        elif status in (404, 405):
            hint = "" if not url or url.endswith("/v1") else ", which often ends in /v1"
            message = f"was not found{at} ({reason}); check the model's name and OPENAI_BASE_URL{hint}"
        else:
            message = f"could not answer ({reason}); check the model's name and settings"
        return LLMError(f"{self.name} {message}", model=self.name, status=status, attempts=attempts, kind=failure.kind)
