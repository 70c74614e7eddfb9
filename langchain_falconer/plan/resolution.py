"""Evaluation of a plan's conditions on answers: the steps that apply (``where``), and whether a text matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from langchain_falconer.plan.conditions import All, Any_, Atom, Condition, Equals, Exists, Not
from langchain_falconer.plan.schema import Plan
from langchain_falconer.records import Answers, Label, Span


class Holder(Protocol):
    """An object that holds answers about a text or a span, by step id."""

    @property
    def labels(self) -> Mapping[str, Label]:
        """Labels by step id."""
        ...

    @property
    def spans(self) -> Mapping[str, Sequence[Any]]:
        """Spans by step id, each a holder itself."""
        ...


def holds(plan: Plan, condition: Condition | None, answers: Holder, span: Holder | None = None) -> bool:
    """Return whether a condition holds for the answers so far.

    A comparison with a step that did not run is false. Inside an ``of`` step, comparisons with steps about the same
    span use that span's answers; elsewhere a comparison with an ``of`` step holds if it holds for any span.

    Args:
        plan: The plan.
        condition: The condition; ``None`` always holds.
        answers: Answers about the text.
        span: The span, with its answers, that the step of the condition is about.
    """
    match condition:
        case None:
            return True
        case All(all=parts):
            return all(holds(plan, part, answers, span) for part in parts)
        case Any_(any=parts):
            return any(holds(plan, part, answers, span) for part in parts)
        case Not(not_=part):
            return not holds(plan, part, answers, span)
        case atom:
            return any(_atom_holds(atom, scope) for scope in _scopes(plan, atom.step, answers, span))


def _scopes(plan: Plan, step_id: str, answers: Holder, span: Holder | None) -> Sequence[Holder]:
    """Return the holders of a step's answers: the text, this span, or every span of its parent."""
    parent = plan[step_id].of
    if parent is None:
        return [answers]
    if span is not None:
        return [span] if step_id in span.labels or step_id in span.spans else []
    return [child for scope in _scopes(plan, parent, answers, None) for child in scope.spans.get(parent, ())]


def _atom_holds(atom: Atom, answers: Holder) -> bool:
    if isinstance(atom, Exists):
        return bool(answers.spans.get(atom.step))
    if atom.step not in answers.labels:
        return False
    value = answers.labels[atom.step].value
    accepted = (atom.equals,) if isinstance(atom, Equals) else atom.in_
    return any(w in value if isinstance(value, list | tuple) else w == value for w in accepted)


@dataclass(slots=True)
class _Scope:
    """The answers about a text or a span, and those of them that apply so far."""

    source: Answers | Span
    labels: dict[str, Label] = field(default_factory=dict)
    spans: dict[str, tuple[_Scope, ...]] = field(default_factory=dict)


def resolve(plan: Plan, answers: Answers) -> Answers:
    """Return the answers whose step's ``where`` holds, in the order of the plan; other steps do not apply."""
    top = _Scope(answers)
    scopes: dict[str | None, list[_Scope]] = {None: [top]}
    for step in plan.ordered:
        for scope in scopes.get(step.of, ()):
            if not holds(plan, step.where, top, scope if scope is not top else None):
                continue
            if step.id in scope.source.labels:
                scope.labels[step.id] = scope.source.labels[step.id]
            elif step.id in scope.source.spans:
                inner = tuple(map(_Scope, scope.source.spans[step.id]))
                scope.spans[step.id] = inner
                scopes.setdefault(step.id, []).extend(inner)
    none_prob = {step: p for step, p in answers.none_prob.items() if step in top.spans}
    return Answers(top.labels, {step: tuple(map(_span, inner)) for step, inner in top.spans.items()}, none_prob)


def _span(scope: _Scope) -> Span:
    """Return the span of a scope, with the answers about it that apply."""
    span = scope.source
    assert isinstance(span, Span)
    if not (span.labels or span.spans):
        return span
    return replace(span, labels=scope.labels, spans={s: tuple(map(_span, inner)) for s, inner in scope.spans.items()})


def matches(plan: Plan, answers: Answers) -> bool:
    """Return whether a text with these (resolved) answers matches the plan.

    It does if at least one output step (a step that no other refers to) ran and answered yes, a label or a span.
    """
    return any(
        bool(scope.labels[step.id].value) if step.id in scope.labels else bool(scope.spans.get(step.id))
        for step in plan.outputs
        for scope in _scopes(plan, step.id, answers, None)
    )
