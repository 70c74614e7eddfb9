"""The run of a proxy over a corpus: shards that survive anything, rows out in corpus order."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from langchain_falconer._files import write_whole
from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import BadRow, Corpus, Document
from langchain_falconer.errors import RunError
from langchain_falconer.execute._backends import NO_OPENVINO, Backend
from langchain_falconer.execute._output import check_output, read_rows, write_output
from langchain_falconer.execute._tally import Tally
from langchain_falconer.plan import Plan, holds, resolve
from langchain_falconer.proxy import Proxy, sureness
from langchain_falconer.records import Answers, Record

TALLY = ".tally.json"
SCORES = ".scores.json"


class RunSettings(BaseModel):
    """How a run is cut up and computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shard_texts: int = Field(default=2_000, ge=1)
    """Texts a shard: what a crash costs at most."""
    backend: Backend = "auto"

    @field_validator("backend")
    @classmethod
    def _installed(cls, backend: str) -> str:
        if backend == "openvino" and importlib.util.find_spec("openvino") is None:
            raise ValueError(NO_OPENVINO)
        return backend


@dataclass(frozen=True)
class RunReport:
    """What a run did. ``seconds`` and ``texts`` count this invocation's work; resumed shards are not in them."""

    tally: Tally
    output: Path | None
    texts: int
    seconds: float

    @property
    def texts_per_second(self) -> float | None:
        """Pace of this invocation, reading and writing included; None where every shard was there already."""
        return self.texts / self.seconds if self.texts and self.seconds > 0 else None


@dataclass
class Run:
    """A proxy over a corpus, in a folder of shards. Calling it again goes on where it was stopped.

    Each shard is written whole and then renamed; the same corpus, proxy and backend always give the same bytes.
    What ``known`` annotations say about a text stays as it is, for it is paid for; what they leave open, the proxy
    decides. With ``scored``, a file beside each shard says how sure the proxy is of each of its rows: a list of numbers
    in [0, 1], null where nothing is the proxy's.
    """

    proxy: Proxy
    corpus: Corpus
    folder: Path
    settings: RunSettings = field(default_factory=RunSettings)
    known: Sequence[Annotation] = ()
    scored: bool = False

    def __call__(self, output: Path | None = None, on_progress: Callable[[int], None] | None = None) -> RunReport:
        """Run what is missing, then write ``output`` (.jsonl or .parquet) from the shards.

        ``on_progress(texts)`` is called after each shard with the number of rows so far.

        Raises:
            CorpusError: a row that cannot be read, unless the corpus records bad rows.
            RunError: the output or the folder cannot be written.
        """
        if output is not None:
            check_output(output)
        tally, texts, seconds, done = Tally(), 0, 0.0, 0
        shards = []
        try:
            folder = self._shard_folder()
            answered = self.filled(self.known)
            began = time.perf_counter()
            for index, rows in enumerate(_chunks(self.corpus, self.settings.shard_texts)):
                shard = folder / f"{index:06d}.jsonl"
                if not all(shard.with_suffix(kind).is_file() for kind in self._kinds):
                    self._write_shard(shard, rows, answered)
                    texts += len(rows)
                    seconds += time.perf_counter() - began
                began = time.perf_counter()
                tally += Tally.load(shard.with_suffix(TALLY))
                shards.append(shard)
                done += len(rows)
                if on_progress:
                    on_progress(done)
            if output is not None:
                write_output(self.proxy.plan, shards, output)
        except OSError as error:
            raise RunError(
                f"cannot write the run: {error}; free space or choose another place, then run again to go on"
            ) from None
        return RunReport(tally, output, texts, seconds)

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """The finished rows, in corpus order."""
        for shard in self.shards:
            yield from read_rows(shard)

    @property
    def shards(self) -> list[Path]:
        """The finished shards, in corpus order."""
        return sorted(self._shard_folder().glob("*.jsonl"))

    @property
    def _kinds(self) -> list[str]:
        """The files of a shard."""
        return [".jsonl", TALLY, *([SCORES] if self.scored else [])]

    def _shard_folder(self) -> Path:
        """The folder for exactly this corpus, proxy, backend and known answers: others' shards are never mixed in."""
        parts = [
            self.corpus.fingerprint,
            self.proxy.fingerprint,
            self.proxy.session.name,
            str(self.settings.shard_texts),
            *(repr((a.text, a.source, a.answers)) for a in self.known),
        ]
        folder = self.folder / hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def filled(self, known: Sequence[Annotation]) -> dict[str, Known]:
        """What is known of texts; the proxy decides the steps that the annotator left open."""
        plan = self.proxy.plan
        unsettled = [
            a for a in known if any(s.id not in a.answers and holds(plan, s.where, a.answers) for s in plan.top_level)
        ]
        own = self.proxy.answers([a.text for a in unsettled], everything=True)
        filled = {a.text: _over(a.answers, answers) for a, answers in zip(unsettled, own, strict=True)}
        return {a.text: Known(a, filled.get(a.text, a.answers)) for a in known}

    def _write_shard(self, shard: Path, rows: Sequence[Document | BadRow], known: Mapping[str, Known]) -> None:
        documents = [row for row in rows if isinstance(row, Document)]
        asked = [d for d in documents if d.text not in known]
        answers = iter(self.proxy.answers([d.text for d in asked]))
        data: list[dict[str, Any]] = []
        sure: list[float | None] = []
        for row in rows:
            if isinstance(row, BadRow):
                data.append({"id": row.id, "error": f"{row.where}: {row.reason}"})
                sure.append(None)
            elif row.text in known:
                data.append(known[row.text].row(self.proxy, row))
                sure.append(known[row.text].sureness(self.proxy.plan))
            else:
                own = next(answers)
                data.append(_row(self.proxy.record(row.id, row.text, own), row))
                sure.append(sureness(own))
        if self.scored:
            write_whole(shard.with_suffix(SCORES), json.dumps(sure))
        write_shard(shard, data)


