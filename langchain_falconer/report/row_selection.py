"""Selection of the rows that a report shows, and their texts cut at the edges of spans for colouring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any

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
    """The rows to show.

    Attributes:
        matches: Rows that match.
        others: Rows that do not match.
        failed: Rows with an error.
        read: Number of rows that were considered.
    """

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


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of a span over one piece of text.

    Attributes:
        step: Id of the step.
        colour: Colour of the step, 0 to 7.
        title: Tooltip: the step and its score.
        ends: Whether this is the last piece of the span, where the step is named.
    """

    step: str
    colour: int
    title: str
    ends: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text under the same marks.

    Attributes:
        text: The text; empty if it is left out.
        marks: The marks, outermost first.
        left_out: Number of characters that are not shown in its place.
    """

    text: str
    marks: tuple[Mark, ...] = ()
    left_out: int = 0


class Palette:
    """Colours (0 to 7) of span steps, the same in all of a report."""

    def __init__(self, steps: Iterable[str] = ()) -> None:
        self._colours: dict[str, int] = {}
        for step in steps:
            self[step]

    def __getitem__(self, step: str) -> int:
        return self._colours.setdefault(step, len(self._colours) % _N_COLOURS)


@dataclass(frozen=True, slots=True)
class _MarkedSpan:
    start: int
    end: int
    step: str
    title: str


def pieces(row: Mapping[str, Any], palette: Palette) -> list[Piece]:
    """Return a row's text, cut wherever a span begins or ends, however spans nest or overlap.

    Raises:
        RunError: A span lies outside the text, so the row was not written by a run.
    """
    text = str(row.get("text") or "")
    spans = sorted(_all_spans(row.get("spans") or {}), key=lambda s: (s.start, -s.end))
    for s in spans:
        if not 0 <= s.start < s.end <= len(text):
            raise RunError(
                f"row '{row.get('id')}' has a span of '{s.step}' at [{s.start}, {s.end}], outside its text of "
                f"{len(text)} characters; repeat the run to write its rows again"
            )
    cuts = sorted({0, len(text), *(s.start for s in spans), *(s.end for s in spans)})
    all_pieces = (
        piece
        for start, end in pairwise(cuts)
        for piece in _shortened(text[start:end], _marks(spans, start, end, palette))
    )
    shown = list(islice(all_pieces, _MAX_PIECES))
    rest = len(text) - sum(len(p.text) + p.left_out for p in shown)
    return [*shown, Piece("", left_out=rest)] if rest else shown


def _all_spans(spans: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[_MarkedSpan]:
    for step, step_spans in spans.items():
        for span in step_spans:
            score = span.get("score")
            yield _MarkedSpan(span["start"], span["end"], step, step if score is None else f"{step} {score:.2f}")
            yield from _all_spans(span.get("spans") or {})


def _marks(spans: Sequence[_MarkedSpan], start: int, end: int, palette: Palette) -> tuple[Mark, ...]:
    return tuple(
        Mark(s.step, palette[s.step], s.title, s.end == end) for s in spans if s.start <= start and end <= s.end
    )


def _shortened(text: str, marks: tuple[Mark, ...]) -> list[Piece]:
    if marks or len(text) <= _MAX_PLAIN_CHARS:
        return [Piece(text, marks)]
    return [
        Piece(text[:_PLAIN_EDGE_CHARS]),
        Piece("", left_out=len(text) - 2 * _PLAIN_EDGE_CHARS),
        Piece(text[-_PLAIN_EDGE_CHARS:]),
    ]


@dataclass(frozen=True, slots=True)
class Chip:
    """An answer about a text.

    Attributes:
        step: Id of the step.
        answer: The answer in words.
        score: Its score; None for spans, which have one each.
        decided_by: ``proxy``, ``llm`` or ``human``.
        colour: Colour of a span step.
    """

    step: str
    answer: str
    score: float | None
    decided_by: str
    colour: int | None = None


def chips(row: Mapping[str, Any], palette: Palette) -> list[Chip]:
    """Return the row's answers, one per top-level step."""
    by = row.get("decided_by") or {}
    labels = (
        Chip(step, answer(label["value"]), label.get("score"), by.get(step, ""))
        for step, label in (row.get("labels") or {}).items()
    )
    spans = (
        Chip(step, _n_spans(len(step_spans)), None, by.get(step, ""), palette[step])
        for step, step_spans in (row.get("spans") or {}).items()
    )
    return [*labels, *spans]


def _n_spans(n: int) -> str:
    return f"{n} span{'' if n == 1 else 's'}"


def relations(spans: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> list[tuple[str, list[str]]]:
    """Return the answers of ``of`` steps: the text of each span that has some, and the answers in words."""
    flat = [span for step_spans in (spans or {}).values() for span in step_spans]
    answered = [(span["text"], list(chain(_label_answers(span), _span_answers(span)))) for span in flat]
    inner = [pair for span in flat for pair in relations(span.get("spans"))]
    return [pair for pair in answered if pair[1]] + inner


def _label_answers(span: Mapping[str, Any]) -> Iterator[str]:
    return (f"{step}: {answer(label['value'])}" for step, label in (span.get("labels") or {}).items())


def _span_answers(span: Mapping[str, Any]) -> Iterator[str]:
    inner = (span.get("spans") or {}).items()
    return (f"{step}: {', '.join(s['text'] for s in step_spans) or 'none'}" for step, step_spans in inner)
