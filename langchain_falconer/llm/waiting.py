"""Waiting: the rate limit of requests, and the time until the next attempt."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.rate_limiters import BaseRateLimiter
    from tenacity import RetryCallState

_MAX_WAIT_S = 120.0


def rate_limiter(requests_per_second: float | None) -> BaseRateLimiter | None:
    """Return a limiter of this rate; None for no limit."""
    if requests_per_second is None:
        return None
    from langchain_core.rate_limiters import InMemoryRateLimiter

    interval = min(0.1, 0.5 / requests_per_second)
    return InMemoryRateLimiter(requests_per_second=requests_per_second, check_every_n_seconds=interval)


def retry_wait(state: RetryCallState) -> float:
    """Return seconds until the next attempt: those of the server, else exponential with jitter."""
    error = state.outcome.exception() if state.outcome else None
    value: Any = (getattr(getattr(error, "response", None), "headers", None) or {}).get("retry-after")
    with suppress(ValueError, TypeError):  # no header, or a date
        return min(max(0.0, float(value)), _MAX_WAIT_S)
    with suppress(ValueError, TypeError):  # no header, or no date either (RFC 9110, 10.2.3)
        seconds = (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds()
        return min(max(0.0, seconds), _MAX_WAIT_S)
    return random.uniform(0.25, 1) * min(2.0**state.attempt_number / 2, 30)
