"""The cascade: the proxy where it is sure enough, the LLM where it is not, and a promise about both together."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import Document, Place
from langchain_falconer.errors import RunError
from langchain_falconer.evaluate import Certificate, Population, fewest_to_certify
from langchain_falconer.execute._ledger import write_rows
from langchain_falconer.execute._output import read_rows, write_output
from langchain_falconer.execute._run import Known, Run, RunReport
from langchain_falconer.execute._tally import Tally
from langchain_falconer.execute._targets import KINDS, Judged, Targets

Ask = Callable[[list[str], int], list[Annotation]]
"""Has the LLM answer the first so many of some texts, as far as the budget goes; what is known of them all then."""


@dataclass(frozen=True)
class Guarantee:
    """What is promised of a run's rows, and what it took.

    Attributes:
        targets: what was asked for.
        certificates: what the drawn texts allow, by kind of target.
        texts: texts in the corpus.
        drawn: texts that the certificates rest on.
        unanswered: those of them that the LLM gave no whole answer to; they count against the proxy.
        band: texts of which the proxy was not sure enough, by certificates that hold.
        answered: those of them that the LLM decided.
        uncertain: texts that nobody decided for sure; marked in the result.
    """

    targets: Targets
    certificates: Mapping[str, Certificate]
    texts: int
    drawn: int
    unanswered: int
    band: int
    answered: int
    uncertain: int

    @property
    def certified(self) -> bool:
        """Whether every target is."""
        return all(certificate.certified for certificate in self.certificates.values())

    def to_dict(self) -> dict[str, Any]:
        """The guarantee as JSON data; ``said`` puts it in words."""
        counted = ("texts", "drawn", "unanswered", "band", "answered", "uncertain")
        return {
            "certified": self.certified,
            "confidence": self.targets.confidence,
            "targets": {kind: one.to_dict() for kind, one in self.certificates.items()},
            **{name: getattr(self, name) for name in counted},
            "share_answered": self.answered / max(1, self.texts),
            "share_uncertain": self.uncertain / max(1, self.texts),
            "said": [*(self._said(kind) for kind in self.certificates), *self._caveats()],
        }

    def _said(self, kind: str) -> str:
        one = self.certificates[kind]
        if one.certified:
            promise = KINDS[kind].promise.format(share=f"{one.target:g}")
            return (
                f"Certified at {one.confidence:.4g} confidence: at least {promise} "
                f"(the proxy alone: at least {one.alone:.3f}, from {one.n} texts)."
            )
        enough = fewest_to_certify(one.target, one.confidence)
        counted = one.n - one.failures if KINDS[kind].leaving else one.n
        return (
            f"A target {kind} of {one.target:g} is not certified: {counted} of the {self.drawn} texts drawn count "
            f"for it, and it takes at least {enough}; raise --certify, or lower the target."
        )

    def _caveats(self) -> Iterator[str]:
        if self.unanswered:
            yield (
                f"The LLM left {self.unanswered} of the {self.drawn} texts drawn for certificates without a whole "
                "answer; they count against the proxy."
            )
        if self.uncertain:
            promised = any(one.certified for one in self.certificates.values())
            counted = "; promises count them as the LLM would decide them" if promised else ""
            yield f"{self.uncertain} texts are marked uncertain: nobody decided them for sure{counted}."


@dataclass
class Cascade:
    """A finished run with its scores, completed by the LLM.

    Args:
        run: a ``scored`` run whose shards are all there.
        targets: what the rows are to reach.
        drawn: what the LLM told of rows drawn uniformly over the corpus, by their place in it; None for nothing. None
            of them is among what the run knows: training and every choice of the proxy were blind to them.
        folder: where completed shards are put until the output is written.
    """

    run: Run
    targets: Targets
    drawn: Mapping[int, Annotation | None]
    folder: Path
    _told: dict[str, Known] = field(init=False)

    def __post_init__(self) -> None:
        self._told = self.run.filled([a for a in self.drawn.values() if a])

    def __call__(
        self, ask: Ask, report: RunReport, output: Place, on_progress: Callable[[int], None] | None = None
    ) -> tuple[RunReport, Guarantee]:
        """Certify, have the LLM answer what the proxy is not sure of, and write ``output``.

        Texts go to the LLM in corpus order, until their share is used up or ``ask`` brings no more answers; what it has
        answered before is taken in any case. What stays undecided keeps the proxy's answers and ``"uncertain": true``.
        Calling it again asks only what is still open.

        Raises:
            RunError: the output or the folder cannot be written.
        """
        judged = list(self._judged())
        texts = report.tally.total - report.tally.failed
        open_ = sum(sure is not None for shard in self.run.shards for _, sure in _scored(shard))
        certificates = self.targets.certify(judged, Population(texts, open_))
        desk = _Desk(certificates, ask, room=math.floor(self.targets.escalate * texts + 1e-9))
        tally, shards = Tally(), []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for shard in self.run.shards:
                shards.append(self.folder / shard.name)
                rows = self._completed(shard, desk)
                write_rows(shards[-1], rows)
                tally += Tally.of(rows)
                if on_progress:
                    on_progress(tally.total)
            write_output(self.run.proxy.plan, shards, output, self.run.facts)
            shutil.rmtree(self.folder)
        except OSError as error:
            raise RunError(
                f"cannot write the run: {error}; free space or choose another place, then run again to go on"
            ) from None
        unanswered = sum(one.wanted is None for one in judged)
        counts = (texts, len(judged), unanswered, desk.band, desk.answered, tally.uncertain)
        guarantee = Guarantee(self.targets, certificates, *counts)
        return replace(report, tally=tally, output=output), guarantee

    def _judged(self) -> Iterator[Judged]:
        """The proxy's decisions on the drawn rows; where a text was annotated otherwise, nothing was left to it."""
        at = 0
        for shard in self.run.shards:
            rows = _scored(shard)
            for place in [place for place in self.drawn if at <= place < at + len(rows)]:
                row, sure = rows[place - at]
                if sure is not None:
                    yield Judged.of(sure, row, self._told_row(row, self.drawn[place]))
            at += len(rows)

    def _told_row(self, row: Mapping[str, Any], told: Annotation | None) -> dict[str, Any] | None:
        """The LLM's row for a text, if it left nothing open."""
        return self._told[told.text].row(self.run.proxy, _document(row)) if told and told.settled else None

    def _completed(self, shard: Path, desk: _Desk) -> list[dict[str, Any]]:
        """The rows of a shard, with the LLM's answers where there are some, and marks where nobody decided for sure."""
        rows = _scored(shard)
        told = self._told | self.run.filled(desk.answers(rows, self._settled))
        return [self._final(row, sure, told.get(row.get("text", "")), desk) for row, sure in rows]

    def _final(self, row: dict[str, Any], sure: float | None, told: Known | None, desk: _Desk) -> dict[str, Any]:
        if sure is None:
            return row
        final = told.row(self.run.proxy, _document(row)) if told else row
        decided = bool(told and told.annotation.settled) or not desk.doubts(row, sure)
        return final if decided else final | {"uncertain": True}

    @property
    def _settled(self) -> set[str]:
        """The drawn texts on which the LLM left nothing open."""
        return {text for text, told in self._told.items() if told.annotation.settled}


