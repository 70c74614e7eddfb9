"""The LLM client of planner and annotator: structured output, retries, rate limit, and usage of every attempt."""

from __future__ import annotations

import inspect
import json
import random
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import SecretStr, ValidationError

from langchain_falconer.errors import FalconerError, LLMError
from langchain_falconer.records import JsonObject
from langchain_falconer.settings import LLMSettings
from langchain_falconer.tracing import llm_call

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.rate_limiters import BaseRateLimiter
    from tenacity import RetryCallState

OutputMode = Literal["json_schema", "function_calling", "text"]
_OUTPUT_MODES: tuple[OutputMode, ...] = ("json_schema", "function_calling", "text")
_MAX_WAIT_S = 120.0
_CUT_OFF = "the reply was cut off at the output limit; raise max_output_tokens or ask for less at once"
_FILTERED = "the provider's content filter withheld the reply"

_PRICE_PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "bedrock": "aws"}
"""Providers of the price table by LangChain's name, where the two differ."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of LLM calls.

    Attributes:
        calls: Number of calls.
        input_tokens: Number of input tokens.
        output_tokens: Number of output tokens.
        usd: Price in USD; ``None`` if unknown.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum; its price is unknown if that of a side is, unless the side is empty."""
        priced = [u.usd for u in (self, other) if u != Usage()]
        usd = None if not priced or None in priced else sum(p for p in priced if p is not None)
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            usd,
        )


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


class Meter(Protocol):
    """An account of attempts, which may refuse them; called from several threads."""

    def reserve(self, estimated: Usage) -> None:
        """Enter an attempt, retries included, before it is made; raise :class:`BudgetError` to refuse it."""

    def settle(self, estimated: Usage, used: Usage) -> None:
        """Replace the estimate of an attempt by its real usage, failed attempts included."""


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
        self._model = _load(model, self.settings)
        self.name = _name(self._model)
        self._output_mode: OutputMode | None = None
        self._slots = threading.BoundedSemaphore(self.settings.max_concurrency)
        self._rate_limiter = _rate_limiter(self.settings.requests_per_second)

    def price(self) -> tuple[float, float] | None:
        """Return USD per million input and output tokens; ``None`` if unknown."""
        if self.settings.usd_per_million_tokens is not None:
            return self.settings.usd_per_million_tokens
        if self.name.startswith("gguf:"):
            return (0.0, 0.0)
        return _list_price(self.name)

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
            retry=retry_if_exception(_is_transient),
            wait=_retry_wait,
            reraise=True,
        )
        spent: list[Usage] = []
        prompt = [(role, _without_surrogates(text)) for role, text in messages]
        negotiated = self._output_mode
        for mode in (negotiated,) if negotiated else _OUTPUT_MODES:
            try:
                reply = retrying(self._attempt, mode, prompt, schema, meter, spent)
            except FalconerError:
                raise
            except Exception as error:
                if negotiated is None and mode != _OUTPUT_MODES[-1] and _is_unsupported(error):
                    continue
                raise self._failure(error) from _safe_cause(error, self._model)
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
        call = _caller(self._model, mode, schema)
        prompt = _with_schema(messages, schema) if mode == "text" else messages
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
                used = estimated if _is_timeout(error) else used  # a request that timed out may be billed
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
            if not _has_class_name(error, "LengthFinishReasonError", "ContentFilterFinishReasonError"):
                raise
            # The OpenAI client raises for a reply that was cut off or filtered.
            completion: Any = getattr(error, "completion", None)
            text = (completion.choices[0].message.content or "") if completion else ""
            billed = completion.usage if completion else None
            usage = self._usage(billed.prompt_tokens, billed.completion_tokens) if billed else estimated
            return Reply(
                None, text, usage, _CUT_OFF if _has_class_name(error, "LengthFinishReasonError") else _FILTERED
            )
        text, reported = message_text(message), message.usage_metadata
        if reported is None:
            usage = self._usage(estimated.input_tokens, estimate_tokens(text))
        elif reported.get("total_cost") == 0:  # LangChain's mark of an answer from its cache
            usage = Usage(usd=0.0)
        else:
            usage = self._usage(reported["input_tokens"], reported["output_tokens"])
        finish = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
        if finish in ("length", "max_tokens", "MAX_TOKENS"):
            return Reply(None, text, usage, _CUT_OFF)
        if finish == "content_filter":
            return Reply(None, text, usage, _FILTERED)
        data, fault = _parse_reply(text, schema)
        return Reply(data, text, usage, fault)

    def _usage(self, input_tokens: int, output_tokens: int) -> Usage:
        price = self.price()
        usd = (input_tokens * price[0] + output_tokens * price[1]) / 1e6 if price else None
        return Usage(1, input_tokens, output_tokens, usd)

    def _failure(self, error: Exception) -> LLMError:
        """Translate a provider's error into one sentence with its fix, and the data that a caller needs."""
        status, attempts = _status(error), self.settings.max_retries + 1 if _is_transient(error) else 1
        reason = _redacted(_error_message(error), self._model)
        provider = self.name.partition(":")[0]
        if status in (401, 403) or _has_class_name(error, "AuthenticationError", "PermissionDeniedError"):
            message = f"refused the credentials ({status or 'no access'}); check {_api_key_hint(provider)}"
        elif _is_out_of_credit(error):
            message = "reports that the account has no credit left; top it up or name another model"
        elif _is_transient(error):
            message = (
                f"gave no answer in {attempts} attempt{'s' * (attempts > 1)} ({reason}); check that it is reachable, "
                "or allow more retries or a longer timeout"
            )
        elif status == 404:
            message = f"was not found ({reason}); check the model's name and the base URL"
        else:
            message = f"could not answer ({reason}); check the model's name and settings"
        return LLMError(f"{self.name} {message}", model=self.name, status=status, attempts=attempts)


