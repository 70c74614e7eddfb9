"""The schedule of a training: its steps, the learning rate of each, and a limit of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from langchain_falconer.settings import TrainSettings

_MIN_SHARE = 0.5
_MANY = 10**9
_FIRST_STEPS = 3  # the first steps are slower than the rest: memory is allocated, threads start


class Schedule:
    """The number of steps and the learning rate, which rises at first and ends at zero whatever the limit of time.

    Where the pace of the steps so far leaves no time for all of them, fewer are planned; the learning rate falls the
    faster. Without a limit nothing depends on time.

    Args:
        steps: Number of steps without a limit.
        warmup: Share of the steps over which the learning rate rises linearly.
        deadline: Time of ``clock`` at which training ends. Default none.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        steps: int,
        warmup: float,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps = self.total = steps
        self.done = 0
        self.deadline = deadline
        self._warmup = warmup
        self._clock = clock
        self._first: tuple[int, float] = (0, clock())

    @property
    def rate(self) -> float:
        """The learning rate of the next step as a share of its peak."""
        warmup_steps = max(1, round(self._warmup * self.total))
        return min(
            (self.done + 1) / warmup_steps, max(0.0, (self.total - self.done) / max(1, self.total - warmup_steps))
        )

    @property
    def share(self) -> float:
        """The share of the steps that are planned."""
        return self.total / self.steps

    def advance(self) -> None:
        """Count a step, and plan as many more as there is time for."""
        self.done += 1
        if self.deadline is not None:
            self.total = max(self.done, min(self.steps, self.done + self.steps_until(self.deadline)))
        if self.done == _FIRST_STEPS:
            self._first = self.done, self._clock()

    def steps_until(self, deadline: float) -> int:
        """Return how many steps at the pace so far there is time for."""
        now = self._clock()
        done, began = self._first
        if self.done - done < _FIRST_STEPS:  # too few to tell
            return _MANY if now < deadline else 0
        return max(0, int((deadline - now) * (self.done - done) / max(1e-9, now - began)))


class Course:
    """The schedules of the networks that are trained one after the other, within one limit of time.

    The first network has all the time that it needs; the next one is trained only if there is then time for half of its
    steps.

    Args:
        steps: Number of steps of each network without a limit.
        settings: The warm-up, and the limit.
        on_step: Called after each step as ``on_step(done, total, loss)``; the total is of all networks, and changes
            where the limit leaves no time for all steps.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        steps: Sequence[int],
        settings: TrainSettings,
        on_step: Callable[[int, int, float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = list(steps)
        self._warmup = settings.warmup
        self._deadline = clock() + 60 * settings.max_minutes if settings.max_minutes else None
        self._on_step = on_step
        self._clock = clock
        self._done: list[Schedule] = []

    def begin(self) -> Schedule:
        """Return the schedule of the next network."""
        self._done.append(Schedule(self._open.pop(0), self._warmup, self._deadline, self._clock))
        return self._done[-1]

    def report(self, loss: float) -> None:
        """Report a step of the current network."""
        if self._on_step is not None:
            done = sum(schedule.done for schedule in self._done)
            total = sum(schedule.total for schedule in self._done)
            self._on_step(done, total + sum(self._planned(steps) for steps in self._open), loss)

    @property
    def has_time(self) -> bool:
        """Whether the next network is to be trained."""
        return self._planned(self._open[0]) > 0

    def _planned(self, steps: int) -> int:
        """Return how many steps of the next network are likely after what remains of the current one."""
        if self._deadline is None:
            return steps
        current = self._done[-1]
        left = current.steps_until(self._deadline) - (current.total - current.done)
        return min(steps, left) if left >= _MIN_SHARE * steps else 0
