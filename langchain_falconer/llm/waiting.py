"""Waiting: the rate limit of requests, the time until the next attempt, and who hears of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_falconer import cancellation
from langchain_falconer.llm.failures import Failure

if TYPE_CHECKING:
    from langchain_core.rate_limiters import BaseRateLimiter

MAX_WAIT_S = 900.0
"""Longest wait that a server is granted; one that asks for more has no use for another attempt now."""
_SILENT_S = 1.0
"""Waits shorter than this are not worth a line."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait before another attempt; its string is a sentence for the user.

    Attributes:
        reason: Why, such as "rate limited by the server".
        seconds: How long.
        attempt: Number of the coming attempt, from 2; 0 where nothing failed.
        attempts: Number of attempts at most.
    """

    reason: str
    seconds: float
    attempt: int
    attempts: int

    def __str__(self) -> str:
        attempt = f" (attempt {self.attempt} of {self.attempts})" if self.attempt else ""
        return f"{self.reason}, waiting {self.seconds:.0f} s{attempt}"


WaitListener = Callable[[Wait], None]
_listener: ContextVar[WaitListener | None] = ContextVar("falconer_wait_listener", default=None)


@contextmanager
def on_wait(listener: WaitListener) -> Iterator[None]:
    """Have ``listener`` called before each wait of an LLM call in this context, from the thread that waits."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Pause:
    """A pause of all calls of an LLM: one that is turned away begins it, since the others would be turned away too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0

    def begin(self, seconds: float) -> bool:
        """Pause for so long from now. Returns whether that is news, rather than what another call has begun."""
        with self._lock:
            until = time.monotonic() + seconds
            is_news = until > self._until + 1
            self._until = max(self._until, until)
            return is_news

    def sleep(self) -> None:
        """Sleep until the pause is over."""
        with self._lock:
            seconds = self._until - time.monotonic()
        if seconds > 0:
            cancellation.sleep(seconds)


def sleep(wait: Wait, pause: Pause | None) -> None:
    """Sleep before another attempt, and tell the listener; with ``pause``, all calls of the LLM wait."""
    is_news = pause.begin(wait.seconds) if pause else True
    if is_news and wait.seconds >= _SILENT_S and (listener := _listener.get()):
        listener(wait)
    if pause:
        pause.sleep()
    elif wait.seconds > 0:
        cancellation.sleep(wait.seconds)


def wait_for(reason: str, seconds: float) -> None:
    """Sleep until work of the provider's may be done, and tell the listener."""
    sleep(Wait(reason, seconds, 0, 0), None)


def retry_wait(failure: Failure, attempt: int) -> float:
    """Return seconds until the next attempt: those of the server, else exponential with jitter.

    Args:
        failure: What the attempt ended with.
        attempt: Its number, from 1.
    """
    if failure.wait_s is not None:
        return failure.wait_s * random.uniform(1, 1.02)  # calls that wait for the same second come one by one
    if failure.cause == "rate_limit":  # five waits take longer than a minute, the usual window of a limit
        return random.uniform(1, 1.2) * min(2.5 * 2.0 ** (attempt - 1), 60)
    return random.uniform(0.25, 1) * min(2.0**attempt / 2, 30)


def rate_limiter(requests_per_second: float | None) -> BaseRateLimiter | None:
    """Return a limiter of this rate; None for no limit."""
    if requests_per_second is None:
        return None
    from langchain_core.rate_limiters import InMemoryRateLimiter

    interval = min(0.1, 0.5 / requests_per_second)
    return InMemoryRateLimiter(requests_per_second=requests_per_second, check_every_n_seconds=interval)
