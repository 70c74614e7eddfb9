"""A check of an LLM: a few harmless calls show whether it can annotate, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_falconer.annotate.questions import Question
from langchain_falconer.annotate.store import StoredAnswer
from langchain_falconer.annotate.view import AnnotationTarget
from langchain_falconer.errors import LLMError, SettingsError
from langchain_falconer.llm import LLM, OUTPUT_MODES, OutputMode, Reply, Usage, estimate_tokens
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.records import FrozenModel

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_LISTING_S = 10.0
"""Seconds that a server may take to list its models."""
_CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
_OUTPUT_FIELDS = ("max_completion_tokens", "max_output_tokens")
_TINY_MESSAGES = [("system", "You answer in JSON."), ("user", "Which colour is fresh snow: white or black?")]
_TINY_SCHEMA = {
    "title": "Colour",
    "description": "The colour.",
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["white", "black"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
_LABEL = Question(
    LabelStep(id="positive", instruction="Is this a positive review?"),
    (AnnotationTarget("I love this laptop, it is fast."), AnnotationTarget("It broke on the first day.")),
)
_SPAN = Question(
    SpanStep(id="price", instruction="Extract the price."), (AnnotationTarget("I paid $20 for it, and it works."),)
)
_NO_ACCESS = (401, 402, 403)
_RIGHT: tuple[object, ...] = (True, False, [[7, 10]])


class CallCheck(FrozenModel):
    """The outcome of one kind of call.

    Attributes:
        name: An output mode, or ``label`` or ``span`` for a real question of the annotator.
        works: Whether there was an answer that can be used.
        is_right: Whether it was the right one; ``None`` where there was none.
        reason: Why there was none.
        seconds: Duration, retries included.
        input_tokens: Tokens sent.
        output_tokens: Tokens received.
    """

    name: str
    works: bool
    is_right: bool | None = None
    reason: str | None = None
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0


class LLMCheck(FrozenModel):
    """What a check found out about an LLM.

    Attributes:
        model: Name of the model.
        base_url: Address of the server; ``None`` where the model names none.
        works: Whether it can annotate.
        reason: Why it cannot, with the fix; ``None`` where it can.
        output_mode: The output mode that the annotator uses; ``None`` where none works.
        calls: Each output mode, then a label and a span question; those after a fault that concerns all are left out.
        is_reasoning: Whether the model reasons before it answers.
        context_tokens: Context length, as server or provider report it; ``None`` where they do not.
        max_output_tokens: Longest reply, as server or provider report it; ``None`` where they do not.
        output_limit: Length at which the annotator has a reply cut off.
        usd_per_million_tokens: Price of input and output tokens; ``None`` where it is unknown.
        prices: Source of the price, with its date.
        n_calls: Number of calls that the check made.
        tokens: Tokens that they took.
        usd: Their price; ``None`` where it is unknown.
        seconds: Duration of the check.
    """

    model: str
    base_url: str | None
    works: bool
    reason: str | None
    output_mode: OutputMode | None
    calls: tuple[CallCheck, ...]
    is_reasoning: bool
    context_tokens: int | None
    max_output_tokens: int | None
    output_limit: int
    usd_per_million_tokens: tuple[float, float] | None
    prices: str | None
    n_calls: int
    tokens: int
    usd: float | None
    seconds: float


def check_llm(llm: LLM) -> LLMCheck:
    """Call an LLM once in each output mode, and ask it a real label and a real span question.

    A fault of the LLM is part of the result and not raised.

    Raises:
        SettingsError: It is a server of typed decisions, which has no output modes.
    """
    if llm.is_decider:
        raise SettingsError(f"{llm.name} answers typed questions and writes no text; mine with it and a plan at once")
    from langchain_core.callbacks import get_usage_metadata_callback

    check = _Check(llm)
    began = time.monotonic()
    with get_usage_metadata_callback() as reported:
        check.run()
    details = [usage.get("output_token_details") or {} for usage in reported.usage_metadata.values()]
    is_reasoning = check.is_reasoning or any(detail.get("reasoning") for detail in details)
    price, profile = llm.price(), _profile(llm.capabilities.model)
    served = _served_model(llm.capabilities.model)
    return LLMCheck(
        model=llm.name,
        base_url=llm.base_url,
        works=check.reason is None,
        reason=check.reason,
        output_mode=llm.output_mode,
        calls=tuple(check.calls),
        is_reasoning=is_reasoning or bool(profile.get("reasoning_output")),
        context_tokens=_first_number(served, _CONTEXT_FIELDS) or _first_number(profile, ("max_input_tokens",)),
        max_output_tokens=_first_number(served, _OUTPUT_FIELDS) or _first_number(profile, ("max_output_tokens",)),
        output_limit=llm.capabilities.output_limit,
        usd_per_million_tokens=(price.input, price.output) if price else None,
        prices=price.source if price else None,
        n_calls=check.usage.calls,
        tokens=check.usage.tokens,
        usd=check.usage.usd if check.usage.calls else 0.0,
        seconds=round(time.monotonic() - began, 2),
    )


class _Check:
    """The calls of a check; an account of every attempt."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.calls: list[CallCheck] = []
        self.usage = Usage()
        self.is_reasoning = False
        self.reason: str | None = None

    def reserve(self, estimated: Usage) -> None:
        """Refuse nothing."""

    def settle(self, estimated: Usage, used: Usage) -> None:
        """Count an attempt."""
        self.usage += used

    def run(self) -> None:
        """Make the calls; a fault that would end all of them ends the check."""
        for mode in OUTPUT_MODES:
            error = self._call(mode, None, mode)
            if error is not None and (error.status in _NO_ACCESS or (error.status is None and error.kind == "server")):
                self.reason = str(error)
                return
        for name, question in (("label", _LABEL), ("span", _SPAN)):
            error = self._call(name, question, None)
            call = self.calls[-1]
            if not call.works and self.reason is None:
                self.reason = str(error) if error else f"{self._llm.name} {_fix(name, call.reason)}"

    def _call(self, name: str, question: Question | None, mode: OutputMode | None) -> LLMError | None:
        before, began = self.usage, time.monotonic()
        reply: Reply | None = None
        error: LLMError | None = None
        try:
            if question is None:
                reply = self._llm.complete(_TINY_MESSAGES, _TINY_SCHEMA, self, mode=mode)
            else:
                messages, schema = question.messages(), question.schema()
                reply = self._llm.complete(messages, schema, self, accepts=question.accepts)
        except LLMError as failed:
            error = failed
        works, is_right, reason = _outcome(question, reply)
        if reply:
            used = reply.usage.output_tokens
            self.is_reasoning |= "</think" in reply.text or used > 4 * estimate_tokens(reply.text) + 64
        call = CallCheck(
            name=name,
            works=works,
            is_right=is_right,
            reason=str(error) if error else reason,
            seconds=round(time.monotonic() - began, 2),
            input_tokens=self.usage.input_tokens - before.input_tokens,
            output_tokens=self.usage.output_tokens - before.output_tokens,
        )
        self.calls.append(call)
        return error


