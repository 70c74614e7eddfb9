"""One LLM behind planner and annotator: structured answers, retries, rate, and an account of every attempt."""

from __future__ import annotations

import inspect
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import SecretStr, ValidationError

from langchain_falconer.errors import FalconerError, LLMError
from langchain_falconer.settings import LLMSettings
from langchain_falconer.tracing import llm_call

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from tenacity import RetryCallState

OutputMode = Literal["json_schema", "function_calling", "text"]
_OUTPUT_MODES: tuple[OutputMode, ...] = ("json_schema", "function_calling", "text")
_LONGEST_WAIT_S = 120.0

_PRICE_PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "bedrock": "aws"}
"""Providers of the price table by LangChain's name, where the two differ."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What asking took; ``usd`` is ``None`` where no price is known."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """The sum; its price is unknown as soon as one side's is, an empty side aside."""
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
    """One answer: ``data`` fits the schema, or ``error`` says why there is none (for a repair round).

    ``text`` is what the LLM wrote; ``usage`` covers every attempt that this answer took.
    """

    data: dict[str, Any] | None
    text: str
    usage: Usage
    error: str | None = None


class Meter(Protocol):
    """Keeps account of attempts and may refuse them; called from several threads."""

    def reserve(self, estimated: Usage) -> None:
        """Called before every attempt, retries included; raises :class:`BudgetError` to refuse it."""

    def settle(self, estimated: Usage, used: Usage) -> None:
        """Called after every attempt that ``before`` let pass, failed ones included."""


