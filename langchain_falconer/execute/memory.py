"""Memory that a run has freed goes back to the system, so that a long run takes no more than a short one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # no glibc: other allocators give back by themselves
        return None


_malloc_trim = _trim()


def release_memory() -> None:
    """Have glibc return its free pages: torch's buffers are of all sizes, and leave holes that it would keep."""
    if _malloc_trim is not None:
        _malloc_trim(0)
