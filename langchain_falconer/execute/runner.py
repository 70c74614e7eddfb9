"""The run of a proxy over a corpus: shards that survive anything, rows out in corpus order."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from langchain_falconer.annotate import HUMAN, Annotation
from langchain_falconer.corpus import BadRow, Corpus, Document
from langchain_falconer.errors import RunError
from langchain_falconer.execute.memory import release_memory
from langchain_falconer.execute.pipelining import ordered_map, prefetch
from langchain_falconer.execute.shard_store import ShardEntry, ShardStore
from langchain_falconer.execute.shards import Shard, answer, cut, plan_shards
from langchain_falconer.execute.statistics import RowStatistics
from langchain_falconer.execute.writers import check_output, read_rows, write_output
from langchain_falconer.model import Proxy, confidence_of
from langchain_falconer.plan import Plan, holds, resolve
from langchain_falconer.records import Answers
from langchain_falconer.settings import RunSettings
from langchain_falconer.urls import Place

_N_WORKERS = 2  # one computes while the other tokenises and decodes


Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class RunReport:
    """What a run did. ``seconds`` and ``texts`` count this invocation's work; rows that were there are not in them."""

    statistics: RowStatistics
    output: Place | None
    texts: int
    seconds: float

    @property
    def texts_per_second(self) -> float | None:
        """Pace of this invocation, reading and writing included; None where every shard was there already."""
        return self.texts / self.seconds if self.texts and self.seconds > 0 else None


@dataclass
class Run:
    """A proxy over a corpus, in a folder of shards. Calling it again goes on where it was stopped.

    Each shard is there whole or not at all, and the same corpus, proxy and backend always give the same bytes, however
    often the run was stopped. A shard is computed again where the corpus has changed there. A text that comes again is
    not computed again. What ``known`` annotations say about a text stays as it is, for it is paid for; what they leave
    open, the proxy decides. A text that the proxy fails on is a row with its ``error``. With ``scored``, a row also
    holds ``sure``: how sure the proxy is of it, in [0, 1], or null where nothing is its own.
    """

    proxy: Proxy
    corpus: Corpus
    folder: Path
    settings: RunSettings = field(default_factory=RunSettings)
    known: Sequence[Annotation] = ()
    scored: bool = False

    def __call__(self, output: Place | None = None, on_progress: Callable[[int], None] | None = None) -> RunReport:
        """Run what is missing, then write ``output`` (see :func:`check_output`) from the shards.

        ``on_progress(texts)`` is called after each shard with the number of rows so far.

        Raises:
            CorpusError: a row that cannot be read, unless the corpus records bad rows.
            RunError: the output or the folder cannot be written, or the proxy answers no text at all.
        """
        if output is not None:
            check_output(output)
        done = _Done()
        try:
            self._ledger.begin(self.facts)
            known = self.filled(self.known)
            with closing(self._shards(known)) as shards:
                for shard in shards:
                    done.add(shard, shard.entry or self._finish(shard, known))
                    if on_progress:
                        on_progress(done.statistics.total)
            finished = self._ledger.end(self.facts, done.shards)
            if output is not None:
                write_output(self.proxy.plan, finished, output, self.facts)
        except OSError as error:
            raise RunError(
                f"cannot write the run: {error}; free space or choose another place, then run again to go on"
            ) from None
        return RunReport(done.statistics, output, done.texts, done.seconds)

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in corpus order, once the run is finished."""
        return chain.from_iterable(map(read_rows, self.shards))

    @property
    def shards(self) -> list[Path]:
        """The shards in corpus order, once the run is finished."""
        return self._ledger.shards

    @cached_property
    def _ledger(self) -> ShardStore:
        """The folder for exactly these sources, proxy, backend and known answers: others' shards are never mixed in."""
        parts = [
            *self.corpus.sources,
            self.corpus.settings.model_dump_json(),
            self.proxy.fingerprint,
            self.proxy.session.name,
            str(self.settings.shard_texts),
            str(self.scored),
            *(repr((a.text, a.source, a.answers)) for a in self.known),
        ]
        name = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return ShardStore(self.folder / name)

    @property
    def facts(self) -> dict[str, Any]:
        """Where the rows come from, as JSON data: the package's version, plan, proxy, backend and corpus."""
        return {
            "version": version("langchain-falconer"),
            "plan": self.proxy.plan.to_dict(),
            "proxy": {"id": self.proxy.fingerprint, "name": self.proxy.path.name if self.proxy.path else None},
            "backend": self.proxy.session.name,
            "corpus": self.corpus.sources,
        }

    def _shards(self, known: Container[str]) -> Generator[Shard, None, None]:
        """The shards in order, answered; reading, computing and the caller's writing overlap."""
        retry, size = self.settings.retry_failed, self.settings.shard_texts
        with closing(prefetch(cut(self.corpus, size))) as cut_up:
            planned = plan_shards(cut_up, self._ledger, known, retry_failed=retry)
            with closing(self._computed(planned)) as shards:
                yield from shards

    def _computed(self, planned: Iterable[Shard]) -> Generator[Shard, None, None]:
        if self.settings.engine == "local":
            return ordered_map(self._answer, planned, _N_WORKERS)
        from langchain_falconer.execute.ray_engine import run_on_ray

        return run_on_ray(self.proxy, planned, self.settings.workers)

    def _answer(self, shard: Shard, stopped: Callable[[], bool]) -> Shard:
        parts = list(answer(self.proxy, shard.asked, stopped))
        if not stopped():
            shard.tell(parts)
        return shard

    def _finish(self, shard: Shard, known: Mapping[str, Known]) -> ShardEntry:
        rows = [self._row(row, shard, known) for row in shard.rows]
        entry = ShardEntry(shard.digest, RowStatistics.of(rows))
        self._ledger.finish(shard.index, entry, rows)
        release_memory()
        return entry

    def _row(self, row: Document | BadRow, shard: Shard, known: Mapping[str, Known]) -> dict[str, Any]:
        if isinstance(row, BadRow):
            return {"id": row.id, "error": f"{row.where}: {row.reason}"}
        if row.text in known:
            told = {
                **known[row.text].row(self.proxy, row),
                "confidence": known[row.text].confidence_of(self.proxy.plan),
            }
        else:
            told = _with_metadata({"id": row.id, "text": row.text, **shard.answers[row.text].read()}, row)
        return told if self.scored else {name: value for name, value in told.items() if name != "confidence"}

    def filled(self, known: Sequence[Annotation]) -> dict[str, Known]:
        """What is known of texts; the proxy decides the steps that the annotator left open."""
        plan = self.proxy.plan
        unsettled = [
            a for a in known if any(s.id not in a.answers and holds(plan, s.where, a.answers) for s in plan.top_level)
        ]
        own = self.proxy.answers([a.text for a in unsettled], apply_conditions=False)
        filled = {a.text: _over(a.answers, answers) for a, answers in zip(unsettled, own, strict=True)}
        return {a.text: Known(a, filled.get(a.text, a.answers)) for a in known}


