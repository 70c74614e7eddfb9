"""Hard caps on what a run may spend on LLM calls, its earlier invocations included."""

from __future__ import annotations

import copy
import threading
import time

from langchain_falconer.annotate.store import AnnotationStore
from langchain_falconer.errors import BudgetError, SettingsError
from langchain_falconer.llm import Usage
from langchain_falconer.settings import BudgetSettings


class Budget:
    """The meter of a run's LLM calls: reserves the estimate of each before it is made, settles its real cost after.

    Account is kept in the store's ledger, so it outlives a killed process and is shared by the processes of a run.
    Concurrent calls cannot overshoot a cap together; a call that would, waits for calls under way to settle first.

    Args:
        store: holds the ledger.
        run: identity of the run.
        settings: the caps.
        priced: whether the LLM has a price (``llm.price() is not None``).

    Raises:
        SettingsError: ``max_usd`` is set, and calls of this run have no price.
    """

    def __init__(self, store: AnnotationStore, run: str, settings: BudgetSettings, priced: bool) -> None:
        if settings.max_usd is not None and not priced:
            raise SettingsError(
                "max_usd needs the price of this LLM; give it with --price IN,OUT (USD per million tokens)"
            )
        spent = store.spent(run)
        if settings.max_usd is not None and spent.calls and spent.usd is None:
            raise SettingsError(
                "max_usd cannot count this run's earlier calls, which had no price; cap max_tokens instead"
            )
        self.run = run
        self.settings = settings
        self._store = store
        self._purpose, self._source = "annotate", ""
        self._settled = threading.Condition()
        self._open: dict[int, tuple[int, float]] = {}  # thread → ledger entry and when its call began

    def for_source(self, source: str, purpose: str | None = None) -> Budget:
        """The same budget, entering calls under this LLM's name and purpose (``"annotate"`` unless named)."""
        other = copy.copy(self)
        other._source, other._purpose = source, purpose or self._purpose
        return other

    @property
    def spent(self) -> Usage:
        """What the run has spent, all its invocations together, calls under way at their estimate."""
        return self._store.spent(self.run)

    def reserve(self, estimated: Usage) -> None:
        """Reserve a call. Raises :class:`BudgetError` if a cap leaves no room for it."""
        with self._settled:
            while (entry := self._reserve(estimated)) is None:
                self._settled.wait()
            self._open[threading.get_ident()] = entry, time.monotonic()

    def _reserve(self, estimated: Usage) -> int | None:
        try:
            return self._store.reserve(
                self.run, self._purpose, self._source, estimated, lambda spent: self._check(spent, spent + estimated)
            )
        except BudgetError:
            if not self._open:
                raise
            return None  # calls under way are counted at their estimate: there may be room once they settle

    def _check(self, spent: Usage, total: Usage) -> None:
        caps = self.settings
        for name, cap, used, value in (
            ("calls", caps.max_calls, spent.calls, total.calls),
            ("tokens", caps.max_tokens, spent.tokens, total.tokens),
            ("usd", caps.max_usd, spent.usd or 0.0, total.usd or 0.0),
        ):
            if cap is not None and value > cap:
                raise BudgetError(
                    f"the next LLM call would exceed max_{name} of {cap}; raise it and run again to resume",
                    cap=f"max_{name}",
                    limit=cap,
                    spent=used,
                )

    def settle(self, estimated: Usage, used: Usage) -> None:
        """Put the real cost of this thread's call in the place of its estimate."""
        with self._settled:
            entry, began = self._open.pop(threading.get_ident())
            self._store.settle(entry, used, time.monotonic() - began)
            self._settled.notify_all()