@cache
def _list_price(name: str) -> tuple[float, float] | None:
    """Return USD per million input and output tokens by the table of ``genai-prices``; None for a missing model."""
    from genai_prices import Usage as TokenUsage
    from genai_prices import calc_price

    provider, _, model = name.partition(":")
    n = 1_000  # some models cost more per token in long prompts
    usages = TokenUsage(input_tokens=n, output_tokens=0), TokenUsage(input_tokens=0, output_tokens=n)
    provider = _PRICE_PROVIDERS.get(provider, provider)
    try:
        prices = [calc_price(usage, model_ref=model, provider_id=provider).total_price for usage in usages]
    except LookupError:
        return None
    return float(prices[0]) * 1e6 / n, float(prices[1]) * 1e6 / n


def _load(spec: str | BaseChatModel, settings: LLMSettings) -> BaseChatModel:
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
            model=_redacted(spec, None),
        )
    try:
        return _init_chat_model(spec, provider, settings)
    except ImportError as error:
        package = re.search(r"pip install (\S+?)`", str(error))
        missing = package[1] if package else f"the package for '{provider}'"
        raise LLMError(f"'{spec}' needs {missing}; pip install {missing}", model=spec) from error
    except Exception as error:
        reason = _redacted(_error_message(error), None)
        if "infer model provider" in reason:
            message = "is not of a known provider; write provider:model, such as openai:gpt-4.1-mini"
        elif re.search(r"key|credential|token", reason, re.IGNORECASE):
            message = f"has no credentials; set {_api_key_hint(provider)}"
        else:
            message = f"could not be set up ({reason}); check its name and its provider's settings"
        raise LLMError(f"'{spec}' {message}", model=spec) from _safe_cause(error, None)


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


def _name(model: BaseChatModel) -> str:
    params = model._get_ls_params()
    provider = params.get("ls_provider") or type(model).__name__
    model_name = params.get("ls_model_name") or getattr(model, "model_name", None) or getattr(model, "model", None)
    return f"{provider}:{model_name}" if model_name else str(provider)


def _api_key_hint(provider: str) -> str:
    return f"the API key in the environment variable {provider.upper().replace('-', '_')}_API_KEY"


def _rate_limiter(requests_per_second: float | None) -> BaseRateLimiter | None:
    if requests_per_second is None:
        return None
    from langchain_core.rate_limiters import InMemoryRateLimiter

    interval = min(0.1, 0.5 / requests_per_second)
    return InMemoryRateLimiter(requests_per_second=requests_per_second, check_every_n_seconds=interval)


def _caller(model: BaseChatModel, mode: OutputMode, schema: Mapping[str, object]) -> Callable[[Any], AIMessage]:
    """Return a function from messages to the LLM's message; it raises the model's error in an unsupported mode."""
    if mode == "text":
        return model.invoke
    options: dict[str, Any] = {"method": mode, "include_raw": True}
    if mode == "json_schema" and "strict" in inspect.signature(model.with_structured_output).parameters:
        options["strict"] = True
    structured = model.with_structured_output(dict(schema), **options)
    # Only the raw message is used, not LangChain's `parsed`: its parser completes JSON that was cut off.
    return lambda prompt: structured.invoke(prompt)["raw"]  # type: ignore[index]


