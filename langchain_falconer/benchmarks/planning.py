"""Planning: 120 instructions over twelve kinds of texts, each with a gold plan whose rows a plan must give.

A plan is run over twenty small texts with gold answers to its questions; it is right where its rows say what the gold
plan's say, in whatever way it asks. What it asks is read by :mod:`question_reading`. Eighteen instructions cannot be
done: there it is right to refuse. A third of the instructions (``development``) is for tuning, the rest is not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import TypeAdapter

from langchain_falconer.benchmarks.gold_answers import (
    Domain,
    Fact,
    Finding,
    Findings,
    Reading,
    Test,
    always,
    domain,
    findings,
)
from langchain_falconer.benchmarks.question_reading import UnreadableError, readings_findings, why_not
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.errors import PlanError, RefusedError
from langchain_falconer.evaluate import Proportion, proportion
from langchain_falconer.plan import Plan, PlanData, Planner

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM

Part = Literal["development", "test"]
Grade = Literal[0, 1, 2, 3, 4]
GRADES: Mapping[Grade, str] = {
    1: "one step",
    2: "label, then span",
    3: "several, and/or/not",
    4: "of each span",
    0: "cannot be done",
}
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Case:
    """An instruction about the texts of a domain.

    Attributes:
        id: Its name.
        domain: Name of the domain.
        grade: Key of :data:`GRADES`.
        style: ``plain``, or ``people`` for words as people write.
        traits: What is difficult about it: ``misspelt``, ``vague``, ``two requests``, ...; why it cannot be done.
        instruction: The instruction.
        wordings: The same instruction in other words.
        gold: The steps of a right plan, as ``FACT [of FACT] [if CONDITION]``; none where it cannot be done.
    """

    id: str
    domain: str
    grade: Grade
    style: Literal["plain", "people"]
    traits: tuple[str, ...]
    instruction: str
    wordings: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()

    def findings(self) -> Findings:
        """Return what the gold plan finds."""
        plan, readings = gold_plan(self.gold, domain(self.domain), self.instruction)
        return findings(plan, readings, domain(self.domain).texts)

    def why_not(self, plan: Plan) -> str | None:
        """Return how a plan's rows differ from those of the gold plan; None where they are the same."""
        return why_not(plan, self.findings(), domain(self.domain))


@lru_cache
def cases(part: Part) -> tuple[Case, ...]:
    """Read the instructions of a part, in order."""
    file = files("langchain_falconer.benchmarks").joinpath("planning_cases", f"{part}.jsonl")
    read = TypeAdapter(Case).validate_json
    return tuple(map(read, file.read_text(encoding="utf-8").splitlines()))


def gold_plan(steps: Sequence[str], of: Domain, instruction: str) -> tuple[Plan, dict[str, Reading]]:
    """Return the plan that the notation of a gold plan means, and what its steps ask."""
    data: dict[str, dict[str, object]] = {}
    readings = {}
    for step in steps:
        match = re.fullmatch(r"(\w+)(?: of (\w+))?(?: if (.+))?", step)
        if match is None:
            raise ValueError(f"'{step}' is no step of a gold plan; write FACT [of FACT] [if CONDITION]")
        limit = _test(ast.parse(re.sub(r"(?<!=)=(?!=)", "==", match[3]), mode="eval").body, of) if match[3] else always
        for name, parent in ((match[2], None), (match[1], match[2])):
            if name is not None and name not in data:
                data[name] = _step(of.facts[name], parent)
                readings[name] = _reading(of.facts[name], limit)
    return Plan.parse({"instruction": instruction, "steps": list(data.values())}), readings


def _step(fact: Fact, parent: str | None) -> dict[str, object]:
    step: dict[str, object] = {"id": fact.name, "op": "get_span" if fact.is_span else "get_label"}
    labels = {"labels": list(fact.values), "multi_label": fact.multi} if fact.values else {}
    return {**step, "instruction": fact.name, "of": parent, **labels}


def _reading(fact: Fact, limit: Test) -> Reading:
    if fact.is_span:
        return Reading(limit, fact=fact)
    if fact.values:
        return Reading(limit, {value: fact.test(value) for value in fact.values})
    return Reading(lambda scope: limit(scope) and fact.test()(scope))