class LLM:
    """An LLM that answers in JSON under a schema. Thread-safe.

    Args:
        model: ``"provider:model"`` for LangChain's ``init_chat_model`` (``OPENAI_BASE_URL`` and the like count),
            ``"gguf:/path/to/model.gguf"`` for llama.cpp in this process, or any LangChain chat model.
        settings: Timeouts, retries, rate and price.

    Raises:
        LLMError: The model cannot be set up; the sentence names what to install or set.
    """

    def __init__(self, model: str | BaseChatModel, settings: LLMSettings | None = None) -> None:
        self.settings = settings or LLMSettings()
        self._model = _load(model, self.settings) if isinstance(model, str) else model
        self.name = _name(self._model)
        self._way: OutputMode | None = None
        self._slots = threading.BoundedSemaphore(self.settings.max_concurrency)
        self._wait_for_turn = _turns(self.settings.requests_per_second)

    def price(self) -> tuple[float, float] | None:
        """USD per million input and output tokens; ``None`` if unknown."""
        if self.settings.usd_per_million_tokens is not None:
            return self.settings.usd_per_million_tokens
        if self.name.startswith("gguf:"):
            return (0.0, 0.0)
        return _list_price(self.name)

    def complete(self, messages: list[tuple[str, str]], schema: dict[str, Any], meter: Meter | None = None) -> Reply:
        """Ask for one JSON object.

        Structured output is tried as JSON schema, then as a tool call, then as JSON in plain text; the first that
        this model supports is remembered. Whatever comes is validated against the schema here.

        Args:
            messages: ``(role, text)`` pairs; roles are ``system``, ``user`` and ``assistant``.
            schema: JSON schema of an object, with a ``title``. Closed objects with every field required suit
                strict modes and small models.
            meter: Asked before, and told after, every attempt.

        Raises:
            LLMError: The provider refuses, or did not answer within all retries.
            BudgetError: The meter refused an attempt.
        """
        spent: list[Usage] = []
        prompt = [(role, _encodable(text)) for role, text in messages]
        known = self._way
        for way in (known,) if known else _OUTPUT_MODES:
            try:
                reply = self._retrying(partial(self._attempt, way, prompt, schema, meter, spent))
            except FalconerError:
                raise
            except Exception as error:
                if known is None and way != _OUTPUT_MODES[-1] and _is_unsupported(error):
                    continue
                failure = self._failure(error)
                # A message that had to be scrubbed would show its secret in the traceback of a cause.
                raise failure from (error if _message(error) == _scrubbed(_message(error), self._model) else None)
            self._way = self._way or way
            return replace(reply, usage=sum(spent, Usage()))
        raise AssertionError("the last way either answers or raises")

    def _retrying(self, attempt: Callable[[], Reply]) -> Reply:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        return Retrying(
            stop=stop_after_attempt(self.settings.max_retries + 1),
            retry=retry_if_exception(_is_transient),
            wait=_pause,
            reraise=True,
        )(attempt)

    def _attempt(
        self,
        way: OutputMode,
        messages: list[tuple[str, str]],
        schema: dict[str, Any],
        meter: Meter | None,
        spent: list[Usage],
    ) -> Reply:
        ask = _asker(self._model, way, schema)
        prompt = _with_schema(messages, schema) if way == "text" else messages
        size = sum(_tokens(text) for _, text in prompt) + (0 if way == "text" else _tokens(json.dumps(schema)))
        estimated = self._usage(size, self.settings.max_output_tokens)
        with self._slots, self._metered(meter, estimated, spent):
            self._wait_for_turn()
            reply = self._read(ask, prompt, schema, estimated)
            spent.append(reply.usage)
            return reply

    @contextmanager
    def _metered(self, meter: Meter | None, estimated: Usage, spent: list[Usage]) -> Iterator[None]:
        """One attempt's entry in the account; a request that timed out may well be billed, so it counts in full."""
        if meter:
            meter.reserve(estimated)
        had = len(spent)
        try:
            yield
        except BaseException as error:
            spent.append(estimated if _is_timeout(error) else self._usage(0, 0))
            raise
        finally:
            if meter:
                meter.settle(estimated, spent[had])

    def _read(
        self, ask: Callable[[Any], AIMessage], prompt: list[tuple[str, str]], schema: dict[str, Any], estimated: Usage
    ) -> Reply:
        try:
            with llm_call(self.name) as report:
                message = ask(prompt)
                report(message)
        except Exception as error:
            if (cut := _unfinished(error)) is None:
                raise
            written, tokens, why = cut
            return Reply(None, written, self._usage(*tokens) if tokens else estimated, why)
        text = _said(message)
        usage = self._charged(message, text, estimated)
        if unfinished := _why_unfinished(message):
            return Reply(None, text, usage, unfinished)
        data, reason = _checked(text, schema)
        return Reply(data, text, usage, reason)

    def _charged(self, message: AIMessage, text: str, estimated: Usage) -> Usage:
        reported = message.usage_metadata
        if reported is None:
            return self._usage(estimated.input_tokens, _tokens(text))
        if reported.get("total_cost") == 0:  # LangChain's mark of an answer from its cache
            return Usage(usd=0.0)
        return self._usage(reported["input_tokens"], reported["output_tokens"])

    def _usage(self, input_tokens: int, output_tokens: int) -> Usage:
        price = self.price()
        usd = (input_tokens * price[0] + output_tokens * price[1]) / 1e6 if price else None
        return Usage(1, input_tokens, output_tokens, usd)

    def _failure(self, error: Exception) -> LLMError:
        """What the provider raised, as one sentence with the fix and the data that a caller acts on."""
        status, attempts = _status(error), self.settings.max_retries + 1 if _is_transient(error) else 1
        reason = _scrubbed(_message(error), self._model)
        provider = self.name.partition(":")[0]
        if status in (401, 403) or _is_named(error, "AuthenticationError", "PermissionDeniedError"):
            message = f"refused the credentials ({status or 'no access'}); check {_key_of(provider)}"
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
    """USD per million input and output tokens by the table of ``genai-prices``; None for a model that it lacks."""
    from genai_prices import Usage as TokenUsage
    from genai_prices import calc_price

    provider, _, model = name.partition(":")
    provider = _PRICE_PROVIDERS.get(provider, provider)
    n = 1_000  # some models cost more per token in long prompts
    try:
        prices = [
            calc_price(usage, model_ref=model, provider_id=provider).total_price
            for usage in (TokenUsage(input_tokens=n, output_tokens=0), TokenUsage(input_tokens=0, output_tokens=n))
        ]
    except LookupError:
        return None
    return float(prices[0]) * 1e6 / n, float(prices[1]) * 1e6 / n