@dataclass(frozen=True)
class Known:
    """A text that was annotated: by whom, and all answers about it."""

    annotation: Annotation
    answers: Answers

    def row(self, proxy: Proxy, document: Document) -> dict[str, Any]:
        """The result row of a document with this text."""
        record = proxy.record(document.id, document.text, self.answers)
        source = "human" if self.annotation.source == "human" else "llm"
        told = self.annotation.answers
        decided = {s: source if s in told else by for s, by in record.decided_by.items()}
        return _row(replace(record, decided_by=decided), document)

    def sureness(self, plan: Plan) -> float | None:
        """How sure the proxy is of what the annotator left open; None where that is nothing."""
        return None if self.annotation.settled else sureness(resolve(plan, self.answers))


def write_shard(shard: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows of a shard, and beside them their tally."""
    tally = Tally()
    for row in rows:
        tally.add(row)
    write_whole(shard.with_suffix(TALLY), json.dumps(tally.to_dict(), ensure_ascii=False))
    write_whole(shard, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_scores(shard: Path) -> list[float | None]:
    """How sure the proxy was of each row of a scored shard; None where nothing was its own."""
    scores: list[float | None] = json.loads(shard.with_suffix(SCORES).read_text("utf-8"))
    return scores


def _over(told: Answers, own: Answers) -> Answers:
    no_more = {k: v for k, v in own.no_more.items() if k not in told.spans}
    return Answers({**own.labels, **told.labels}, {**own.spans, **told.spans}, no_more)


def _row(record: Record, document: Document) -> dict[str, Any]:
    data = record.to_dict()
    return data | {"metadata": dict(document.metadata)} if document.metadata else data


def _chunks(rows: Iterable[Document | BadRow], size: int) -> Iterator[list[Document | BadRow]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
