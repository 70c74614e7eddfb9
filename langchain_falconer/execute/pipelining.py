"""Threads that let the stages of a run overlap, in order and with bounded queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_END = object()


def prefetch(items: Iterable[_Item], limit: int = 1) -> Generator[_Item, None, None]:
    """Iterate over ``items`` in a thread, ahead of the consumer; at most ``limit`` of them wait in a queue.

    An exception of ``items`` is raised here, in its place. Closing the iterator ends the thread after its current item.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(maxsize=limit)
    stopped = Event()

    def produce() -> None:
        try:
            for item in items:
                ready.put((item, None))
                if stopped.is_set():
                    return
            ready.put((_END, None))
        except BaseException as error:
            ready.put((_END, error))

    thread = Thread(target=produce, name="falconer-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        _drain(ready)  # the thread may be blocked on the full queue
        thread.join()


def _drain(queue: Queue[Any]) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass


def ordered_map(
    work: Callable[[_Item, Callable[[], bool]], _Result], items: Iterable[_Item], n_workers: int
) -> Generator[_Result, None, None]:
    """Apply ``work`` to each item in ``n_workers`` threads; results come in the order of the items.

    The second argument of ``work`` is a function that returns whether to stop early, because closing the iterator
    waits for running calls.
    """
    stopped = Event()
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(n_workers, "falconer-worker") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item, stopped.is_set))
                if len(pending) > n_workers:  # one more than workers, so that none is idle while a result is consumed
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
