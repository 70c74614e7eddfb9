"""The plan as a tree to draw: each step below the step that decides whether it is asked, with counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_falconer.execute import RowCounts
from langchain_falconer.plan import LabelStep, Plan, SpanStep, atoms, condition_text

_MAX_ANSWERS = 6


@dataclass
class PlanBranch:
    """A step in the drawing of a plan.

    Attributes:
        step: The step.
        condition: When it is asked, in words; empty for always.
        asked: Rows that it was asked about, projected from those that were read; of a step about spans, answers.
        share: The same as a share of the rows, in [0, 1].
        answers: The most frequent answers with their counts and shares of all answers.
        rest: Number of further answers.
        children: The steps below it.
    """

    step: LabelStep | SpanStep
    condition: str
    asked: int
    share: float
    answers: list[tuple[str, int, float]]
    rest: int = 0
    children: list[PlanBranch] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """What the step is asked about."""
        return "spans" if self.step.of else "texts"


def plan_tree(plan: Plan, counts: RowCounts, answered: Mapping[str, int], read: int) -> list[PlanBranch]:
    """Return the steps that are asked about every text, with those that depend on them below.

    Args:
        plan: The plan.
        counts: Answers by step.
        answered: Rows in which a step was answered, among those that were read.
        read: Rows that were read.
    """
    branches: dict[str, PlanBranch] = {}
    roots: list[PlanBranch] = []
    for step in plan.ordered:
        asked = round(answered.get(step.id, 0) * max(1.0, counts.total / max(read, 1)))
        parts = _answers(step, counts, asked)
        if step.of:
            asked = sum(n for _, n in parts)
        branch = PlanBranch(
            step, _condition(step), asked, asked / counts.total if counts.total and not step.of else 0.0, []
        )
        total = sum(n for _, n in parts) or 1
        branch.answers = [(name, n, n / total) for name, n in parts[:_MAX_ANSWERS]]
        branch.rest = max(0, len(parts) - _MAX_ANSWERS)
        branches[step.id] = branch
        parent = step.of or (list(atoms(step.where))[-1].step if step.where else None)
        (branches[parent].children if parent else roots).append(branch)
    return roots


def _condition(step: LabelStep | SpanStep) -> str:
    parts = [f"each {step.of}"] if step.of else []
    parts += [f"if {condition_text(step.where)}"] if step.where else []
    return " ".join(parts)


def _answers(step: LabelStep | SpanStep, counts: RowCounts, asked: int) -> list[tuple[str, int]]:
    """Return the answers of a step with their counts, the most frequent first; of spans, texts with and without."""
    if isinstance(step, LabelStep):
        return sorted(counts.labels.get(step.id, {}).items(), key=lambda pair: (-pair[1], pair[0]))
    found = counts.spans[step.id].texts if step.id in counts.spans else 0
    return [("found", found), ("none", max(0, asked - found))] if found or asked else []
