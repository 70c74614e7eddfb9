"""Selection of the rows that a report shows, and their texts cut at the edges of spans for colouring."""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

from langchain_falconer.errors import RunError
from langchain_falconer.records import JsonObject
from langchain_falconer.report.formatting import answer

Row = Mapping[str, Any]
"""A result row."""

_MAX_READ = 1_000_000
_MAX_FAILED = 100
_MAX_PLAIN_CHARS = 400  # between spans; the middle of longer text is left out
_PLAIN_EDGE_CHARS = 160  # shown on each side of what is left out
_MAX_PIECES = 300
_N_COLOURS = 8
_MAX_CHARS = 20_000  # of a text; so the memory of a selection is bounded
_UNIFORM, _MATCHES, _DOUBTFUL = 1_000, 500, 500
_PER_VALUE, _MAX_VALUES = 5, 400
_MAX_BYTES = 3_000_000


@dataclass
class RowSelection:
    """Rows of a result for a report, chosen in one pass.

    Attributes:
        read: Rows that were considered.
        answered: Rows with an answer, by top-level step.
        matches: The first rows that match, to print.
        others: The first rows that do not.
        failed: The first failed rows.
        uniform: Rows drawn uniformly from all with answers, in random order, by position in the corpus.
        doubtful: The rows with the lowest scores.
        special: Matching rows, drawn uniformly, and a few for every answer that is counted in the report.
    """

    read: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    matches: list[Row] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    uniform: list[tuple[int, Row]] = field(default_factory=list)
    doubtful: list[tuple[int, Row]] = field(default_factory=list)
    special: list[tuple[int, Row]] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Row], limit: int, values: Container[tuple[str, str]] = ()) -> RowSelection:
        """Select from result rows, of which the first million are considered; the same rows give the same selection.

        Args:
            rows: Result rows.
            limit: Number of rows to print: matches first, up to a quarter others.
            values: Steps with span texts of which rows are wanted, besides those of all labels.
        """
        selection, rng = cls(), random.Random(0)
        uniform, matches = _Reservoir(_UNIFORM, rng), _Reservoir(_MATCHES, rng)
        doubtful: list[tuple[float, int, Row]] = []
        seen: Counter[tuple[str, object]] = Counter()
        for at, row in enumerate(islice(rows, _MAX_READ)):
            selection.read += 1
            if "error" in row:
                if len(selection.failed) < _MAX_FAILED:
                    selection.failed.append(_shortened_row(row))
                continue
            printed = selection.matches if row.get("match") else selection.others
            if len(printed) < limit:
                printed.append(_shortened_row(row))
            uniform.add(at, row)
            if row.get("match"):
                matches.add(at, row)
            certainty, is_rare = selection._count(row, seen, values)
            if len(doubtful) < _DOUBTFUL:
                heapq.heappush(doubtful, (-certainty, -at, _shortened_row(row)))
            elif -certainty > doubtful[0][0]:
                heapq.heapreplace(doubtful, (-certainty, -at, _shortened_row(row)))
            if is_rare:
                selection.special.append((at, _shortened_row(row)))
        selection.uniform = uniform.shuffled()
        selection.doubtful = [(-at, row) for _, at, row in sorted(doubtful, key=lambda one: (-one[0], -one[1]))]
        selection.special += matches.shuffled()
        quarter = min(len(selection.others), limit // 4)
        del selection.matches[limit - quarter :]
        del selection.others[limit - len(selection.matches) :]
        return selection

    def _count(
        self, row: Row, seen: Counter[tuple[str, object]], values: Container[tuple[str, str]]
    ) -> tuple[float, bool]:
        """Count the answers of a row; return its lowest score, and whether few rows had one of its answers before."""
        lowest, is_rare = 1.0, False
        found: list[tuple[str, object]] = []
        for step, label in (row.get("labels") or {}).items():
            self.answered[step] += 1
            lowest = min(lowest, label.get("score", 1.0))
            value = label["value"]
            found += [(step, name) for name in value] if isinstance(value, list) else [(step, value)]
        for step, spans in (row.get("spans") or {}).items():
            self.answered[step] += 1
            for span in spans:
                lowest = min(lowest, span.get("score", 1.0))
                if (step, span["text"]) in values:
                    found.append((step, span["text"]))
        for answer_ in found:
            if seen[answer_] < _PER_VALUE and (answer_ in seen or len(seen) < _MAX_VALUES):
                seen[answer_] += 1
                is_rare = True
        return lowest, is_rare

    def embedded(self) -> tuple[list[JsonObject], int]:
        """Return the rows that the page holds, within a number of bytes, and how many of the first are uniform."""
        rows: list[JsonObject] = []
        known: set[int] = set()
        size = n_uniform = 0
        parts = ((self.uniform, _MAX_BYTES // 2), (self.doubtful, _MAX_BYTES * 3 // 4), (self.special, _MAX_BYTES))
        for part, most in parts:
            for at, row in part:
                if at in known or size >= most:
                    continue
                known.add(at)
                rows.append({"n": at, **_embedded_row(row)})
                size += len(json.dumps(rows[-1], ensure_ascii=False).encode("utf-8", "replace"))
            n_uniform = n_uniform or len(rows)
        return rows, n_uniform


@dataclass
class _Reservoir:
    """A uniform sample of a stream (Vitter's algorithm R)."""

    size: int
    rng: random.Random
    seen: int = 0
    kept: list[tuple[int, Row]] = field(default_factory=list)

    def add(self, at: int, row: Row) -> None:
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append((at, _shortened_row(row)))
        elif (place := int(self.rng.random() * self.seen)) < self.size:
            self.kept[place] = (at, _shortened_row(row))

    def shuffled(self) -> list[tuple[int, Row]]:
        """Return the sample in random order, so that its beginning is a uniform sample too."""
        self.rng.shuffle(self.kept)
        return self.kept


def _shortened_row(row: Row) -> Row:
    """Return a row whose text is not too long to be held; ``chars`` is the length of one that was cut."""
    text = str(row.get("text") or "")
    if len(text) <= _MAX_CHARS:
        return row
    spans = {
        step: [span for span in found if span["end"] <= _MAX_CHARS or span["end"] > len(text)]
        for step, found in (row.get("spans") or {}).items()
    }
    return {**row, "text": text[:_MAX_CHARS], "spans": spans, "chars": len(text)}


def _embedded_row(row: Row) -> JsonObject:
    keys = ("id", "text", "labels", "spans", "match", "decided_by", "uncertain", "chars")
    kept: JsonObject = {key: row[key] for key in keys if key in row}
    metadata = list((row.get("metadata") or {}).items())[:12]
    if metadata:
        kept["metadata"] = {str(name)[:60]: str(value)[:200] for name, value in metadata if value is not None}
    return kept


def colours_of(steps: Iterable[str]) -> Mapping[str, int]:
    """Return the colours (0 to 7) of span steps, the same in all of a report; another step gets the next one."""
    colours: defaultdict[str, int] = defaultdict(lambda: len(colours) % _N_COLOURS)
    for step in steps:
        _ = colours[step]
    return colours


class Mark(NamedTuple):
    """The mark of a span; ``title`` is its tooltip, the step and the score."""

    start: int
    end: int
    step: str
    title: str


class Piece(NamedTuple):
    """A piece of text under the same marks, the outermost first, or the place of ``left_out`` characters.

    The step of a mark is named at its last piece, where ``mark.end == end``.
    """

    text: str
    end: int
    marks: tuple[Mark, ...] = ()
    left_out: int = 0


def pieces(row: Mapping[str, Any]) -> list[Piece]:
    """Return a row's text, cut wherever a span begins or ends, however spans nest or overlap.

    Raises:
        RunError: A span lies outside the text, so the row was not written by a run.
    """
    text = str(row.get("text") or "")
    marks = sorted(_marks(row.get("spans") or {}), key=lambda m: (m.start, -m.end))
    for m in marks:
        if not 0 <= m.start < m.end <= len(text):
            raise RunError(
                f"row '{row.get('id')}' has a span of '{m.step}' at [{m.start}, {m.end}], outside its text of "
                f"{len(text)} characters; repeat the run to write its rows again"
            )
    cuts = sorted({0, len(text), *(m.start for m in marks), *(m.end for m in marks)})
    all_pieces = (
        piece
        for start, end in pairwise(cuts)
        for piece in _shortened(text[start:end], end, tuple(m for m in marks if m.start <= start and end <= m.end))
    )
    shown = list(islice(all_pieces, _MAX_PIECES))
    rest = max(len(text), row.get("chars") or 0) - sum(len(p.text) + p.left_out for p in shown)
    return [*shown, Piece("", len(text), left_out=rest)] if rest else shown


def _marks(spans: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Mark]:
    for step, step_spans in spans.items():
        for span in step_spans:
            score = span.get("score")
            yield Mark(span["start"], span["end"], step, step if score is None else f"{step} {score:.2f}")
            yield from _marks(span.get("spans") or {})


def _shortened(text: str, end: int, marks: tuple[Mark, ...]) -> list[Piece]:
    if marks or len(text) <= _MAX_PLAIN_CHARS:
        return [Piece(text, end, marks)]
    gap = Piece("", end, left_out=len(text) - 2 * _PLAIN_EDGE_CHARS)
    return [Piece(text[:_PLAIN_EDGE_CHARS], end), gap, Piece(text[-_PLAIN_EDGE_CHARS:], end)]


class Chip(NamedTuple):
    """An answer about a text, in words; spans have a score each, so that their chip has none."""

    step: str
    answer: str
    score: float | None
    decided_by: str
    is_span: bool


def chips(row: Mapping[str, Any]) -> list[Chip]:
    """Return the row's answers, one per top-level step."""
    by = row.get("decided_by") or {}
    labels = (
        Chip(step, answer(label["value"]), label.get("score"), by.get(step, ""), False)
        for step, label in (row.get("labels") or {}).items()
    )
    spans = (
        Chip(step, f"{len(found)} span{'' if len(found) == 1 else 's'}", None, by.get(step, ""), True)
        for step, found in (row.get("spans") or {}).items()
    )
    return [*labels, *spans]


def relations(spans: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> list[tuple[str, list[str]]]:
    """Return the answers of ``of`` steps: the text of each span that has some, and the answers in words."""
    answered = []
    for span in chain.from_iterable((spans or {}).values()):
        inner = span.get("spans") or {}
        answers = [f"{step}: {answer(label['value'])}" for step, label in (span.get("labels") or {}).items()]
        answers += [f"{step}: {', '.join(s['text'] for s in found) or 'none'}" for step, found in inner.items()]
        answered += [(span["text"], answers)] if answers else []
        answered += relations(inner)
    return answered
