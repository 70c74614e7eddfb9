"""One exchange with an LLM: attempts in the output modes that may work, until one gives an object that fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain_falconer.cancellation import raise_if_cancelled
from langchain_falconer.errors import BudgetError, FalconerError
from langchain_falconer.llm.failures import Failure, diagnose, has_class_name, is_timeout
from langchain_falconer.llm.output_modes import OutputMode, caller, with_schema
from langchain_falconer.llm.redaction import redacted, safe_cause
from langchain_falconer.llm.replies import CUT_OFF, FILTERED, Accepts, Reply, message_text, read_message
from langchain_falconer.llm.usage import Meter, Usage, estimate_tokens
from langchain_falconer.llm.waiting import MAX_WAIT_S, Wait, retry_wait, sleep
from langchain_falconer.tracing import llm_call

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from langchain_falconer.llm.client import LLM

_ATTEMPTS_IN_A_MODE = 2
"""Attempts in one mode on a server that fails, before the next mode is tried: it may fail in this one only."""
_DOUBLINGS = 2
"""How often the output limit is doubled for a reply that was cut off at it."""
_MAX_DROPPED = 6
"""Parameters dropped for one request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one JSON object: ``(role, text)`` pairs, its schema, and what else will do."""

    messages: list[tuple[str, str]]
    schema: Mapping[str, object]
    accepts: Accepts | None


class _FailedError(Exception):
    """A failed attempt, with what it means."""

    def __init__(self, failure: Failure, error: Exception, model: BaseChatModel) -> None:
        super().__init__(failure.message)
        self.failure, self.error, self.model = failure, error, model


class Exchange:
    """The attempts at one request; every one of them is entered in the meter, and in the usage of the reply.

    Args:
        llm: LLM that is asked.
        request: What it is asked.
        meter: Account of every attempt.
    """

    def __init__(self, llm: LLM, request: Request, meter: Meter | None) -> None:
        self._llm = llm
        self._request = request
        self._meter = meter
        self._spent: list[Usage] = []
        self._retries = llm.settings.max_retries
        self._limit: int | None = None  # once a reply was cut off
        self._doublings = _DOUBLINGS

    def complete(self, mode: OutputMode | None) -> Reply:
        """Return the reply; see :meth:`LLM.complete`."""
        try:
            reply = self._retried(mode, None) if mode else self._negotiated()
        except _FailedError as failed:
            error = self._llm.error(failed.failure, len(self._spent))
            raise error from safe_cause(failed.error, self._llm.capabilities.model)
        return replace(reply, usage=sum(self._spent, Usage()))

    def _negotiated(self) -> Reply:
        """Ask in one mode after another until one gives an object that fits.

        A mode that is known to work is believed: its reply counts even if it does not fit.
        """
        known = self._llm.capabilities
        proven, modes = known.output_mode, known.modes
        unfit: Reply | None = None
        failures: dict[OutputMode, _FailedError] = {}
        for mode in modes:
            is_alone = mode == proven and not known.has_alternatives
            attempts = None if is_alone else 1 if failures else _ATTEMPTS_IN_A_MODE
            try:
                reply = self._retried(mode, attempts)
            except _FailedError as failed:
                if not failed.failure.may_be_mode or (is_alone and failed.failure.is_transient):
                    raise
                failures[mode] = failed
                continue
            if reply.data is not None:
                known.hit(mode)
                return reply
            known.miss(mode)
            if mode == proven or reply.is_refusal:
                return reply
            unfit = unfit or reply
        if unfit:
            return unfit
        return self._last_attempts(failures)

    def _last_attempts(self, failures: Mapping[OutputMode, _FailedError]) -> Reply:
        """No mode worked: where the server itself fails, use what is left of the retries."""
        first, failed = next(iter(failures.items()))
        self._llm.capabilities.fail(first)
        mode = next((mode for mode, one in failures.items() if one.failure.is_transient), None)
        if mode is None:
            raise failed
        if self._retries == 0:
            raise failures[mode]
        self._wait(failures[mode].failure)
        reply = self._retried(mode, None)
        if reply.data is not None:
            self._llm.capabilities.hit(mode)
        return reply

    def _retried(self, mode: OutputMode, attempts: int | None) -> Reply:
        """Ask in a mode, again after failures that pass and after replies that were cut off.

        Args:
            mode: The output mode.
            attempts: Attempts at most where the server fails, rather than turns us away; None for all retries.
        """
        failed_attempts = dropped = 0
        cut_off: Reply | None = None
        while True:
            try:
                reply = self._attempt(mode)
            except BudgetError:
                if cut_off is None:
                    raise
                return cut_off  # a longer reply would exceed a cap; others may not
            except _FailedError as failed:
                failure = failed.failure
                if failure.parameter and dropped < _MAX_DROPPED:
                    dropped += 1
                    if self._llm.capabilities.drop(failure.parameter, failed.model):
                        continue
                if cut_off is not None and not failure.is_transient:
                    return cut_off  # the server takes no higher limit
                failed_attempts += 1
                if self._is_over(failure, failed_attempts, attempts):
                    raise
                self._wait(failure)
                continue
            if not reply.is_cut_off:
                if self._limit is not None and reply.data is not None:
                    self._llm.capabilities.raise_limit(self._limit)
                return reply
            cut_off = reply
            if not self._double_limit(reply):
                return reply

    def _is_over(self, failure: Failure, failed_attempts: int, attempts: int | None) -> bool:
        """Return whether another attempt in this mode is of no use, or not allowed."""
        if not failure.is_transient or self._retries == 0 or (failure.wait_s or 0.0) > MAX_WAIT_S:
            return True
        if attempts is None or not failure.may_be_mode:
            return False
        return failed_attempts >= attempts or failure.cause == "timeout"

    def _double_limit(self, reply: Reply) -> bool:
        """Double the output limit that cut a reply off; return False where that was done often enough, or cannot be."""
        limit = 2 * max(self._limit or self._llm.capabilities.output_limit, reply.usage.output_tokens)
        if self._doublings == 0 or self._llm.capabilities.with_limit(limit) is None:
            return False
        self._doublings -= 1
        self._limit = limit
        return True

    def _wait(self, failure: Failure) -> None:
        """Wait before another attempt."""
        settings = self._llm.settings
        number = settings.max_retries - self._retries + 1
        self._retries -= 1
        seconds = retry_wait(failure, number)
        is_shared = failure.cause in ("rate_limit", "connection")
        wait = Wait(self._reason(failure), seconds, number + 1, settings.max_retries + 1)
        sleep(wait, self._llm.pause if is_shared else None)

    def _reason(self, failure: Failure) -> str:
        where = self._llm.base_url or self._llm.name
        message = redacted(failure.message[:120], self._llm.capabilities.model)
        return {
            "rate_limit": "rate limited by the server",
            "connection": f"{where} cannot be reached ({message})",
            "timeout": f"no reply from {where} within the timeout",
        }.get(failure.cause, f"{where} failed ({failure.status or message})")

    def _attempt(self, mode: OutputMode) -> Reply:
        """Request once; what it used is added to ``spent`` and settled with the meter, whatever happens."""
        llm, request, known = self._llm, self._request, self._llm.capabilities
        limit = self._limit or known.output_limit
        model = (known.with_limit(limit) if self._limit else None) or known.model
        prompt = with_schema(request.messages, request.schema) if mode == "text" else request.messages
        size = sum(estimate_tokens(text) for _, text in prompt)
        size += 0 if mode == "text" else estimate_tokens(json.dumps(request.schema))
        estimated, nothing = llm.usage(size, limit), llm.usage(0, 0)
        used = nothing
        with llm.slots:
            llm.pause.sleep()
            raise_if_cancelled()
            if self._meter:
                self._meter.reserve(estimated)
            try:
                if llm.rate_limiter:
                    llm.rate_limiter.acquire()
                    raise_if_cancelled()
                used = estimated  # what stands for a call that is aborted, which may be billed
                reply = self._call(model, mode, prompt, estimated)
                used = reply.usage
                return reply
            except FalconerError:
                used = nothing
                raise
            except Exception as error:
                used = estimated if is_timeout(error) else nothing  # a request that timed out may be billed
                raise _FailedError(diagnose(error), error, model) from error
            finally:
                self._spent.append(used)
                if self._meter:
                    self._meter.settle(estimated, used)

    def _call(self, model: BaseChatModel, mode: OutputMode, prompt: list[tuple[str, str]], estimated: Usage) -> Reply:
        call = caller(model, mode, self._request.schema, strict="strict" not in self._llm.capabilities.dropped)
        try:
            with llm_call(self._llm.name) as report:
                message = call(prompt)
                report(message)
        except Exception as error:
            if not has_class_name(error, "LengthFinishReasonError", "ContentFilterFinishReasonError"):
                raise
            return self._stopped(error, estimated)
        return read_reply(self._llm, message, self._request, estimated)

    def _stopped(self, error: Exception, estimated: Usage) -> Reply:
        """Return the reply in an error that the OpenAI client raises for one that was cut off or filtered."""
        completion: Any = getattr(error, "completion", None)
        text = (completion.choices[0].message.content or "") if completion else ""
        billed = completion.usage if completion else None
        usage = self._llm.usage(billed.prompt_tokens, billed.completion_tokens) if billed else estimated
        is_cut_off = has_class_name(error, "LengthFinishReasonError")
        return Reply(None, text, usage, CUT_OFF if is_cut_off else FILTERED, not is_cut_off, is_cut_off)


def read_reply(llm: LLM, message: AIMessage, request: Request, estimated: Usage) -> Reply:
    """Read the message that answers a request; its usage is what the provider reports, else estimated."""
    text, reported = message_text(message), message.usage_metadata
    if reported is None:
        usage = llm.usage(estimated.input_tokens, estimate_tokens(text))
    elif reported.get("total_cost") == 0:  # LangChain's mark of an answer from its cache
        usage = Usage(usd=0.0)
    else:
        cached = (reported.get("input_token_details") or {}).get("cache_read") or 0
        usage = llm.usage(reported["input_tokens"], reported["output_tokens"], cached)
    finish = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    if finish in ("length", "max_tokens", "MAX_TOKENS"):
        return Reply(None, text, usage, CUT_OFF, is_cut_off=True)
    if finish in ("content_filter", "SAFETY", "PROHIBITED_CONTENT", "refusal"):
        return Reply(None, text, usage, FILTERED, is_refusal=True)
    data, fault = read_message(message, request.schema, request.accepts)
    refusal = message.additional_kwargs.get("refusal") if data is None else None
    if refusal:
        fault = f"the LLM declined to answer: {str(refusal)[:200]}"
    return Reply(data, text, usage, fault, is_refusal=bool(refusal))
