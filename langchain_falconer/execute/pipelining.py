"""Stages of a run that overlap, each in threads of its own, with few items between them and in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
_END = object()


def prefetch(items: Iterable[_Item], most: int = 1) -> Generator[_Item, None, None]:
    """``items``, made in a thread while those before are worked on; at most so many wait.

    What they raise is raised here, in its place. Close the iterator to end the thread, after the item that it is at.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(maxsize=most)
    stopped = Event()

    def make() -> None:
        try:
            for item in items:
                ready.put((item, None))
                if stopped.is_set():
                    return
            ready.put((_END, None))
        except BaseException as error:
            ready.put((_END, error))

    thread = Thread(target=make, name="falconer-reader", daemon=True)
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
        _drain(ready)  # the thread may be waiting for room
        thread.join()


def _drain(queue: Queue[Any]) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass


def ordered_map(
    work: Callable[[_Item, Callable[[], bool]], _Made], items: Iterable[_Item], hands: int
) -> Generator[_Made, None, None]:
    """``work`` of each item, in the order of the items, ``hands`` of them under way at once.

    ``work`` is also given what tells whether to stop early, for it is waited for when the iterator is closed.
    """
    stopped = Event()
    under_way: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(hands, "falconer-hand") as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item, stopped.is_set))
                if len(under_way) > hands:  # one more, so that no hand is idle while its work is taken
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
