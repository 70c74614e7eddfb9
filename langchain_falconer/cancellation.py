"""Synchronous work that an event loop awaits, and can cancel.

There is one implementation of all work, and it is synchronous: encoder passes, training and SQLite need threads in any
case. Called from an event loop it runs in a thread of its own, and what it waits for on the network it awaits on that
very loop: an asynchronous HTTP client, which LangChain shares between all models of a server, belongs to one loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
_GRACE_S, _END_S = 0.4, 0.2
"""Seconds for calls in flight to be answered after a cancellation, and then for the work to end."""


class _Scope:
    """Work in a thread that was started from an event loop, and the calls that it awaits there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = threading.Event()
        self._loop = loop
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()

    def wait(self, start: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run a coroutine on the loop, from the thread; returns its result."""
        with self._lock:
            if self.cancelled.is_set():
                raise asyncio.CancelledError
            coroutine = start()
            try:
                call = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            except RuntimeError:  # the loop is closed
                coroutine.close()
                raise asyncio.CancelledError from None
            self._calls.add(call)
        try:
            return call.result()
        except FutureCancelledError:
            raise asyncio.CancelledError from None
        finally:
            self._calls.discard(call)

    def abort(self) -> None:
        """Cancel the calls in flight."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()


_scope: contextvars.ContextVar[_Scope | None] = contextvars.ContextVar("falconer_scope", default=None)


async def run_in_thread(work: Callable[[], _Result]) -> _Result:
    """Run synchronous work in a thread of its own, and await its result.

    If the awaiting task is cancelled, the work begins no further call and ends at its next check; calls in flight get a
    moment to be answered, so that what was paid for is kept. The task ends within a second, whatever the work does.
    """
    loop = asyncio.get_running_loop()
    scope, context = _Scope(loop), contextvars.copy_context()
    ended: asyncio.Future[_Result] = loop.create_future()
    ended.add_done_callback(lambda future: future.cancelled() or future.exception())  # so that asyncio logs none

    def run() -> None:
        _scope.set(scope)
        try:
            result = work()
        except BaseException as error:
            deliver, outcome = ended.set_exception, error
        else:
            deliver, outcome = ended.set_result, result  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=context.run, args=(run,), daemon=True).start()
    try:
        await asyncio.wait({ended})
    except asyncio.CancelledError:
        scope.cancelled.set()
        try:
            await asyncio.wait({ended}, timeout=_GRACE_S)
        finally:
            scope.abort()
        await asyncio.wait({ended}, timeout=_END_S)
        raise
    return ended.result()


def on_loop(
    function: Callable[_Arguments, Awaitable[_Result] | _Result] | None,
) -> Callable[_Arguments, _Result] | None:
    """Return a function that calls ``function``, or awaits it, on the loop that started the work; None for None."""
    if function is None:
        return None

    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        async def run() -> _Result:
            result = function(*args, **kwargs)
            return await result if isinstance(result, Awaitable) else result

        scope = _scope.get()
        assert scope is not None
        return scope.wait(run)

    return call


def has_loop() -> bool:
    """Return whether an event loop started this work, on which :func:`wait_on_loop` can await."""
    return _scope.get() is not None


def wait_on_loop(start: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Await a coroutine on the loop that started this work. Raises ``asyncio.CancelledError`` if it was cancelled."""
    scope = _scope.get()
    assert scope is not None
    return scope.wait(start)


def cancellation_check() -> Callable[[], bool]:
    """Return a function, for any thread, that returns whether the work of this context was cancelled."""
    scope = _scope.get()
    return scope.cancelled.is_set if scope else lambda: False


def raise_if_cancelled() -> None:
    """Raise ``asyncio.CancelledError`` if the task that awaits this work was cancelled."""
    if cancellation_check()():
        raise asyncio.CancelledError


def sleep(seconds: float) -> None:
    """Sleep; raises ``asyncio.CancelledError`` as soon as the work is cancelled."""
    if scope := _scope.get():
        if scope.cancelled.wait(seconds):
            raise asyncio.CancelledError
    else:
        time.sleep(seconds)
