"""Traces through LangChain's callbacks: counts, names and token usage; texts only with ``FALCONER_TRACE_TEXTS``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

HIDDEN = "(hidden: set FALCONER_TRACE_TEXTS=1 to trace texts)"


def with_texts() -> bool:
    """Return whether traces may hold texts: ``FALCONER_TRACE_TEXTS`` is set, and not to 0."""
    return os.environ.get("FALCONER_TRACE_TEXTS", "0") not in ("", "0")


@contextmanager
def span(name: str) -> Iterator[dict[str, object]]:
    """Open a span of this name in the caller's traces; yields a dictionary whose items become its outputs."""
    from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

    run = get_callback_manager_for_config(ensure_config()).on_chain_start(None, {}, name=name)
    outputs: dict[str, object] = {}
    try:
        yield outputs
    except BaseException as error:
        run.on_chain_error(error)
        raise
    run.on_chain_end(outputs)


@contextmanager
def llm_call(name: str) -> Iterator[Callable[[AIMessage], None]]:
    """Report one call of an LLM to the caller's callbacks, with its token usage and without its texts.

    Yields a function that receives the reply. With ``FALCONER_TRACE_TEXTS`` the model reports the call itself.
    """
    if with_texts():
        yield lambda _: None
        return
    from langchain_core.messages import AIMessage, HumanMessage
    from langchain_core.outputs import ChatGeneration, LLMResult
    from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

    manager = get_callback_manager_for_config(ensure_config())
    (run,) = manager.on_chat_model_start({"name": name}, [[HumanMessage(HIDDEN)]], name=name)
    replies: list[AIMessage] = []
    try:
        with _callbacks_disabled():
            yield replies.append
    except BaseException as error:
        run.on_llm_error(RuntimeError(type(error).__name__))  # its message may quote a text
        raise
    names = ("model_name", "model_provider", "finish_reason")
    messages = [
        AIMessage(
            HIDDEN,
            usage_metadata=reply.usage_metadata,
            response_metadata={
                name: reply.response_metadata[name] for name in names if name in reply.response_metadata
            },
        )
        for reply in replies
    ]
    run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message) for message in messages]]))


@contextmanager
def _callbacks_disabled() -> Iterator[None]:
    """Keep the model from reporting the call itself, because its prompt holds texts."""
    from langchain_core.runnables.config import var_child_runnable_config
    from langsmith import tracing_context

    token = var_child_runnable_config.set(None)
    try:
        with tracing_context(enabled=False):
            yield
    finally:
        var_child_runnable_config.reset(token)
