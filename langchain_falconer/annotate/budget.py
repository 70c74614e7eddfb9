"""Hard caps on the LLM usage of a run, its earlier invocations included."""

from __future__ import annotations

import copy
import threading
import time

from langchain_falconer.annotate.store import AnnotationStore
from langchain_falconer.errors import BudgetError, SettingsError
from langchain_falconer.llm import Usage
from langchain_falconer.settings import BudgetSettings


class Budget:
    """The meter of a run's LLM calls: reserves the estimated cost of each before it, settles the real cost after it.

    Entries are in the store's ledger: they survive a killed process, and the processes of a run share them. Concurrent
    calls cannot exceed a cap together; a call that would do so first waits until the calls in flight are settled.

    Args:
        store: Store with the ledger.
        run: Identity of the run.
        settings: The caps.
        priced: Whether the LLM has a price (``llm.price() is not None``).

    Raises:
        SettingsError: ``max_usd`` is set, but calls of this run have no price.
    """

    def __init__(self, store: AnnotationStore, run: str, settings: BudgetSettings, priced: bool) -> None:
        if settings.max_usd is not None:
            if not priced:
                message = "max_usd needs the price of this LLM; give it with --price IN,OUT (USD per million tokens)"
                raise SettingsError(message, field="max_usd")
            if (spent := store.spent(run)).calls and spent.usd is None:
                message = "max_usd cannot count this run's earlier calls, which had no price; cap max_tokens instead"
                raise SettingsError(message, field="max_usd")
        self.run = run
        self.settings = settings
        self._store = store
        self._purpose, self._source = "annotate", ""
        self._changed = threading.Condition()
        self._open: dict[int, tuple[int, float]] = {}  # thread → ledger entry and start of its call

    def for_source(self, source: str, purpose: str | None = None) -> Budget:
        """Return the same budget, which enters calls under this LLM's name and purpose (default ``"annotate"``)."""
        other = copy.copy(self)
        other._source, other._purpose = source, purpose or self._purpose
        return other

    @property
    def spent(self) -> Usage:
        """Usage of the run in all its invocations; calls in flight count at their estimate."""
        return self._store.spent(self.run)

    def reserve(self, estimated: Usage) -> None:
        """Reserve a call. Raises ``BudgetError`` if it would exceed a cap."""
        with self._changed:
            while (entry := self._reserve(estimated)) is None:
                self._changed.wait()
            self._open[threading.get_ident()] = entry, time.monotonic()

    def _reserve(self, estimated: Usage) -> int | None:
        try:
            return self._store.reserve(
                self.run, self._purpose, self._source, estimated, lambda spent: self._check(spent, spent + estimated)
            )
        except BudgetError:
            if not self._open:
                raise
            return None  # calls in flight count at their estimate: once settled they may leave enough for this one

    def _check(self, spent: Usage, total: Usage) -> None:
        caps = self.settings
        for name, cap, used, value in (
            ("max_calls", caps.max_calls, spent.calls, total.calls),
            ("max_tokens", caps.max_tokens, spent.tokens, total.tokens),
            ("max_usd", caps.max_usd, spent.usd or 0.0, total.usd or 0.0),
        ):
            if cap is not None and value > cap:
                message = f"the next LLM call would exceed {name} of {cap}; raise it and run again to resume"
                raise BudgetError(message, cap=name, limit=cap, spent=used)

    def enter(self, estimated: Usage) -> int:
        """Enter work that may outlive this process, such as a batch, at its estimate.

        Returns:
            Number of the entry in the ledger, for :meth:`close`.

        Raises:
            BudgetError: It would exceed a cap.
        """
        return self._store.reserve(
            self.run, self._purpose, self._source, estimated, lambda spent: self._check(spent, spent + estimated)
        )

    def close(self, entry: int, used: Usage, seconds: float) -> None:
        """Replace the estimate of an entry by its real cost."""
        self._store.settle(entry, used, seconds)

    def settle(self, estimated: Usage, used: Usage) -> None:
        """Replace the estimate of this thread's call by its real cost."""
        with self._changed:
            entry, start = self._open.pop(threading.get_ident())
            self._store.settle(entry, used, time.monotonic() - start)
            self._changed.notify_all()
