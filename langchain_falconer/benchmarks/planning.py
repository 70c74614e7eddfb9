"""Planning: twenty varied instructions, each with the plans that would be right.

A plan is right if its steps can be paired off with those of an accepted plan so that each pair asks the same question
(same operation, same label names, the key words present, asked ``of`` the same step) and, whatever the answers are, the
same steps are run. Conditions may so be written in any equivalent way, and in no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.errors import PlanError
from langchain_falconer.plan import LabelStep, Plan, PlanData, Planner, SpanStep, resolve
from langchain_falconer.records import Answers, Label, Span

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM


class RecordedCase(TypedDict):
    """An instruction, the steps of each accepted plan, and the recorded plan (``None`` if the planner gave up)."""

    instruction: str
    expect: list[list[dict[str, object]]]
    plan: PlanData | None


class Recording(TypedDict):
    """The recorded plans of a model."""

    model: str
    date: str
    cases: list[RecordedCase]


@dataclass(frozen=True)
class Accepted:
    """One right plan. Each step of it is a question that must hold some ``words`` and lack others."""

    plan: Plan
    words: Mapping[str, tuple[str, ...]]
    not_words: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, instruction: str, steps: Sequence[Mapping[str, Any]]) -> Accepted:
        """Read from the benchmark's file a plan's steps with ``words`` (and ``not_words``) for instructions."""
        bare = [{k: v for k, v in s.items() if k not in ("words", "not_words")} for s in steps]
        plan = Plan.parse({"instruction": instruction, "steps": [{**s, "instruction": s["id"]} for s in bare]})
        words, without = ({s["id"]: tuple(s.get(key, ())) for s in steps} for key in ("words", "not_words"))
        return cls(plan, words, without)


@dataclass(frozen=True)
class Case:
    """An instruction, the plans that would be right, and the plan that the recorded model gave."""

    instruction: str
    accepted: tuple[Accepted, ...]
    recorded: Mapping[str, Any] | None

    def why_not(self, plan: Plan) -> str | None:
        """``None`` where the plan asks the right questions, else how it differs from the first accepted plan."""
        reasons = [_difference(plan, accepted) for accepted in self.accepted]
        return None if None in reasons else reasons[0]


def run(llm: LLM) -> BenchmarkTable:
    """Plan all instructions with an LLM and check what comes.

    Returns:
        The table, and ``cases``: instruction, ``ok``, ``why_not``, and the plan as JSON data (``None`` if the planner
        gave up). An LLM that cannot be reached raises :class:`LLMError`.
    """
    planner = Planner(llm)
    rows = [_planned(planner, case) for case in cases()]
    return {
        "title": f"plans by {llm.name}",
        "columns": ["instruction", "right", "why not"],
        "rows": [[row["instruction"], "yes" if row["ok"] else "no", row["why_not"] or ""] for row in rows],
        "verdict": f"{sum(row['ok'] for row in rows)} of {len(rows)} plans ask the right questions",
        "cases": rows,
    }


def _planned(planner: Planner, case: Case) -> dict[str, Any]:
    try:
        plan = planner.plan(case.instruction)
    except PlanError as error:
        return {"instruction": case.instruction, "ok": False, "why_not": str(error), "plan": None}
    reason = case.why_not(plan)
    return {"instruction": case.instruction, "ok": reason is None, "why_not": reason, "plan": plan.to_dict()}


@lru_cache
def recording() -> Recording:
    """The benchmark's file: ``model`` and ``date`` of the recorded plans, and the ``cases``."""
    text = files("langchain_falconer.benchmarks").joinpath("planning.json").read_text(encoding="utf-8")
    data: Recording = json.loads(text)
    return data


def cases() -> tuple[Case, ...]:
    """The benchmark's instructions, in order."""
    return tuple(
        Case(c["instruction"], tuple(Accepted.parse(c["instruction"], e) for e in c["expect"]), c["plan"])
        for c in recording()["cases"]
    )


