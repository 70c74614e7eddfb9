"""Return of freed memory to the system, so that a long run takes no more than a short one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc: other allocators return memory by themselves
        return None


_malloc_trim = _find_malloc_trim()


def release_memory() -> None:
    """Make glibc return its free pages: torch's buffers differ in size and leave holes that glibc would hold."""
    if _malloc_trim is not None:
        _malloc_trim(0)
