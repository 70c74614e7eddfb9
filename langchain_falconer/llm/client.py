"""The LLM client: one JSON object a call, with retries, rate limit, and usage of every attempt."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import FalconerError, LLMError
from langchain_falconer.llm.failures import (
    error_message,
    has_class_name,
    is_out_of_credit,
    is_timeout,
    is_transient,
    is_unsupported,
    redacted,
    safe_cause,
    status_of,
)
from langchain_falconer.llm.loading import api_key_hint, load_model, model_name
from langchain_falconer.llm.output_modes import OUTPUT_MODES, OutputMode, caller, with_schema
from langchain_falconer.llm.prices import Price, list_price
from langchain_falconer.llm.replies import CUT_OFF, FILTERED, Reply, message_text, parse_reply, without_surrogates
from langchain_falconer.llm.usage import Meter, Usage, estimate_tokens
from langchain_falconer.llm.waiting import rate_limiter, retry_wait
from langchain_falconer.settings import LLMSettings
from langchain_falconer.tracing import llm_call

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage


class LLM:
    """An LLM that answers in JSON under a schema. Thread-safe.

    Args:
        model: ``"provider:model"`` for LangChain's ``init_chat_model`` (``OPENAI_BASE_URL`` and the like count),
            ``"gguf:/path/to/model.gguf"`` for llama.cpp in this process, or any LangChain chat model.
        settings: Timeout, retries, rate limit and price.

    Raises:
        LLMError: The model cannot be set up; the message names what to install or set.
    """

    def __init__(self, model: str | BaseChatModel, settings: LLMSettings | None = None) -> None:
        self.settings = settings or LLMSettings()
        self._model = load_model(model, self.settings)
        self.name = model_name(self._model)
        self._output_mode: OutputMode | None = None
        self._slots = threading.BoundedSemaphore(self.settings.max_concurrency)
        self._rate_limiter = rate_limiter(self.settings.requests_per_second)

    def price(self) -> Price | None:
        """Return the price of the model, the settings' before that of the table; ``None`` if it is unknown."""
        if self.settings.usd_per_million_tokens is not None:
            return Price(*self.settings.usd_per_million_tokens, source="as set")
        if self.name.startswith("gguf:"):
            return Price(0.0, 0.0, source="it runs on this machine")
        return list_price(self.name)

    def complete(
        self, messages: list[tuple[str, str]], schema: Mapping[str, object], meter: Meter | None = None
    ) -> Reply:
        """Request one JSON object.

        Structured output is requested as JSON schema, then as a tool call, then as JSON in plain text; the first mode
        that the model supports is used from then on. Every reply is validated against the schema.

        Args:
            messages: ``(role, text)`` pairs; roles are ``system``, ``user`` and ``assistant``.
            schema: JSON schema of an object, with a ``title``. Closed objects with every field required suit
                strict modes and small models.
            meter: Account of every attempt.

        Raises:
            LLMError: The provider refused, or did not answer within all retries.
            BudgetError: The meter refused an attempt.
        """
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self.settings.max_retries + 1),
            retry=retry_if_exception(is_transient),
            wait=retry_wait,
            reraise=True,
        )
        spent: list[Usage] = []
        prompt = [(role, without_surrogates(text)) for role, text in messages]
        negotiated = self._output_mode
        for mode in (negotiated,) if negotiated else OUTPUT_MODES:
            try:
                reply = retrying(self._attempt, mode, prompt, schema, meter, spent)
            except FalconerError:
                raise
            except Exception as error:
                if negotiated is None and mode != OUTPUT_MODES[-1] and is_unsupported(error):
                    continue
                raise self._failure(error) from safe_cause(error, self._model)
            self._output_mode = self._output_mode or mode
            return replace(reply, usage=sum(spent, Usage()))
        raise AssertionError("the last output mode either returns or raises")

    def _attempt(
        self,
        mode: OutputMode,
        messages: list[tuple[str, str]],
        schema: Mapping[str, object],
        meter: Meter | None,
        spent: list[Usage],
    ) -> Reply:
        """Request once; what it used is added to ``spent`` and settled with the meter, whatever happens."""
        call = caller(self._model, mode, schema)
        prompt = with_schema(messages, schema) if mode == "text" else messages
        size = sum(estimate_tokens(text) for _, text in prompt)
        size += 0 if mode == "text" else estimate_tokens(json.dumps(schema))
        estimated, used = self._usage(size, self.settings.max_output_tokens), self._usage(0, 0)
        with self._slots:
            if meter:
                meter.reserve(estimated)
            try:
                if self._rate_limiter:
                    self._rate_limiter.acquire()
                reply = self._call(call, prompt, schema, estimated)
                used = reply.usage
                return reply
            except BaseException as error:
                used = estimated if is_timeout(error) else used  # a request that timed out may be billed
                raise
            finally:
                spent.append(used)
                if meter:
                    meter.settle(estimated, used)

    def _call(
        self,
        call: Callable[[Any], AIMessage],
        prompt: list[tuple[str, str]],
        schema: Mapping[str, object],
        estimated: Usage,
    ) -> Reply:
        try:
            with llm_call(self.name) as report:
                message = call(prompt)
                report(message)
        except Exception as error:
            if not has_class_name(error, "LengthFinishReasonError", "ContentFilterFinishReasonError"):
                raise
            # The OpenAI client raises for a reply that was cut off or filtered.
            completion: Any = getattr(error, "completion", None)
            text = (completion.choices[0].message.content or "") if completion else ""
            billed = completion.usage if completion else None
            usage = self._usage(billed.prompt_tokens, billed.completion_tokens) if billed else estimated
            return Reply(None, text, usage, CUT_OFF if has_class_name(error, "LengthFinishReasonError") else FILTERED)
        text, reported = message_text(message), message.usage_metadata
        if reported is None:
            usage = self._usage(estimated.input_tokens, estimate_tokens(text))
        elif reported.get("total_cost") == 0:  # LangChain's mark of an answer from its cache
            usage = Usage(usd=0.0)
        else:
            cached = (reported.get("input_token_details") or {}).get("cache_read") or 0
            usage = self._usage(reported["input_tokens"], reported["output_tokens"], cached)
        finish = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
        if finish in ("length", "max_tokens", "MAX_TOKENS"):
            return Reply(None, text, usage, CUT_OFF)
        if finish == "content_filter":
            return Reply(None, text, usage, FILTERED)
        data, fault = parse_reply(text, schema)
        return Reply(data, text, usage, fault)

    def _usage(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Usage:
        price = self.price()
        usd = price.usd(input_tokens, output_tokens, cached_tokens) if price else None
        return Usage(1, input_tokens, output_tokens, usd)

    def _failure(self, error: Exception) -> LLMError:
        """Translate a provider's error into one sentence with its fix, and the data that a caller needs."""
        status, attempts = status_of(error), self.settings.max_retries + 1 if is_transient(error) else 1
        reason = redacted(error_message(error), self._model)
        provider = self.name.partition(":")[0]
        if status in (401, 403) or has_class_name(error, "AuthenticationError", "PermissionDeniedError"):
            message = f"refused the credentials ({status or 'no access'}); check {api_key_hint(provider)}"
        elif is_out_of_credit(error):
            message = "reports that the account has no credit left; top it up or name another model"
        elif is_transient(error):
            message = (
                f"gave no answer in {attempts} attempt{'s' * (attempts > 1)} ({reason}); check that it is reachable, "
                "or allow more retries or a longer timeout"
            )
        elif status == 404:
            message = f"was not found ({reason}); check the model's name and the base URL"
        else:
            message = f"could not answer ({reason}); check the model's name and settings"
        return LLMError(f"{self.name} {message}", model=self.name, status=status, attempts=attempts)
