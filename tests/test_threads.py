"""Threads: what is yielded, in which order, and what closing waits for."""

import threading
from contextlib import closing

import pytest

from langchain_falconer.threads import map_as_completed, ordered_map, prefetch


def test_prefetching_is_bounded_and_raises_in_its_place():
    produced = []

    def items():
        for i in range(3):
            produced.append(i)
            yield i
        raise ValueError("after three")

    ahead = prefetch(items())
    assert next(ahead) == 0
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="after three"):
        next(ahead)


def test_closing_a_prefetch_waits_for_its_thread():
    threads = []

    def items():
        threads.append(threading.current_thread())
        yield from range(100)

    with closing(prefetch(items())) as ahead:
        next(ahead)
    assert not threads[0].is_alive()


def test_a_map_as_completed_can_be_left_while_a_job_is_running():
    release, begun = threading.Event(), threading.Event()

    def work(job):
        if job == "slow":
            begun.set()
            release.wait()
        else:
            begun.wait()
        return job

    results = map_as_completed(work, ["slow", "quick"], 2, lambda: False)
    assert next(results) == "quick"
    results.close()  # returns although "slow" is still at work
    assert not release.is_set()
    release.set()


def test_a_map_as_completed_begins_no_job_after_the_end_and_raises_errors():
    done = []
    assert list(map_as_completed(done.append, range(9), 1, lambda: len(done) >= 3)) == [None] * 3
    assert done == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        list(map_as_completed(lambda n: 1 // n, [0], 4, lambda: False))


def test_an_ordered_map_keeps_the_order_and_stops_early():
    first = threading.Event()

    def work(job, should_stop):
        if job:
            first.set()
        else:
            first.wait()
        return job, should_stop()

    assert list(ordered_map(work, range(5), 2)) == [(i, False) for i in range(5)]