class _Desk:
    """Where doubtful texts are sorted out: those that certificates need go to the LLM, as long as there is room."""

    def __init__(self, certificates: Mapping[str, Certificate], ask: Ask, room: int) -> None:
        self._certificates = certificates
        self._ask = ask
        self._room = room
        self.band = self.answered = 0

    def doubts(self, row: Mapping[str, Any], sure: float) -> bool:
        """Whether a certificate, or the lack of one, keeps the proxy from deciding this row."""
        return any(not one.allows(sure) for one in self._concerned(row))

    def answers(self, rows: Sequence[tuple[dict[str, Any], float | None]], settled: Container[str]) -> list[Annotation]:
        """The LLM's answers to the texts of these rows that a certificate withholds from the proxy.

        A target that is not certified sends nothing: no number of answers within reach would make it hold.
        """
        withheld = [
            row["text"]
            for row, sure in rows
            if sure is not None
            and row["text"] not in settled
            and any(one.certified and not one.allows(sure) for one in self._concerned(row))
        ]
        texts = list(dict.fromkeys(withheld))
        told = self._ask(texts, self._room) if texts else []
        decided = {one.text for one in told if one.settled}
        self._room -= min(self._room, len(texts))
        self.band += len(withheld)
        self.answered += sum(text in decided for text in withheld)
        return told

    def _concerned(self, row: Mapping[str, Any]) -> list[Certificate]:
        return [one for kind, one in self._certificates.items() if KINDS[kind].concerns(row["match"])]


def _scored(shard: Path) -> list[tuple[dict[str, Any], float | None]]:
    """The rows of a shard, and how sure the proxy is of each."""
    return [(row, row.pop("sure", None)) for row in read_rows(shard)]


def _document(row: Mapping[str, Any]) -> Document:
    return Document(row["id"], row["text"], row.get("metadata", {}))
