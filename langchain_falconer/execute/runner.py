"""The run of a proxy over a corpus: resumable shards, result rows in corpus order."""

from __future__ import annotations

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
from langchain_falconer.execute.shard_store import ShardEntry, ShardStore
from langchain_falconer.execute.shards import Shard, answer, cut, plan_shards
from langchain_falconer.execute.statistics import RowStatistics
from langchain_falconer.execute.writers import check_output, read_rows, write_output
from langchain_falconer.files import digest
from langchain_falconer.model import Proxy, confidence_of
from langchain_falconer.plan import Plan, holds, resolve
from langchain_falconer.records import Answers, ResultRow
from langchain_falconer.settings import RunSettings
from langchain_falconer.threads import ordered_map, prefetch
from langchain_falconer.urls import Place

_N_WORKERS = 2  # one computes while the other tokenises and decodes

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class RunReport:
    """The outcome of a run.

    Attributes:
        statistics: Counts over all rows.
        output: File or URL of the rows; None if none was written.
        texts: Texts computed by this call; rows of earlier calls do not count.
        seconds: Time that this call took to compute them.
    """

    statistics: RowStatistics
    output: Place | None
    texts: int
    seconds: float

    @property
    def texts_per_second(self) -> float | None:
        """Throughput of this call, reading and writing included; None if every shard was finished already."""
        return self.texts / self.seconds if self.texts and self.seconds > 0 else None


@dataclass
class Run:
    """A proxy over a corpus, in a folder of shards. Calling it again resumes where it was stopped.

    Shards are written atomically, and the same corpus, proxy and backend always give the same bytes, however often the
    run was stopped. A shard is computed again if the corpus has changed there. A repeated text is computed once. A text
    that the proxy fails on becomes a row with its ``error``.

    Attributes:
        proxy: The proxy.
        corpus: The corpus.
        folder: Folder of the shards.
        settings: How to run.
        known: Annotations that stand in for the proxy's answers; the proxy decides the steps that they leave open.
        scored: Whether rows also hold ``confidence``: the proxy's confidence in [0, 1], or null in a row without an
            answer of the proxy.
    """

    proxy: Proxy
    corpus: Corpus
    folder: Path
    settings: RunSettings = field(default_factory=RunSettings)
    known: Sequence[Annotation] = ()
    scored: bool = False

    def __call__(self, output: Place | None = None, on_progress: Callable[[int], None] | None = None) -> RunReport:
        """Run what is missing, then write ``output`` from the shards.

        Args:
            output: File or URL of the rows, see :func:`check_output`.
            on_progress: Called after each shard with the number of rows so far.

        Raises:
            CorpusError: A row cannot be read, unless the corpus records bad rows.
            RunError: The output or the folder cannot be written, or the proxy answers no text at all.
        """
        if output is not None:
            check_output(output, self.settings.row_unit)
        progress = _Progress()
        try:
            self._store.begin(self.facts)
            known = self.complete(self.known)
            with closing(self._shards(known)) as shards:
                for shard in shards:
                    progress.add(shard, shard.entry or self._finish(shard, known))
                    if on_progress:
                        on_progress(progress.statistics.total)
            finished = self._store.end(self.facts, progress.shards)
            if output is not None:
                write_output(self.proxy.plan, finished, output, self.facts, self.settings.row_unit)
        except OSError as error:
            raise RunError(
                f"cannot write the run: {error}; free space or choose another place, then run again to resume"
            ) from error
        return RunReport(progress.statistics, output, progress.texts, progress.seconds)

    @property
    def rows(self) -> Iterator[ResultRow]:
        """The rows in corpus order, once the run is finished."""
        return chain.from_iterable(map(read_rows, self.shards))

    @property
    def shards(self) -> list[Path]:
        """The shards in corpus order, once the run is finished."""
        return self._store.shards

    @cached_property
    def _store(self) -> ShardStore:
        """The store for exactly these sources, proxy, backend and annotations: shards of other runs never mix in."""
        name = digest(
            list(self.corpus.sources),
            self.corpus.settings.model_dump(exclude={"keep"}),
            self.proxy.fingerprint,
            self.proxy.session.name,
            self.settings.shard_texts,
            self.scored,
            [repr((a.text, a.source, a.answers)) for a in self.known],
        )
        return ShardStore(self.folder / name)

    @property
    def facts(self) -> dict[str, Any]:
        """Provenance of the rows as JSON data: version of the package, plan, proxy, backend and corpus."""
        return {
            "version": version("langchain-falconer"),
            "plan": self.proxy.plan.to_dict(),
            "proxy": {"id": self.proxy.fingerprint, "name": self.proxy.path.name if self.proxy.path else None},
            "backend": self.proxy.session.name,
            "corpus": self.corpus.sources,
        }

    def _shards(self, known: Container[str]) -> Generator[Shard, None, None]:
        """Yield the shards in order with their answers; reading, computing and the caller's writing overlap."""
        retry, size = self.settings.retry_failed, self.settings.shard_texts
        with closing(prefetch(cut(self.corpus, size))) as chunks:
            planned = plan_shards(chunks, self._store, known, retry_failed=retry)
            with closing(self._computed(planned)) as shards:
                yield from shards

    def _computed(self, planned: Iterable[Shard]) -> Generator[Shard, None, None]:
        if self.settings.engine == "local":
            return ordered_map(self._answer, planned, _N_WORKERS)
        from langchain_falconer.execute.ray_engine import run_on_ray

        return run_on_ray(self.proxy, planned, self.settings.workers)

    def _answer(self, shard: Shard, stopped: Callable[[], bool]) -> Shard:
        answers = list(answer(self.proxy, shard.texts, stopped))
        if not stopped():
            shard.store(answers)
        return shard

    def _finish(self, shard: Shard, known: Mapping[str, CompletedAnnotation]) -> ShardEntry:
        rows = [self._row(row, shard, known) for row in shard.rows]
        entry = ShardEntry(shard.digest, RowStatistics.of(rows))
        self._store.finish(shard.index, entry, rows)
        release_memory()
        return entry

    def _row(self, row: Document | BadRow, shard: Shard, known: Mapping[str, CompletedAnnotation]) -> dict[str, Any]:
        if isinstance(row, BadRow):
            failed = {"id": row.id, "error": f"{row.where}: {row.reason}"}
            return _with_metadata({"id": row.id, "text": "", **failed}, row) if row.is_empty else failed
        if row.text in known:
            result = {
                **known[row.text].row(self.proxy, row),
                "confidence": known[row.text].confidence_of(self.proxy.plan),
            }
        else:
            result = _with_metadata({"id": row.id, "text": row.text, **shard.answers[row.text].read()}, row)
        return result if self.scored else {name: value for name, value in result.items() if name != "confidence"}

    def complete(self, annotations: Sequence[Annotation]) -> dict[str, CompletedAnnotation]:
        """Return annotations by text, completed by the proxy's answers to the steps that the annotator left open."""
        plan = self.proxy.plan
        partial = [
            a
            for a in annotations
            if any(s.id not in a.answers and holds(plan, s.where, a.answers) for s in plan.top_level)
        ]
        predicted = self.proxy.answers([a.text for a in partial], apply_conditions=False)
        merged = {a.text: _merge(a.answers, answers) for a, answers in zip(partial, predicted, strict=True)}
        return {a.text: CompletedAnnotation(a, merged.get(a.text, a.answers)) for a in annotations}