def _test(node: ast.expr, of: Domain) -> Test:
    """Compile the condition of a gold plan: names of facts, ``fact=value``, ``and``, ``or``, ``not``."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            tests = [_test(part, of) for part in parts]
            join: Callable[[list[bool]], bool] = all if isinstance(op, ast.And) else any
            return lambda scope: join([test(scope) for test in tests])
        case ast.UnaryOp(op=ast.Not(), operand=part):
            test = _test(part, of)
            return lambda scope: not test(scope)
        case ast.Compare(left=ast.Name(id=name), comparators=[ast.Name(id=value) | ast.Constant(value=value)]):
            return _known(of.facts[name], str(value))
        case ast.Name(id=name):
            return of.facts[name].test()
        case _:
            raise ValueError(f"{ast.unparse(node)} is no condition of a gold plan")


def _known(fact: Fact, value: str) -> Test:
    if value not in fact.values:
        raise ValueError(f"{fact.name} is never {value}")
    return fact.test(value)


@dataclass(frozen=True)
class Outcome:
    """What the planner made of a wording of an instruction.

    Attributes:
        case: The instruction.
        wording: The words that the planner received.
        result: ``plan``, ``refused``, or ``invalid`` where it gave no plan that can be used.
        plan: The plan.
        reason: Why the plan's rows are not the gold plan's, or why there is no plan; None where all is right.
    """

    case: Case
    wording: str
    result: Literal["plan", "refused", "invalid"]
    plan: PlanData | None
    reason: str | None

    @property
    def is_right(self) -> bool:
        """Whether the rows are right, or it was right to refuse."""
        return self.reason is None


def run(llm: LLM, part: Part = "development", on_outcome: Callable[[Outcome], None] | None = None) -> BenchmarkTable:
    """Have an LLM plan the instructions of a part, and compare the rows of its plans with the gold plans'.

    Args:
        llm: The LLM.
        part: ``development``, or ``test``, on which nothing may be tuned.
        on_outcome: Receives each outcome as it comes.

    Returns:
        The table; ``scores`` with the same figures; ``cases`` with each wording, its plan and why it is not right.

    Raises:
        LLMError: The LLM cannot be reached.
    """
    planner = Planner(llm)
    outcomes = []
    for case in cases(part):
        for wording in (case.instruction, *case.wordings):
            outcomes.append(_outcome(planner, case, wording))
            if on_outcome:
                on_outcome(outcomes[-1])
    return _table(llm.name, part, outcomes)


def _outcome(planner: Planner, case: Case, wording: str) -> Outcome:
    try:
        plan = planner.plan(wording)
    except RefusedError as error:
        return Outcome(case, wording, "refused", None, f"refused: {error}" if case.gold else None)
    except PlanError as error:
        return Outcome(case, wording, "invalid", None, str(error))
    reason = case.why_not(plan) if case.gold else "it cannot be done"
    return Outcome(case, wording, "plan", plan.to_dict(), reason)


def _table(llm: str, part: Part, outcomes: Sequence[Outcome]) -> BenchmarkTable:
    first = [o for o in outcomes if o.wording == o.case.instruction]
    doable = [o for o in first if o.case.gold]
    groups = {GRADES[grade]: [o for o in doable if o.case.grade == grade] for grade in GRADES if grade}
    groups |= {"as people write": [o for o in doable if o.case.style == "people"], "all that can be done": doable}
    scores = {name: _shares(group) for name, group in groups.items() if group}
    refusals, stable = _refusals(first), _stability(outcomes)
    rows = [
        [name, str(share["same rows"].n), _percent(share["valid"]), _percent(share["same rows"])]
        for name, share in scores.items()
    ]
    same = scores["all that can be done"]["same rows"]
    return {
        "title": f"plans by {llm}, {part} part",
        "columns": ["instructions", "n", "valid (95% interval)", "same rows as the gold plan (95% interval)"],
        "rows": rows,
        "verdict": f"The rows of {_percent(same)} of the plans are right. Refusals: F1 {refusals['f1']:.2f} "
        f"({refusals['low']:.2f} to {refusals['high']:.2f}; precision {refusals['precision']:.2f}, recall "
        f"{refusals['recall']:.2f}). Three wordings give the same rows: {_percent(stable)} of {stable.n}.",
        "scores": {
            **{name: {k: v.model_dump() for k, v in share.items()} for name, share in scores.items()},
            "refusals": refusals,
            "stability": stable.model_dump(),
        },
        "cases": [
            {
                "id": o.case.id,
                "grade": o.case.grade,
                "wording": o.wording,
                "result": o.result,
                "right": o.is_right,
                "why_not": o.reason,
                "plan": o.plan,
            }
            for o in outcomes
        ],
    }


def _shares(outcomes: Sequence[Outcome]) -> dict[str, Proportion]:
    return {
        "valid": proportion(sum(o.result == "plan" for o in outcomes), len(outcomes)),
        "same rows": proportion(sum(o.is_right for o in outcomes), len(outcomes)),
    }


def _percent(share: Proportion) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _refusals(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return precision, recall and F1 of refusals, with a bootstrap interval over instructions."""
    refused = np.array([o.result == "refused" for o in outcomes])
    due = np.array([not o.case.gold for o in outcomes])
    drawn = np.random.default_rng(0).integers(len(outcomes), size=(_RESAMPLES, len(outcomes)))
    resampled = [_f1(refused[i], due[i]) for i in drawn]
    low, high = np.quantile(resampled, [0.025, 0.975])
    both = int((refused & due).sum())
    return {
        "f1": _f1(refused, due),
        "low": float(low),
        "high": float(high),
        "precision": both / max(1, int(refused.sum())),
        "recall": both / max(1, int(due.sum())),
        "n": float(due.sum()),
    }


def _f1(
    predicted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], true: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> float:
    both = int((predicted & true).sum())
    return 2 * both / max(1, int(predicted.sum()) + int(true.sum()))


def _stability(outcomes: Sequence[Outcome]) -> Proportion:
    """Return the share of the instructions with several wordings whose plans all give the same rows, right or wrong."""
    groups: dict[str, list[Outcome]] = {}
    for o in outcomes:
        if o.case.wordings:
            groups.setdefault(o.case.id, []).append(o)
    return proportion(sum(_agree(group) for group in groups.values()), len(groups))


def _agree(outcomes: Sequence[Outcome]) -> bool:
    if all(o.is_right for o in outcomes):
        return True
    common: set[frozenset[Finding]] | None = None
    for o in outcomes:
        try:
            plan = Plan.parse(o.plan or {})
            rows = {found.outputs for found in readings_findings(plan, domain(o.case.domain))}
        except (PlanError, UnreadableError):
            return False
        common = rows if common is None else common & rows
    return bool(common)
