"""The rows of a source, a file a part: what was computed once is there, and only new parts are computed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from langchain_falconer._files import replacing, write_whole
from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import Corpus
from langchain_falconer.execute import Run, RunSettings, Tally, write_output
from langchain_falconer.graph import digest
from langchain_falconer.plan import Plan
from langchain_falconer.proxy import Proxy
from langchain_falconer.route._source import Source

Compute = Callable[[Corpus, Path, Callable[[int], None]], Tally]


@dataclass(frozen=True)
class PartRows:
    """Rows of one plan by one decider (a proxy's fingerprint, or an LLM's name), kept under ``folder``."""

    folder: Path
    plan: Plan
    decided_by: str

    def compute(self, source: Source, run: Compute, on_rows: Callable[[int], None] = lambda _: None) -> int:
        """Compute the parts that are not there yet; returns how many documents those held."""
        computed = done = 0
        for number in range(len(source.parts)):
            file = self._file(source, number)
            if not (file.is_file() and _tally(file).is_file()):
                before = done
                tally = run(source.open(number), file, lambda n, before=before: on_rows(before + n))  # type: ignore[misc]
                write_whole(_tally(file), json.dumps(tally.to_dict(), ensure_ascii=False))
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)  # the run's shards, now joined
                computed += tally.total
            done += _counted(file).total
            on_rows(done)
        return computed

    def run(
        self,
        proxy: Proxy,
        settings: RunSettings,
        corpus: Corpus,
        file: Path,
        on_rows: Callable[[int], None],
        known: Sequence[Annotation] = (),
    ) -> Tally:
        """The rows of one part by a proxy, in shards that survive a kill."""
        return Run(proxy, corpus, file.with_suffix(""), settings, known)(file, on_rows).tally

    def take(self, source: Source, rows: Path) -> None:
        """Take over rows (JSON lines, in the source's order) that were computed for all parts at once."""
        with rows.open("rb") as lines:
            for number in range(len(source.parts)):
                total = sum(1 for _ in source.open(number)) if len(source.parts) > 1 else None
                file, tally = self._file(source, number), Tally()
                with replacing(file) as partial, partial.open("wb") as out:
                    for line in islice(lines, total):
                        tally.add(json.loads(line))
                        out.write(line)
                write_whole(_tally(file), json.dumps(tally.to_dict(), ensure_ascii=False))

    def join(self, source: Source, output: Path) -> Tally:
        """Write the rows of all parts to ``output`` (.parquet), and count them."""
        files = [self._file(source, number) for number in range(len(source.parts))]
        output.parent.mkdir(parents=True, exist_ok=True)
        write_output(self.plan, files, output, {"decided_by": self.decided_by})
        tally = Tally()
        for file in files:
            tally += _counted(file)
        return tally

    def _file(self, source: Source, number: int) -> Path:
        folder = self.folder / digest(self.plan.fingerprint, self.decided_by)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{source.parts[number][1]}.jsonl"


def _counted(file: Path) -> Tally:
    return Tally.from_dict(json.loads(_tally(file).read_text("utf-8")))


def _tally(file: Path) -> Path:
    return file.with_suffix(".tally.json")
