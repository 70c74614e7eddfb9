"""Which rows a report shows, and a text cut at the edges of its spans so that they can be coloured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any

from langchain_falconer.errors import RunError
from langchain_falconer.report.formatting import answer

MOST_READ = 100_000
MOST_FAILED = 100
_LONGEST_PLAIN = 400  # characters between spans; more is cut out of the middle
_KEPT_PLAIN = 160
_MOST_PIECES = 300


@dataclass
class Examples:
    """The rows to show: matches first, some of the others, the failed ones; ``read`` is how many were looked at."""

    matches: list[Mapping[str, Any]] = field(default_factory=list)
    others: list[Mapping[str, Any]] = field(default_factory=list)
    failed: list[Mapping[str, Any]] = field(default_factory=list)
    read: int = 0


def choose(rows: Iterable[Mapping[str, Any]], most: int) -> Examples:
    """At most ``most`` rows with answers, at least a quarter of them (where there are) no matches; 100 failed ones."""
    found = Examples()
    for row in islice(rows, MOST_READ):
        found.read += 1
        group, room = (
            (found.failed, MOST_FAILED)
            if "error" in row
            else (found.matches, most)
            if row.get("match")
            else (found.others, most)
        )
        if len(group) < room:
            group.append(row)
    quarter = min(len(found.others), most // 4)
    del found.matches[most - quarter :]
    del found.others[most - len(found.matches) :]
    return found


@dataclass(frozen=True, slots=True)
class Mark:
    """A span's colour over one piece of text; ``ends`` on its last piece, where its step is named."""

    step: str
    colour: int
    title: str
    ends: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text under the same marks, outermost first; or, with ``left_out``, characters that are not shown."""

    text: str
    marks: tuple[Mark, ...] = ()
    left_out: int = 0


class Palette:
    """A colour (0 to 7) for each span step, the same all over a report."""

    def __init__(self, steps: Iterable[str] = ()) -> None:
        self._colours: dict[str, int] = {}
        for step in steps:
            self[step]

    def __getitem__(self, step: str) -> int:
        return self._colours.setdefault(step, len(self._colours) % 8)


@dataclass(frozen=True, slots=True)
class _Found:
    start: int
    end: int
    step: str
    title: str


def pieces(row: Mapping[str, Any], palette: Palette) -> list[Piece]:
    """A row's text, cut wherever a span begins or ends, however spans nest or overlap.

    Raises:
        RunError: if a span lies outside the text, so that the row is not one that a run wrote.
    """
    text = str(row.get("text") or "")
    spans = sorted(_all_spans(row.get("spans") or {}), key=lambda s: (s.start, -s.end))
    for s in spans:
        if not 0 <= s.start < s.end <= len(text):
            raise RunError(
                f"row '{row.get('id')}' has a span of '{s.step}' at [{s.start}, {s.end}], outside its text of "
                f"{len(text)} characters; run again to write the results anew"
            )
    cuts = sorted({0, len(text), *(s.start for s in spans), *(s.end for s in spans)})
    cut_up = (
        piece
        for start, end in pairwise(cuts)
        for piece in _shortened(text[start:end], _marks(spans, start, end, palette))
    )
    shown = list(islice(cut_up, _MOST_PIECES))
    rest = len(text) - sum(len(p.text) + p.left_out for p in shown)
    return [*shown, Piece("", left_out=rest)] if rest else shown


def _all_spans(spans: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[_Found]:
    for step, found in spans.items():
        for span in found:
            score = span.get("score")
            yield _Found(span["start"], span["end"], step, step if score is None else f"{step} {score:.2f}")
            yield from _all_spans(span.get("spans") or {})


def _marks(spans: Sequence[_Found], start: int, end: int, palette: Palette) -> tuple[Mark, ...]:
    return tuple(
        Mark(s.step, palette[s.step], s.title, s.end == end) for s in spans if s.start <= start and end <= s.end
    )


def _shortened(text: str, marks: tuple[Mark, ...]) -> list[Piece]:
    if marks or len(text) <= _LONGEST_PLAIN:
        return [Piece(text, marks)]
    return [Piece(text[:_KEPT_PLAIN]), Piece("", left_out=len(text) - 2 * _KEPT_PLAIN), Piece(text[-_KEPT_PLAIN:])]


@dataclass(frozen=True, slots=True)
class Chip:
    """One answer about a text in words: the step, its answer, the score if it has one, and who decided."""

    step: str
    said: str
    score: float | None
    decided_by: str
    colour: int | None = None


def chips(row: Mapping[str, Any], palette: Palette) -> list[Chip]:
    """The row's answers, one a step, and below them those about each span."""
    by = row.get("decided_by") or {}
    labels = (
        Chip(step, answer(label["value"]), label.get("score"), by.get(step, ""))
        for step, label in (row.get("labels") or {}).items()
    )
    spans = (
        Chip(step, f"{len(found)} span{'' if len(found) == 1 else 's'}", None, by.get(step, ""), palette[step])
        for step, found in (row.get("spans") or {}).items()
    )
    return [*labels, *spans]


def relations(spans: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> list[tuple[str, list[str]]]:
    """What ``of`` steps said about spans: each such span's text, and its answers in words."""
    return [
        (span["text"], said)
        for found in (spans or {}).values()
        for span in found
        if (said := list(chain(_said_labels(span), _said_spans(span))))
    ] + [inner for found in (spans or {}).values() for span in found for inner in relations(span.get("spans"))]


def _said_labels(span: Mapping[str, Any]) -> Iterator[str]:
    return (f"{step}: {answer(label['value'])}" for step, label in (span.get("labels") or {}).items())


def _said_spans(span: Mapping[str, Any]) -> Iterator[str]:
    inner = (span.get("spans") or {}).items()
    return (f"{step}: {', '.join(s['text'] for s in found) or 'none'}" for step, found in inner)
