"""The cascade: the proxy where it is confident enough, the LLM elsewhere, and a guarantee for both together."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, computed_field

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import Document, Place
from langchain_falconer.errors import RunError
from langchain_falconer.evaluate import Certificate, Population, min_texts_to_certify
from langchain_falconer.execute.runner import CompletedAnnotation, Run, RunReport
from langchain_falconer.execute.shard_store import write_rows
from langchain_falconer.execute.statistics import RowStatistics
from langchain_falconer.execute.targets import TARGET_METRICS, Comparison, certify_targets
from langchain_falconer.execute.writers import read_rows, write_output
from langchain_falconer.settings import Targets

AskLLM = Callable[[list[str], int], list[Annotation]]
"""Make the LLM answer the first n of some texts, within the budget, and return all its answers to them."""


class Guarantee(BaseModel):
    """The guarantee for the rows of a run, and its evidence.

    Attributes:
        targets: The targets that were set.
        certificates: What the drawn texts allow, by the name of the target.
        texts: Texts in the corpus.
        drawn: Texts that the certificates rest on.
        unanswered: Drawn texts that the LLM left partly unanswered; they count against the proxy.
        below_threshold: Texts that valid certificates withhold from the proxy.
        escalated: Those of them that the LLM decided.
        uncertain: Texts that neither decided with confidence; marked in the result.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    targets: Targets
    certificates: Mapping[str, Certificate]
    texts: int
    drawn: int
    unanswered: int
    below_threshold: int
    escalated: int
    uncertain: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def certified(self) -> bool:
        """Whether every target is certified."""
        return all(certificate.certified for certificate in self.certificates.values())

    @property
    def share_escalated(self) -> float:
        """Share of the texts that the LLM decided."""
        return self.escalated / max(1, self.texts)

    @property
    def share_uncertain(self) -> float:
        """Share of the texts that are marked uncertain."""
        return self.uncertain / max(1, self.texts)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def statements(self) -> tuple[str, ...]:
        """The guarantee in words, caveats included."""
        return (*(self._statement(name) for name in self.certificates), *self._caveats())

    def _statement(self, name: str) -> str:
        one = self.certificates[name]
        if one.certified:
            promise = TARGET_METRICS[name].promise.format(share=f"{one.target:g}")
            return (
                f"Certified at {one.confidence:.4g} confidence: at least {promise} "
                f"(the proxy alone: at least {one.lower_bound:.3f}, from {one.n} texts)."
            )
        required = min_texts_to_certify(one.target, one.confidence)
        counted = one.n - one.failures if TARGET_METRICS[name].drops_out else one.n
        return (
            f"A target {name} of {one.target:g} is not certified: {counted} of the {self.drawn} texts drawn count "
            f"for it, and it takes at least {required}; raise --certify, or lower the target."
        )

    def _caveats(self) -> Iterator[str]:
        if self.unanswered:
            yield (
                f"The LLM left {self.unanswered} of the {self.drawn} texts drawn for certificates partly unanswered; "
                "they count against the proxy."
            )
        if self.uncertain:
            promised = any(one.certified for one in self.certificates.values())
            counted = "; guarantees count them as the LLM would decide them" if promised else ""
            yield f"{self.uncertain} texts are marked uncertain: neither proxy nor LLM decided them{counted}."


