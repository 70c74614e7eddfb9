"""A bounded crowd of threads that a person's Ctrl-C need not wait for."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_as_completed(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ended: Callable[[], bool]
) -> Iterator[Result]:
    """Yield ``work(job)`` for each job, as they finish, with at most ``workers`` under way.

    Once ``ended()`` holds no further job begins; those under way still finish and are yielded. An exception in a
    worker is raised here. The threads are daemons (those of ``ThreadPoolExecutor`` are joined at exit): whoever
    stops iterating, because of an exception or Ctrl-C, is not kept waiting for an LLM.
    """
    left = threading.Event()
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    done: queue.SimpleQueue[tuple[Result | None, BaseException | None] | None] = queue.SimpleQueue()

    def labour() -> None:
        try:
            while not (left.is_set() or ended()):
                done.put((work(todo.get_nowait()), None))
        except queue.Empty:
            pass
        except BaseException as error:
            done.put((None, error))
        finally:
            done.put(None)

    crowd = min(workers, todo.qsize())
    for _ in range(crowd):
        threading.Thread(target=contextvars.copy_context().run, args=(labour,), daemon=True).start()
    try:
        while crowd:
            outcome = done.get()
            if outcome is None:
                crowd -= 1
                continue
            result, error = outcome
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        left.set()
