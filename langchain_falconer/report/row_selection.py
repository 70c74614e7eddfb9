"""Selection of the rows that a report shows, and their texts cut at the edges of spans for colouring."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

from langchain_falconer.errors import RunError
from langchain_falconer.report.formatting import answer

_MAX_READ = 100_000
_MAX_FAILED = 100
_MAX_PLAIN_CHARS = 400  # between spans; the middle of longer text is left out
_PLAIN_EDGE_CHARS = 160  # shown on each side of what is left out
_MAX_PIECES = 300
_N_COLOURS = 8


@dataclass
class Examples:
    """The rows to show, and the number of rows that were considered."""

    matches: list[Mapping[str, Any]] = field(default_factory=list)
    others: list[Mapping[str, Any]] = field(default_factory=list)
    failed: list[Mapping[str, Any]] = field(default_factory=list)
    read: int = 0


def select_rows(rows: Iterable[Mapping[str, Any]], limit: int) -> Examples:
    """Select rows to show: matches first, up to a quarter others, and up to 100 failed rows.

    Args:
        rows: Result rows, of which the first 100,000 are considered.
        limit: Maximum number of rows with answers.
    """
    examples = Examples()
    for row in islice(rows, _MAX_READ):
        examples.read += 1
        if "error" in row:
            group, group_limit = examples.failed, _MAX_FAILED
        else:
            group, group_limit = (examples.matches if row.get("match") else examples.others), limit
        if len(group) < group_limit:
            group.append(row)
    quarter = min(len(examples.others), limit // 4)
    del examples.matches[limit - quarter :]
    del examples.others[limit - len(examples.matches) :]
    return examples


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
    rest = len(text) - sum(len(p.text) + p.left_out for p in shown)
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