class _Progress:
    """Counts over the shards so far; ``texts`` and ``seconds`` leave out shards that were finished before."""

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
            self.texts += len(shard.rows) - shard.n_reused
            self.seconds += now - self._since
        self._since = now


@dataclass(frozen=True)
class CompletedAnnotation:
    """An annotation, completed by the proxy.

    Attributes:
        annotation: The annotation.
        answers: Its answers, and the proxy's to the steps that it leaves open.
    """

    annotation: Annotation
    answers: Answers

    def row(self, proxy: Proxy, document: Document) -> dict[str, Any]:
        """Return the result row of a document with this text."""
        record = proxy.record(document.id, document.text, self.answers)
        annotation = self.annotation
        people = {*record.decided_by} if annotation.source == HUMAN else annotation.corrected
        decided = {
            step: (HUMAN if step in people else "llm") if step in annotation.answers else by
            for step, by in record.decided_by.items()
        }
        return _with_metadata(dict(replace(record, decided_by=decided).to_dict()), document)

    def confidence_of(self, plan: Plan) -> float | None:
        """Return the proxy's confidence in the answers that are its own; None if the annotation is complete."""
        return None if self.annotation.is_complete else confidence_of(resolve(plan, self.answers))


def _merge(annotated: Answers, predicted: Answers) -> Answers:
    """Return both answers; the annotated ones take precedence."""
    none_prob = {k: v for k, v in predicted.none_prob.items() if k not in annotated.spans}
    return Answers({**predicted.labels, **annotated.labels}, {**predicted.spans, **annotated.spans}, none_prob)


def _with_metadata(row: dict[str, Any], document: Document | BadRow) -> dict[str, Any]:
    """Return a result row with the metadata of its document after its text."""
    if not document.metadata:
        return row
    return {"id": document.id, "text": row["text"], "metadata": dict(document.metadata), **row}