class _Done:
    """What was done so far; rows that were there before are not counted, nor the time of shards that were."""

    def __init__(self) -> None:
        self.statistics = RowStatistics()
        self.shards = self.texts = 0
        self.seconds = 0.0
        self._since = time.perf_counter()

    def add(self, shard: Shard, entry: ShardEntry) -> None:
        """Count a shard."""
        self.statistics += entry.statistics
        self.shards += 1
        now = time.perf_counter()
        if shard.entry is None:
            self.texts += len(shard.rows) - shard.kept
            self.seconds += now - self._since
        self._since = now


@dataclass(frozen=True)
class Known:
    """A text that was annotated: by whom, and all answers about it."""

    annotation: Annotation
    answers: Answers

    def row(self, proxy: Proxy, document: Document) -> dict[str, Any]:
        """The result row of a document with this text."""
        record = proxy.record(document.id, document.text, self.answers)
        source = HUMAN if self.annotation.source == HUMAN else "llm"
        told = self.annotation.answers
        decided = {s: source if s in told else by for s, by in record.decided_by.items()}
        return _with_metadata(replace(record, decided_by=decided).to_dict(), document)

    def confidence_of(self, plan: Plan) -> float | None:
        """How sure the proxy is of what the annotator left open; None where that is nothing."""
        return None if self.annotation.is_complete else confidence_of(resolve(plan, self.answers))


def _over(told: Answers, own: Answers) -> Answers:
    none_prob = {k: v for k, v in own.none_prob.items() if k not in told.spans}
    return Answers({**own.labels, **told.labels}, {**own.spans, **told.spans}, none_prob)


def _with_metadata(row: dict[str, Any], document: Document) -> dict[str, Any]:
    return row | {"metadata": dict(document.metadata)} if document.metadata else row
