"""Output modes: the ways to request a JSON object of a chat model."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from langchain_falconer.cancellation import has_loop, wait_on_loop

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable

OutputMode = Literal["json_schema", "function_calling", "text"]
OUTPUT_MODES: tuple[OutputMode, ...] = ("json_schema", "function_calling", "text")


def caller(
    model: BaseChatModel, mode: OutputMode, schema: Mapping[str, object], *, strict: bool = True
) -> Callable[[Any], AIMessage]:
    """Return a function from messages to the LLM's message; it raises the model's error in an unsupported mode.

    Where an event loop started the work, the model is awaited there.
    """
    invoke = _invoke_on_loop if has_loop() and _is_native(model) else _invoke
    if mode == "text":
        return lambda prompt: invoke(model, prompt)
    options: dict[str, Any] = {"method": mode, "include_raw": True}
    if strict and mode == "json_schema" and "strict" in inspect.signature(model.with_structured_output).parameters:
        options["strict"] = True
    structured = model.with_structured_output(dict(schema), **options)
    # Only the raw message is used, not LangChain's `parsed`: its parser completes JSON that was cut off.
    return lambda prompt: invoke(structured, prompt)["raw"]


def _invoke(model: Runnable[Any, Any], prompt: Any) -> Any:
    return model.invoke(prompt)


def _invoke_on_loop(model: Runnable[Any, Any], prompt: Any) -> Any:
    return wait_on_loop(lambda: model.ainvoke(prompt))


def _is_native(model: BaseChatModel) -> bool:
    """Return whether a model has a coroutine of its own, rather than a thread of the loop's small common pool."""
    from langchain_core.language_models import BaseChatModel, SimpleChatModel

    return type(model)._agenerate not in (BaseChatModel._agenerate, SimpleChatModel._agenerate)


def with_schema(messages: list[tuple[str, str]], schema: Mapping[str, object]) -> list[tuple[str, str]]:
    """Add the schema to the system prompt, for models without structured output."""
    shape = json.dumps(schema, ensure_ascii=False)
    request = f"Answer with one JSON object and nothing else. It fits this JSON schema: {shape}"
    if messages and messages[0][0] == "system":
        return [("system", f"{messages[0][1]}\n\n{request}"), *messages[1:]]
    return [("system", request), *messages]


def with_reasoning(model: BaseChatModel) -> BaseChatModel:
    """Return a copy of an OpenAI-compatible model whose messages hold the server's reasoning, which LangChain drops.

    Some servers put the whole reply there. ``additional_kwargs["reasoning_content"]`` holds it, as in LangChain's
    models of providers that document the field.
    """
    create = getattr(model, "_create_chat_result", None)
    if create is None:
        return model

    def create_chat_result(response: Any, generation_info: dict[str, Any] | None = None) -> Any:
        result = create(response, generation_info)
        choices = (response if isinstance(response, dict) else response.model_dump(warnings=False)).get("choices")
        for generation, choice in zip(result.generations, choices or (), strict=False):
            message = choice.get("message") or {}
            if reasoning := message.get("reasoning_content") or message.get("reasoning"):
                generation.message.additional_kwargs.setdefault("reasoning_content", reasoning)
        return result

    copy = model.model_copy()
    object.__setattr__(copy, "_create_chat_result", create_chat_result)  # of this instance: its class may be any
    return copy
