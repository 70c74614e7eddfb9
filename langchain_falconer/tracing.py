"""Traces: a span a stage through LangChain's callbacks, with counts and names, and no text of a corpus unless asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def with_texts() -> bool:
    """Whether traces may hold texts: ``FALCONER_TRACE_TEXTS`` is set to something but 0."""
    return os.environ.get("FALCONER_TRACE_TEXTS", "0") not in ("", "0")


@contextmanager
def span(name: str) -> Iterator[dict[str, Any]]:
    """A span in the traces of whoever called; what is put into the dictionary are its outputs."""
    from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

    run = get_callback_manager_for_config(ensure_config()).on_chain_start(None, {}, name=name)
    facts: dict[str, Any] = {}
    try:
        yield facts
    except BaseException as error:
        run.on_chain_error(error)
        raise
    run.on_chain_end(facts)


@contextmanager
def untraced() -> Iterator[None]:
    """Calls of an LLM that leave no trace of their own, for their prompts hold texts; stages tell their tokens."""
    if with_texts():
        yield
        return
    from langchain_core.runnables.config import var_child_runnable_config
    from langsmith import tracing_context

    caller = var_child_runnable_config.set(None)
    try:
        with tracing_context(enabled=False):
            yield
    finally:
        var_child_runnable_config.reset(caller)
