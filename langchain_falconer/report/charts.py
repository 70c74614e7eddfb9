"""Geometry of the report's charts; the template draws them and escapes their text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_falconer.plan import Plan, SpanStep, Step, atoms, condition_text

# --- the plan, in columns from left to right: each step to the right of the steps that it depends on

_WIDTH, _COLUMN_GAP, _ROW_GAP, _LINE, _PADDING, _LETTERS = 216, 64, 18, 16, 12, 34
_TEXT = ""  # id of the node that stands for the text itself; no step can have it


@dataclass(frozen=True)
class Node:
    """A box of the plan's drawing.

    Attributes:
        title: First line: the id of the step.
        question: Lines of the instruction.
        condition: Lines of the condition.
        kind: ``text``, ``label`` or ``span``.
        x: Left edge, in SVG units.
        y: Top edge, in SVG units.
    """

    title: str
    question: tuple[str, ...]
    condition: tuple[str, ...]
    kind: str
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Width in SVG units."""
        return _WIDTH if self.question else 72

    @property
    def height(self) -> float:
        """Height in SVG units."""
        return _LINE * (1 + len(self.question) + len(self.condition)) + 2 * _PADDING

    @property
    def lines(self) -> list[tuple[str, float, str]]:
        """(class, baseline, text) of each line."""
        question = [("question", line) for line in self.question]
        condition = [("condition", line) for line in self.condition]
        lines = [("title", self.title), *question, *condition]
        return [(kind, self.y + _PADDING + _LINE * i + 12, line) for i, (kind, line) in enumerate(lines)]


@dataclass(frozen=True)
class Edge:
    """An arrow from one box to another.

    Attributes:
        path: SVG path.
        dotted: Whether the target is a step about each span of the source.
    """

    path: str
    dotted: bool


@dataclass(frozen=True)
class Drawing:
    """The layout of a plan.

    Attributes:
        width: Width in SVG units.
        height: Height in SVG units.
        nodes: The boxes.
        edges: The arrows.
    """

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
    ids = [step.of] if step.of else []
    ids += [atom.step for atom in atoms(step.where)] if step.where else []
    return list(dict.fromkeys(ids)) or [_TEXT]


def _node(step: Step) -> Node:
    conditions = [f"for each {step.of}"] if step.of else []
    conditions += [f"if {condition_text(step.where)}"] if step.where else []
    return Node(
        step.id,
        tuple(_wrap(step.instruction, 3)),
        tuple(_wrap(", ".join(conditions), 2)),
        "span" if isinstance(step, SpanStep) else "label",
    )


def _wrap(text: str, lines: int) -> list[str]:
    return textwrap.wrap(text, _LETTERS, max_lines=lines, placeholder=" …")


def _curve(a: Node, b: Node) -> str:
    x1, y1, x2, y2 = a.x + a.width, a.y + a.height / 2, b.x - 6, b.y + b.height / 2
    bend = _COLUMN_GAP * 0.6
    return f"M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


# --- figures

_MAX_POINTS = 300


@dataclass(frozen=True)
class Curve:
    """A loss curve in a box of 100 by 100 SVG units.

    Attributes:
        points: Points of the polyline.
        first: First loss.
        last: Last loss.
    """

    points: str
    first: float
    last: float


def loss_curve(losses: Sequence[Any] | None) -> Curve | None:
    """Return the curve of the losses, averaged over neighbours if there are many; None for fewer than two."""
    finite = [float(v) for v in losses or () if isinstance(v, int | float) and math.isfinite(v)]
    if len(finite) < 2:
        return None
    size = math.ceil(len(finite) / _MAX_POINTS)
    means = [_mean(finite[i : i + size]) for i in range(0, len(finite), size)]
    top = max(means) or 1.0
    step = 100 / max(len(means) - 1, 1)
    points = " ".join(f"{i * step:.2f},{100 - 100 * max(v, 0.0) / abs(top):.2f}" for i, v in enumerate(means))
    return Curve(points, finite[0], finite[-1])
