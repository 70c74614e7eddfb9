"""Where the lines and boxes of the report's drawings go; the template draws them, and escapes what they say."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_falconer.plan import Plan, SpanStep, Step, atoms, condition_text

# --- the plan, in columns from left to right: each step right of all that it waits for

_WIDTH, _COLUMN_GAP, _ROW_GAP, _LINE, _PADDING, _LETTERS = 216, 64, 18, 16, 12, 34
_TEXT = ""  # the id of the node that stands for the text itself; no step can be called so


@dataclass(frozen=True)
class Node:
    """A box of the plan's drawing; its text lines are ``title``, ``asks`` and ``when``, one below the other."""

    title: str
    asks: tuple[str, ...]
    when: tuple[str, ...]
    kind: str
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Width in SVG units."""
        return _WIDTH if self.asks else 72

    @property
    def height(self) -> float:
        """Height in SVG units."""
        return _LINE * (1 + len(self.asks) + len(self.when)) + 2 * _PADDING

    @property
    def lines(self) -> list[tuple[str, float, str]]:
        """(class, baseline, text) of each line."""
        said = [("title", self.title), *(("asks", line) for line in self.asks), *(("when", line) for line in self.when)]
        return [(kind, self.y + _PADDING + _LINE * i + 12, line) for i, (kind, line) in enumerate(said)]


@dataclass(frozen=True)
class Edge:
    """An arrow from one box to another, as an SVG path; dotted if it asks about each span."""

    path: str
    dotted: bool


@dataclass(frozen=True)
class Drawing:
    """The plan, laid out."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def draw_plan(plan: Plan) -> Drawing:
    """Lay out a plan from left to right."""
    sources = {step.id: _sources(step) for step in plan.ordered}
    rank = {_TEXT: 0}
    for step_id, before in sources.items():
        rank[step_id] = 1 + max(rank[b] for b in before)
    nodes = {_TEXT: Node("text", (), (), "text"), **{step.id: _node(step) for step in plan.ordered}}
    columns = [[i for i in nodes if rank[i] == r] for r in range(max(rank.values()) + 1)]
    height = max(sum(nodes[i].height + _ROW_GAP for i in column) for column in columns)
    x, placed = 2.0, dict[str, Node]()
    for column in columns:
        order = sorted(column, key=lambda i: _mean(placed[b].y for b in sources.get(i, ())))
        y = (height - sum(nodes[i].height + _ROW_GAP for i in order) + _ROW_GAP) / 2
        for i in order:
            placed[i] = Node(**{**vars(nodes[i]), "x": x, "y": y})
            y += nodes[i].height + _ROW_GAP
        x += max(nodes[i].width for i in column) + _COLUMN_GAP
    edges = [Edge(_curve(placed[b], placed[i]), plan[i].of == b) for i, before in sources.items() for b in before]
    return Drawing(x - _COLUMN_GAP + 2, height, tuple(placed.values()), tuple(edges))


def _sources(step: Step) -> list[str]:
    named = [step.of] if step.of else []
    named += [atom.step for atom in atoms(step.where)] if step.where else []
    return list(dict.fromkeys(named)) or [_TEXT]


def _node(step: Step) -> Node:
    when = [f"for each {step.of}"] if step.of else []
    when += [f"if {condition_text(step.where)}"] if step.where else []
    asks = tuple(_wrapped(step.instruction, 3))
    return Node(step.id, asks, tuple(_wrapped(", ".join(when), 2)), "span" if isinstance(step, SpanStep) else "label")


def _wrapped(text: str, lines: int) -> list[str]:
    return textwrap.wrap(text, _LETTERS, max_lines=lines, placeholder=" …")


def _curve(a: Node, b: Node) -> str:
    x1, y1, x2, y2 = a.x + a.width, a.y + a.height / 2, b.x - 6, b.y + b.height / 2
    bend = _COLUMN_GAP * 0.6
    return f"M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


# --- figures

_MOST_POINTS = 300


@dataclass(frozen=True)
class Curve:
    """A loss curve in a box of 100 by 100: the points of a polyline, and the figures at its ends."""

    points: str
    first: float
    last: float


def loss_curve(losses: Sequence[Any] | None) -> Curve | None:
    """The curve through the losses (means of neighbours if there are many); None for fewer than two."""
    finite = [float(v) for v in losses or () if isinstance(v, int | float) and math.isfinite(v)]
    if len(finite) < 2:
        return None
    size = math.ceil(len(finite) / _MOST_POINTS)
    means = [_mean(finite[i : i + size]) for i in range(0, len(finite), size)]
    top = max(means) or 1.0
    step = 100 / max(len(means) - 1, 1)
    points = " ".join(f"{i * step:.2f},{100 - 100 * max(v, 0.0) / abs(top):.2f}" for i, v in enumerate(means))
    return Curve(points, finite[0], finite[-1])