@dataclass
class Cascade:
    """A finished run with its scores, completed by the LLM.

    Args:
        run: A ``scored`` run whose shards are finished.
        targets: The targets of the rows.
        drawn: The LLM's annotation of rows drawn uniformly over the corpus, by their position in it; None where there
            is none. The run must not hold them: training and every choice of the proxy were blind to them.
        folder: Folder for completed shards until the output is written.
    """

    run: Run
    targets: Targets
    drawn: Mapping[int, Annotation | None]
    folder: Path
    _annotated: dict[str, CompletedAnnotation] = field(init=False)

    def __post_init__(self) -> None:
        self._annotated = self.run.complete([a for a in self.drawn.values() if a])

    def __call__(
        self, ask_llm: AskLLM, report: RunReport, output: Place, on_progress: Callable[[int], None] | None = None
    ) -> tuple[RunReport, Guarantee]:
        """Certify, have the LLM answer where the proxy is not confident enough, and write ``output``.

        Texts go to the LLM in corpus order, until their quota is used up or ``ask_llm`` brings no more answers; its
        earlier answers are used in any case. What stays undecided keeps the proxy's answers and ``"uncertain": true``.
        Calling it again asks the LLM only about texts without an answer.

        Raises:
            RunError: The output or the folder cannot be written.
        """
        comparisons = list(self._comparisons())
        texts = report.statistics.total - report.statistics.failed
        n_open = sum(confidence is not None for shard in self.run.shards for _, confidence in _scored(shard))
        certificates = certify_targets(self.targets, comparisons, Population(texts, n_open))
        queue = _EscalationQueue(certificates, ask_llm, quota=math.floor(self.targets.escalate * texts + 1e-9))
        try:
            statistics, shards = self._complete_shards(queue, on_progress)
            write_output(self.run.proxy.plan, shards, output, self.run.facts)
            shutil.rmtree(self.folder)
        except OSError as error:
            raise RunError(
                f"cannot write the run: {error}; free space or choose another place, then run again to resume"
            ) from error
        guarantee = Guarantee(
            targets=self.targets,
            certificates=certificates,
            texts=texts,
            drawn=len(comparisons),
            unanswered=sum(one.is_match is None for one in comparisons),
            below_threshold=queue.below_threshold,
            escalated=queue.escalated,
            uncertain=statistics.uncertain,
        )
        return replace(report, statistics=statistics, output=output), guarantee

    def _complete_shards(
        self, queue: _EscalationQueue, on_progress: Callable[[int], None] | None
    ) -> tuple[RowStatistics, list[Path]]:
        statistics, shards = RowStatistics(), []
        self.folder.mkdir(parents=True, exist_ok=True)
        for shard in self.run.shards:
            shards.append(self.folder / shard.name)
            rows = self._complete(shard, queue)
            write_rows(shards[-1], rows)
            statistics += RowStatistics.of(rows)
            if on_progress:
                on_progress(statistics.total)
        return statistics, shards

    def _comparisons(self) -> Iterator[Comparison]:
        """Yield the proxy's decisions on the drawn rows; other annotated texts are not the proxy's to decide."""
        offset = 0
        for shard in self.run.shards:
            rows = _scored(shard)
            for position in [p for p in self.drawn if offset <= p < offset + len(rows)]:
                row, confidence = rows[position - offset]
                if confidence is not None:
                    yield Comparison.of(confidence, row, self._llm_row(row, self.drawn[position]))
            offset += len(rows)

    def _llm_row(self, row: Mapping[str, Any], annotation: Annotation | None) -> dict[str, Any] | None:
        """Return the LLM's row for a text; None unless it answered every step."""
        if annotation is None or not annotation.is_complete:
            return None
        return self._annotated[annotation.text].row(self.run.proxy, _document(row))

    def _complete(self, shard: Path, queue: _EscalationQueue) -> list[dict[str, Any]]:
        """Return the rows of a shard with the LLM's answers where there are any; undecided rows are marked."""
        rows = _scored(shard)
        annotated = self._annotated | self.run.complete(queue.answers(rows, self._complete_texts))
        return [self._final(row, confidence, annotated.get(row.get("text", "")), queue) for row, confidence in rows]

    def _final(
        self,
        row: dict[str, Any],
        confidence: float | None,
        completed: CompletedAnnotation | None,
        queue: _EscalationQueue,
    ) -> dict[str, Any]:
        if confidence is None:
            return row
        final = completed.row(self.run.proxy, _document(row)) if completed else row
        is_decided = bool(completed and completed.annotation.is_complete) or not queue.needs_llm(row, confidence)
        return final if is_decided else final | {"uncertain": True}

    @property
    def _complete_texts(self) -> set[str]:
        """The drawn texts to which the LLM answered every step."""
        return {text for text, completed in self._annotated.items() if completed.annotation.is_complete}


class _EscalationQueue:
    """Texts that certificates withhold from the proxy; they go to the LLM until the quota is used up."""

    def __init__(self, certificates: Mapping[str, Certificate], ask_llm: AskLLM, quota: int) -> None:
        self._certificates = certificates
        self._ask_llm = ask_llm
        self._quota = quota
        self.below_threshold = self.escalated = 0

    def needs_llm(self, row: Mapping[str, Any], confidence: float) -> bool:
        """Return whether a certificate, or the lack of one, keeps the proxy from deciding a row."""
        return any(not one.allows(confidence) for one in self._concerned(row))

    def answers(
        self, rows: Sequence[tuple[dict[str, Any], float | None]], complete_texts: Container[str]
    ) -> list[Annotation]:
        """Return the LLM's answers to the texts of these rows that a certificate withholds from the proxy.

        A target that is not certified sends nothing: no number of answers within reach would make it hold.
        """
        withheld = [
            row["text"]
            for row, confidence in rows
            if confidence is not None
            and row["text"] not in complete_texts
            and any(one.certified and not one.allows(confidence) for one in self._concerned(row))
        ]
        texts = list(dict.fromkeys(withheld))
        annotations = self._ask_llm(texts, self._quota) if texts else []
        decided = {one.text for one in annotations if one.is_complete}
        self._quota -= min(self._quota, len(texts))
        self.below_threshold += len(withheld)
        self.escalated += sum(text in decided for text in withheld)
        return annotations

    def _concerned(self, row: Mapping[str, Any]) -> list[Certificate]:
        return [one for name, one in self._certificates.items() if TARGET_METRICS[name].concerns(row["match"])]


def _scored(shard: Path) -> list[tuple[dict[str, Any], float | None]]:
    """Return the rows of a shard, each with the proxy's confidence."""
    rows = cast("Iterator[dict[str, Any]]", read_rows(shard))
    return [(row, row.pop("confidence", None)) for row in rows]


def _document(row: Mapping[str, Any]) -> Document:
    return Document(row["id"], row["text"], row.get("metadata", {}))
