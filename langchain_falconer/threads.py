"""Threads: iteration ahead of its consumer, and parallel maps in the order of the items or of completion."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue, SimpleQueue
from typing import Any, TypeVar

from langchain_falconer.cancellation import cancellation_check, raise_if_cancelled

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_END = object()


def prefetch(items: Iterable[_Item], limit: int = 1) -> Generator[_Item, None, None]:
    """Iterate over ``items`` in a thread, ahead of the consumer; at most ``limit`` of them wait in a queue.

    An exception of ``items`` is raised here, in its place. Closing the iterator ends the thread after its current item,
    and waits for that.
    """
    return _merged([items], limit, join=True)


def map_as_completed(
    work: Callable[[_Item], _Result], jobs: Iterable[_Item], workers: int, ended: Callable[[], bool]
) -> Generator[_Result, None, None]:
    """Yield ``work(job)`` for each job, in order of completion.

    An exception in a worker is raised here. A caller that stops iterating, because of an exception or Ctrl-C, need not
    wait for the jobs that have begun, such as a call of an LLM. Work that an event loop cancelled waits for them: its
    task does not, and what they return is still stored.

    Args:
        work: Function applied to each job.
        jobs: The jobs.
        workers: Maximum number of jobs at a time.
        ended: Returns True once no further job may begin; jobs that have begun still finish and are yielded.
    """
    todo: SimpleQueue[_Item] = SimpleQueue()
    for job in jobs:
        todo.put(job)

    def results() -> Iterator[_Result]:
        while not ended():
            try:
                job = todo.get_nowait()
            except Empty:
                return
            yield work(job)

    return _merged([results() for _ in range(min(workers, todo.qsize()))], 0, join=False)


def _merged(producers: list[Iterable[_Item]], limit: int, *, join: bool) -> Generator[_Item, None, None]:
    """Yield the items of producers, each iterated in a thread of its own, as they come.

    The threads are daemons, since those of ``ThreadPoolExecutor`` are joined when the interpreter exits.

    Args:
        producers: The iterables.
        limit: Maximum number of items that wait for the consumer; 0 for no limit.
        join: Whether closing waits for the threads, which end after their current item; for one producer only.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(limit)
    closed, is_cancelled = threading.Event(), cancellation_check()

    def produce(items: Iterable[_Item]) -> None:
        try:
            for item in items:
                ready.put((item, None))
                if closed.is_set():
                    return
            ready.put((_END, None))
        except BaseException as error:
            ready.put((_END, error))

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(produce, items), daemon=True)
        for items in producers
    ]
    for thread in threads:
        thread.start()
    active = len(threads)
    try:
        while active:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                active -= 1
            else:
                yield item
    finally:
        closed.set()
        if join or is_cancelled():
            with suppress(Empty):  # a thread may be blocked on the full queue
                while True:
                    ready.get_nowait()
            for thread in threads:
                thread.join()


def ordered_map(
    work: Callable[[_Item, Callable[[], bool]], _Result], items: Iterable[_Item], n_workers: int
) -> Generator[_Result, None, None]:
    """Apply ``work`` to each item in ``n_workers`` threads; results come in the order of the items.

    The second argument of ``work`` is a function that returns whether to stop early, because closing the iterator
    waits for running calls, and because the task that awaits the work may be cancelled.
    """
    closed, is_cancelled = threading.Event(), cancellation_check()
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(n_workers, "falconer-worker") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item, lambda: closed.is_set() or is_cancelled()))
                if len(pending) > n_workers:  # one more than workers, so that none is idle while a result is consumed
                    yield _uncancelled(pending.popleft())
            while pending:
                yield _uncancelled(pending.popleft())
        finally:
            closed.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _uncancelled(future: Future[_Result]) -> _Result:
    """Return a result, unless it was cut short because the work was cancelled."""
    result = future.result()
    raise_if_cancelled()
    return result
