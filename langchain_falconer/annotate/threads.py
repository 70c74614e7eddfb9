"""A bounded pool of daemon threads, which Ctrl-C does not wait for."""

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
    """Yield ``work(job)`` for each job, in order of completion.

    An exception in a worker is raised here. The threads are daemons (those of ``ThreadPoolExecutor`` are joined at
    exit): a caller that stops iterating, because of an exception or Ctrl-C, need not wait for an LLM.

    Args:
        work: Function applied to each job.
        jobs: The jobs.
        workers: Maximum number of jobs at a time.
        ended: Returns True once no further job may begin; jobs that have begun still finish and are yielded.
    """
    abandoned = threading.Event()
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    done: queue.SimpleQueue[tuple[Result | None, BaseException | None] | None] = queue.SimpleQueue()

    def run_jobs() -> None:
        try:
            while not (abandoned.is_set() or ended()):
                done.put((work(todo.get_nowait()), None))
        except queue.Empty:
            pass
        except BaseException as error:
            done.put((None, error))
        finally:
            done.put(None)

    active = min(workers, todo.qsize())
    for _ in range(active):
        threading.Thread(target=contextvars.copy_context().run, args=(run_jobs,), daemon=True).start()
    try:
        while active:
            outcome = done.get()
            if outcome is None:
                active -= 1
                continue
            result, error = outcome
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        abandoned.set()
