"""What a plan makes of answers: which steps count (``where``), and whether the text matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from langchain_falconer.plan.conditions import All, Any_, Atom, Condition, Equals, Exists, In, Not
from langchain_falconer.plan.schema import Plan
from langchain_falconer.records import Answers, Label, Span


def holds(plan: Plan, condition: Condition | None, answers: Answers, span: Span | None = None) -> bool:
    """Whether a condition holds given what is answered so far.

    A comparison with a step that was not run is false. Inside an ``of`` step, comparisons with steps of the same
    span see that span's answers (``span``); elsewhere a comparison with an ``of`` step holds if it does for any span.
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
            return any(_true_of(atom, labels, spans) for labels, spans in _scopes(plan, atom.step, answers, span))


_Found = tuple[Mapping[str, Label], Mapping[str, tuple[Span, ...]]]


def _scopes(plan: Plan, step_id: str, answers: Answers, span: Span | None) -> list[_Found]:
    """Where the answers of a step lie: on the text, on this span, or on every span of its parent."""
    parent = plan[step_id].of
    if parent is None:
        return [(answers.labels, answers.spans)]
    if span is not None and (step_id in span.labels or step_id in span.spans):
        return [(span.labels, span.spans)]
    if span is not None:
        return []
    holders = [s for labels, spans in _scopes(plan, parent, answers, None) for s in spans.get(parent, ())]
    return [(s.labels, s.spans) for s in holders]


def _true_of(atom: Atom, labels: Mapping[str, Label], spans: Mapping[str, tuple[Span, ...]]) -> bool:
    if isinstance(atom, Exists):
        return bool(spans.get(atom.step))
    if atom.step not in labels:
        return False
    value = labels[atom.step].value
    wanted = (atom.equals,) if isinstance(atom, Equals) else atom.in_ if isinstance(atom, In) else ()
    return any(w in value if isinstance(value, list | tuple) else w == value for w in wanted)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What was given about a text or a span, and where what is kept of it goes."""

    given: Answers | Span
    labels: dict[str, Label]
    spans: dict[str, tuple[Span, ...]]
    span: Span | None = None


def resolve(plan: Plan, answers: Answers) -> Answers:
    """Keep the answers whose step's ``where`` holds, in the plan's order; the rest were not to be asked."""
    top = _Scope(answers, {}, {})
    kept = Answers(top.labels, top.spans)
    scopes: dict[str | None, list[_Scope]] = {None: [top]}
    for step in plan.ordered:
        for scope in scopes.get(step.of, ()):
            if not holds(plan, step.where, kept, scope.span):
                continue
            if step.id in scope.given.labels:
                scope.labels[step.id] = scope.given.labels[step.id]
            elif step.id in scope.given.spans:
                inner = [_inner_scope(span) for span in scope.given.spans[step.id]]
                scope.spans[step.id] = tuple(i.span for i in inner if i.span)
                scopes.setdefault(step.id, []).extend(inner)
    return replace(kept, none_prob={k: v for k, v in answers.none_prob.items() if k in kept.spans})


def _inner_scope(span: Span) -> _Scope:
    """A scope for the steps of a span; the kept span shares its dictionaries, so that later steps fill it in."""
    labels: dict[str, Label] = {}
    spans: dict[str, tuple[Span, ...]] = {}
    return _Scope(span, labels, spans, replace(span, labels=labels, spans=spans))


def matches(plan: Plan, answers: Answers) -> bool:
    """Whether a (resolved) text holds what the plan is after.

    That is: at least one *sink* step (a step no other refers to) was run and answered yes, a label, or a span.
    """
    return any(
        bool(labels[step.id].value) if step.id in labels else bool(spans.get(step.id))
        for step in plan.sinks
        for labels, spans in _scopes(plan, step.id, answers, None)
    )
