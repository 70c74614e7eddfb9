"""A cache of result rows, one file per partition of a dataset, so that only new partitions are computed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from filelock import FileLock

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import Corpus, Dataset
from langchain_falconer.execute.runner import Run
from langchain_falconer.execute.statistics import RowStatistics
from langchain_falconer.execute.writers import write_output
from langchain_falconer.files import digest, replacing, write_whole
from langchain_falconer.model import Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.settings import RunSettings


@dataclass(frozen=True)
class PartitionCache:
    """A cache of the rows of one plan, decided by one proxy or LLM.

    Attributes:
        folder: Folder of the files.
        plan: The plan.
        decided_by: Fingerprint of the proxy, or name of the LLM.
    """

    folder: Path
    plan: Plan
    decided_by: str

    def run(
        self,
        proxy: Proxy,
        dataset: Dataset,
        settings: RunSettings,
        *,
        known: Sequence[Annotation] = (),
        on_rows: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Run a proxy over the missing partitions, in resumable shards.

        One process at a time computes a partition; others wait for it and reuse its rows.

        Args:
            proxy: The proxy.
            dataset: The dataset.
            settings: How to run.
            known: Annotations that stand in for the proxy's answers.
            on_rows: Called with the number of rows so far.

        Returns:
            Number of documents that were computed.
        """
        computed = done = 0
        for number in range(len(dataset.partitions)):
            with self._locked(dataset, number) as file:
                if not self._is_complete(file):
                    computed += self._compute(proxy, dataset.open(number), settings, known, file, done, on_rows)
                done += _read_statistics(file).total
            on_rows(done)
        return computed

    def _compute(
        self,
        proxy: Proxy,
        corpus: Corpus,
        settings: RunSettings,
        known: Sequence[Annotation],
        file: Path,
        done: int,
        on_rows: Callable[[int], None],
    ) -> int:
        run = Run(proxy, corpus, file.with_suffix(""), settings, known)
        statistics = run(file, lambda n: on_rows(done + n)).statistics
        _write_statistics(file, statistics)
        shutil.rmtree(file.with_suffix(""), ignore_errors=True)  # the shards, joined in the file now
        return statistics.total

    def adopt(self, dataset: Dataset, rows: Path) -> None:
        """Take over rows (JSON lines in the order of the dataset) that were computed for all partitions at once."""
        with rows.open("rb") as lines:
            for number in range(len(dataset.partitions)):
                total = sum(1 for _ in dataset.open(number)) if len(dataset.partitions) > 1 else None
                with self._locked(dataset, number) as file:
                    statistics = RowStatistics()
                    with replacing(file) as partial, partial.open("wb") as out:
                        for line in islice(lines, total):
                            statistics.add(json.loads(line))
                            out.write(line)
                    _write_statistics(file, statistics)

    def join(self, dataset: Dataset, output: Path) -> RowStatistics:
        """Write the rows of all partitions to ``output`` (.parquet) and return their counts."""
        files = [self._file(dataset, number) for number in range(len(dataset.partitions))]
        output.parent.mkdir(parents=True, exist_ok=True)
        write_output(self.plan, files, output, {"decided_by": self.decided_by})
        statistics = RowStatistics()
        for file in files:
            statistics += _read_statistics(file)
        return statistics

    @contextmanager
    def _locked(self, dataset: Dataset, number: int) -> Iterator[Path]:
        file = self._file(dataset, number)
        with FileLock(file.with_suffix(".lock"), thread_local=False):
            yield file

    @staticmethod
    def _is_complete(file: Path) -> bool:
        return file.is_file() and _statistics_file(file).is_file()

    def _file(self, dataset: Dataset, number: int) -> Path:
        folder = self.folder / digest(self.plan.fingerprint, self.decided_by)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{dataset.partitions[number].digest}.jsonl"


def _statistics_file(file: Path) -> Path:
    return file.with_suffix(".statistics.json")


def _read_statistics(file: Path) -> RowStatistics:
    return RowStatistics.from_dict(json.loads(_statistics_file(file).read_text("utf-8")))


def _write_statistics(file: Path, statistics: RowStatistics) -> None:
    write_whole(_statistics_file(file), json.dumps(statistics.to_dict(), ensure_ascii=False))