def _outcome(question: Question | None, reply: Reply | None) -> tuple[bool, bool | None, str | None]:
    """Return whether a reply can be used, whether it is right, and why it cannot be used."""
    if reply is None or reply.data is None:
        return False, None, reply.error if reply else None
    if question is None:
        return True, reply.data.get("colour") == "white", None
    outcomes = question.read(reply.data)
    answers = [outcome.value for outcome in outcomes if isinstance(outcome, StoredAnswer)]
    if len(answers) < len(outcomes):
        reasons = (outcome.reason for outcome in outcomes if not isinstance(outcome, StoredAnswer))
        return False, None, next(reasons)
    right = _RIGHT[:2] if question is _LABEL else _RIGHT[2:]
    return True, answers == list(right), None


def _fix(name: str, reason: str | None) -> str:
    fix = "raise --max-output-tokens, or name another model"
    return f"gave no usable answer to a {name} question ({reason}); {fix}"


def _profile(model: BaseChatModel) -> Mapping[str, Any]:
    """What LangChain knows of a model."""
    return getattr(model, "profile", None) or {}


def _served_model(model: BaseChatModel) -> Mapping[str, Any]:
    """Return what an OpenAI-compatible server says of the model that it serves; empty where it says nothing."""
    client, name = getattr(model, "root_client", None), getattr(model, "model_name", None)
    if client is None:
        return {}
    try:
        listed = client.with_options(timeout=_LISTING_S, max_retries=0).models.list().data
    except Exception:  # no such list, or no connection: limits stay unknown
        return {}
    found: dict[str, Any] = next((one.model_dump() for one in listed if one.id == name), {})
    return {**found, **(found.get("meta") or {})}


def _first_number(data: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    numbers = (data.get(name) for name in names)
    return next((number for number in numbers if isinstance(number, int) and number > 0), None)