def _load(spec: str, settings: LLMSettings) -> BaseChatModel:
    if spec.startswith("gguf:"):
        from langchain_falconer.gguf import GGUFChatModel

        return GGUFChatModel(
            path=spec.removeprefix("gguf:"), temperature=settings.temperature, max_tokens=settings.max_output_tokens
        )
    provider, colon, rest = spec.partition(":")
    if "://" in spec or not provider or (colon and not rest):
        raise LLMError(
            "an LLM is named provider:model, such as openai:gpt-4.1-mini; a server's URL goes into OPENAI_BASE_URL"
        )
    try:
        return _init_chat_model(spec, provider, settings)
    except ImportError as error:
        package = re.search(r"pip install (\S+?)`", str(error))
        missing = package[1] if package else f"the package for '{provider}'"
        raise LLMError(f"'{spec}' needs {missing}; pip install {missing}") from None
    except Exception as error:
        said = _scrubbed(_message(error), None)
        if "infer model provider" in said:
            raise LLMError(
                f"'{spec}' names no known provider; write provider:model, such as openai:gpt-4.1-mini"
            ) from None
        if re.search(r"key|credential|token", said, re.IGNORECASE):
            raise LLMError(f"'{spec}' has no credentials; set {_key_of(provider)}") from None
        raise LLMError(f"'{spec}' could not be set up ({said}); check its name and its provider's settings") from None


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
    known = model._get_ls_params()
    provider = known.get("ls_provider") or type(model).__name__
    named = known.get("ls_model_name") or getattr(model, "model_name", None) or getattr(model, "model", None)
    return f"{provider}:{named}" if named else str(provider)


def _key_of(provider: str) -> str:
    return f"the API key in the environment variable {provider.upper().replace('-', '_')}_API_KEY"


def _turns(requests_per_second: float | None) -> Callable[[], object]:
    if requests_per_second is None:
        return lambda: None
    from langchain_core.rate_limiters import InMemoryRateLimiter

    pause = min(0.1, 0.5 / requests_per_second)
    return InMemoryRateLimiter(requests_per_second=requests_per_second, check_every_n_seconds=pause).acquire


def _asker(model: BaseChatModel, way: OutputMode, schema: dict[str, Any]) -> Callable[[Any], AIMessage]:
    """Messages in, the LLM's message out; raises what the model raises if it cannot be asked this way."""
    if way == "text":
        return model.invoke
    options: dict[str, Any] = {"method": way, "include_raw": True}
    if way == "json_schema" and "strict" in inspect.signature(model.with_structured_output).parameters:
        options["strict"] = True
    structured = model.with_structured_output(schema, **options)
    # The raw message is read here, not LangChain's `parsed`: its parser completes JSON that was cut off.
    return lambda prompt: structured.invoke(prompt)["raw"]  # type: ignore[index]


def _with_schema(messages: list[tuple[str, str]], schema: dict[str, Any]) -> list[tuple[str, str]]:
    shape = json.dumps(schema, ensure_ascii=False)
    order = f"Answer with one JSON object and nothing else. It fits this JSON schema: {shape}"
    if messages and messages[0][0] == "system":
        return [("system", f"{messages[0][1]}\n\n{order}"), *messages[1:]]
    return [("system", order), *messages]


def _said(message: AIMessage) -> str:
    if message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
    return _encodable(str(message.text) or str(message.additional_kwargs.get("refusal") or ""))


_CUT_OFF = "the reply was cut off at the output limit; raise max_output_tokens or ask for less at once"
_FILTERED = "the provider's content filter withheld the reply"


def _why_unfinished(message: AIMessage) -> str | None:
    ended = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    if ended in ("length", "max_tokens", "MAX_TOKENS"):
        return _CUT_OFF
    return _FILTERED if ended == "content_filter" else None