def _with_schema(messages: list[tuple[str, str]], schema: Mapping[str, object]) -> list[tuple[str, str]]:
    shape = json.dumps(schema, ensure_ascii=False)
    request = f"Answer with one JSON object and nothing else. It fits this JSON schema: {shape}"
    if messages and messages[0][0] == "system":
        return [("system", f"{messages[0][1]}\n\n{request}"), *messages[1:]]
    return [("system", request), *messages]


def message_text(message: AIMessage) -> str:
    """Return the text of a message, or the arguments of its first tool call as JSON."""
    if message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
    return _without_surrogates(str(message.text) or str(message.additional_kwargs.get("refusal") or ""))


def _parse_reply(text: str, schema: Mapping[str, object]) -> tuple[JsonObject | None, str | None]:
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
                return json.loads(_without_surrogates(whole))  # type: ignore[no-any-return]
        except (ValueError, RecursionError):
            continue
    return None


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which neither requests nor stores can encode, by U+FFFD; offsets stay."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def estimate_tokens(text: str) -> int:
    """Estimate tokens with caution: three UTF-8 bytes per token, so that it holds for scripts other than Latin too."""
    return len(text.encode("utf-8", "surrogatepass")) // 3 + 1


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status_code", "code", "status"):
            if isinstance(value := getattr(holder, attribute, None), int) and 100 <= value < 600:
                return value
    return None


def _has_class_name(error: BaseException, *names: str) -> bool:
    """Return whether the error's class or a base of it has one of these names; no provider's package is imported."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _is_timeout(error: BaseException) -> bool:
    names = ("APITimeoutError", "TimeoutException", "ModelTimeoutError")
    return isinstance(error, TimeoutError) or _has_class_name(error, *names)


def _is_out_of_credit(error: BaseException) -> bool:
    return "insufficient_quota" in (getattr(error, "code", None), getattr(error, "type", None))


def _is_transient(error: BaseException) -> bool:
    if (status := _status(error)) is not None:
        return (status in (408, 409, 425, 429) or status >= 500) and status != 501 and not _is_out_of_credit(error)
    is_disconnected = _has_class_name(error, "APIConnectionError", "TransportError")
    return is_disconnected or isinstance(error, ConnectionError) or _is_timeout(error)


def _is_unsupported(error: Exception) -> bool:
    """Return whether another output mode may work where this one failed."""
    if re.search(r"context.?(length|size|window)|too long|model_not_found", f"{getattr(error, 'code', '')} {error}"):
        return False
    if (status := _status(error)) is not None:
        return status in (400, 404, 405, 415, 422, 501)
    return isinstance(error, NotImplementedError | TypeError | ValueError)


def _retry_wait(state: RetryCallState) -> float:
    """Return seconds until the next attempt: those of the server, else exponential with jitter."""
    error = state.outcome.exception() if state.outcome else None
    value: Any = (getattr(getattr(error, "response", None), "headers", None) or {}).get("retry-after")
    with suppress(ValueError, TypeError):  # no header, or a date
        return min(max(0.0, float(value)), _MAX_WAIT_S)
    with suppress(ValueError, TypeError):  # no header, or no date either (RFC 9110, 10.2.3)
        seconds = (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds()
        return min(max(0.0, seconds), _MAX_WAIT_S)
    return random.uniform(0.25, 1) * min(2.0**state.attempt_number / 2, 30)


def _error_message(error: BaseException) -> str:
    body = getattr(error, "body", None)
    provider_message = body.get("message") if isinstance(body, dict) else None
    line = " ".join(str(provider_message or error).split())
    return f"{line[:300]}…" if len(line) > 300 else line.rstrip(".") or type(error).__name__


def _safe_cause(error: BaseException, model: BaseChatModel | None) -> BaseException | None:
    """Return the error as a cause to show, or None if a traceback of it and its own causes would show a secret."""
    link: BaseException | None = error
    while link is not None:
        shown = f"{_error_message(link)} {link}"
        if _redacted(shown, model) != shown:
            return None
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return error


def _redacted(text: str, model: BaseChatModel | None) -> str:
    """Remove the model's secrets, anything that looks like a key, and credentials in URLs."""
    for value in vars(model).values() if model is not None else ():
        if isinstance(value, SecretStr) and len(secret := value.get_secret_value()) > 4:
            text = text.replace(secret, "***")
    text = re.sub(r"(?i)(bearer\s+|\b(?:sk|pk|gsk|xai)[-_]|\bAIza)[\w\-.*]{6,}", r"\1***", text)
    return re.sub(r"://[^/\s@]+@", "://", text)