def _difference(plan: Plan, accepted: Accepted) -> str | None:
    expected = accepted.plan
    if (count := _ops(plan)) != (right := _ops(expected)):
        return f"it has {count}, not {right}"
    pairings = [
        names
        for steps in permutations(plan.steps)
        if _same_questions(
            names := dict(zip([s.id for s in expected.steps], [s.id for s in steps], strict=True)), plan, accepted
        )
    ]
    if not pairings:
        return "its steps do not ask the same questions"
    if not any(_same_runs(names, plan, expected) for names in pairings):
        return "its steps are not run under the same conditions"
    return None


def _ops(plan: Plan) -> str:
    kinds = [step.kind if isinstance(step, LabelStep) else "span" for step in plan.steps]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


def _same_questions(names: Mapping[str, str], plan: Plan, accepted: Accepted) -> bool:
    """``names`` pairs ids of the accepted plan with ids of the plan."""
    return all(
        _same_question(plan[theirs], accepted.plan[ours])
        and plan[theirs].of == names.get(accepted.plan[ours].of or "")
        and all(_holds_word(plan[theirs].instruction, word) for word in accepted.words[ours])
        and not any(_holds_word(plan[theirs].instruction, word) for word in accepted.not_words[ours])
        for ours, theirs in names.items()
    )


def _same_question(step: LabelStep | SpanStep, expected: LabelStep | SpanStep) -> bool:
    if isinstance(step, LabelStep) and isinstance(expected, LabelStep):
        return step.kind == expected.kind and set(map(_plain, step.names)) == set(map(_plain, expected.names))
    return step.op == expected.op


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


def _holds_word(text: str, alternatives: str) -> bool:
    """Return whether a word of the text starts with one of ``"a|b"``; up to three letters must match in full."""
    ends = {word: r"\b" if len(word) <= 3 else "" for word in alternatives.split("|")}
    return any(re.search(rf"\b{re.escape(word)}{end}", text, re.IGNORECASE) for word, end in ends.items())


def _same_runs(names: Mapping[str, str], plan: Plan, expected: Plan) -> bool:
    """Return whether, for all answers that steps can give, the same steps are run in both plans."""
    steps = expected.steps
    for values in product(*(_possible(step) for step in steps)):
        values_of = dict(zip([step.id for step in steps], values, strict=True))
        theirs = {names[ours]: _spelled(value, plan[names[ours]]) for ours, value in values_of.items()}
        ran = {names[step] for step in _ran(expected, values_of)}
        if ran != set(_ran(plan, theirs)):
            return False
    return True


def _possible(step: LabelStep | SpanStep) -> Sequence[Any]:
    if isinstance(step, SpanStep) or not step.names:
        return (True, False)
    if not step.multi_label:
        return step.names
    return [
        [n for n, is_in in zip(step.names, mask, strict=True) if is_in]
        for mask in product((0, 1), repeat=len(step.names))
    ]


def _spelled(value: Any, step: LabelStep | SpanStep) -> Any:
    """A label of the accepted plan as this step spells it."""
    if isinstance(value, bool) or isinstance(step, SpanStep):
        return value
    spelling = {_plain(name): name for name in step.names}
    return [spelling[_plain(v)] for v in value] if isinstance(value, list) else spelling[_plain(value)]


def _ran(plan: Plan, values_of: Mapping[str, Any]) -> Iterator[str]:
    """The steps that run when the steps would answer so; a span step answers with one span or none."""
    answers = Answers(*_answers(plan, plan.top_level, values_of))
    resolved = resolve(plan, answers)
    yield from _ids(resolved.labels, resolved.spans)


def _answers(
    plan: Plan, steps: Sequence[LabelStep | SpanStep], values_of: Mapping[str, Any]
) -> tuple[dict[str, Label], dict[str, tuple[Span, ...]]]:
    labels = {step.id: Label(values_of[step.id]) for step in steps if isinstance(step, LabelStep)}
    spans: dict[str, tuple[Span, ...]] = {
        step.id: (Span(0, 1, "x", 1.0, *_answers(plan, plan.children(step.id), values_of)),)
        if values_of[step.id]
        else ()
        for step in steps
        if isinstance(step, SpanStep)
    }
    return labels, spans


def _ids(labels: Mapping[str, Label], spans: Mapping[str, tuple[Span, ...]]) -> Iterator[str]:
    yield from labels
    for step, own in spans.items():
        yield step
        for span in own:
            yield from _ids(span.labels, span.spans)