def _unfinished(error: Exception) -> tuple[str, tuple[int, int] | None, str] | None:
    """The OpenAI client raises for replies that were cut off or filtered: text, tokens and reason."""
    if not _is_named(error, "LengthFinishReasonError", "ContentFilterFinishReasonError"):
        return None
    completion = getattr(error, "completion", None)
    text = (completion.choices[0].message.content or "") if completion else ""
    usage = (
        (completion.usage.prompt_tokens, completion.usage.completion_tokens)
        if completion and completion.usage
        else None
    )
    return text, usage, _CUT_OFF if _is_named(error, "LengthFinishReasonError") else _FILTERED


def _checked(text: str, schema: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The JSON object in a reply if it fits the schema, else why not."""
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


def _json_object(text: str) -> dict[str, Any] | None:
    """The reply itself, a fenced block in it, or what lies from its first to its last brace."""
    text = re.sub(r"(?s)^\s*<think>.*?</think>", "", text).strip()
    fenced = re.search(r"(?s)```[a-zA-Z]*\s*(\{.*?\})\s*```", text)
    for candidate in (text, fenced[1] if fenced else "", text[text.find("{") : text.rfind("}") + 1]):
        try:
            data = json.loads(candidate, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            return json.loads(_encodable(json.dumps(data, ensure_ascii=False)))  # type: ignore[no-any-return]
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _encodable(text: str) -> str:
    """Lone surrogates, which no request and no store can carry, become U+FFFD; offsets stay."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _tokens(text: str) -> int:
    """A careful estimate: three UTF-8 bytes a token, so that it holds for scripts other than Latin too."""
    return len(text.encode("utf-8", "surrogatepass")) // 3 + 1


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status_code", "code", "status"):
            if isinstance(value := getattr(holder, attribute, None), int) and 100 <= value < 600:
                return value
    return None


def _is_named(error: BaseException, *names: str) -> bool:
    """Whether the error is of a class so named; providers' packages need not be installed to ask."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or _is_named(
        error, "APITimeoutError", "TimeoutException", "ModelTimeoutError"
    )


def _is_out_of_credit(error: BaseException) -> bool:
    return "insufficient_quota" in (getattr(error, "code", None), getattr(error, "type", None))


def _is_transient(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return (status in (408, 409, 425, 429) or status >= 500) and status != 501 and not _is_out_of_credit(error)
    lost = isinstance(error, ConnectionError) or _is_named(error, "APIConnectionError", "TransportError")
    return lost or _is_timeout(error)


def _is_unsupported(error: Exception) -> bool:
    """Whether another way of asking may work where this one failed."""
    if re.search(r"context.?(length|size|window)|too long|model_not_found", f"{getattr(error, 'code', '')} {error}"):
        return False
    return _status(error) in (400, 404, 405, 415, 422, 501) or (
        _status(error) is None and isinstance(error, NotImplementedError | TypeError | ValueError)
    )


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, else exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = _retry_after(getattr(getattr(error, "response", None), "headers", None) or {})
    if asked is not None:
        return min(asked, _LONGEST_WAIT_S)
    return random.uniform(0.25, 1) * min(2.0**state.attempt_number / 2, 30)


def _retry_after(headers: Any) -> float | None:
    """The ``Retry-After`` header in seconds; it holds seconds or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None


def _message(error: BaseException) -> str:
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    words = " ".join(str(said or error).split())
    return f"{words[:300]}…" if len(words) > 300 else words.rstrip(".") or type(error).__name__


def _scrubbed(text: str, model: BaseChatModel | None) -> str:
    """The text without the model's secrets, anything that looks like a key, or credentials in a URL."""
    for value in vars(model).values() if model is not None else ():
        if isinstance(value, SecretStr) and len(secret := value.get_secret_value()) > 4:
            text = text.replace(secret, "***")
    text = re.sub(r"(?i)(bearer\s+|\b(?:sk|pk|gsk|xai)[-_]|\bAIza)[\w\-.*]{6,}", r"\1***", text)
    return re.sub(r"://[^/\s@]+@", "://", text)


__all__ = ["LLM", "LLMSettings", "Meter", "Reply", "Usage"]
