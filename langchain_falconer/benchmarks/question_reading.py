"""Reading of a plan's questions: which facts of a domain each step asks for, by words and labels.

This is what makes plans comparable that are worded differently. It is no language model: a question is read by word
stems that the domain's file lists for each fact, with ``not``, ``or`` and ``and`` between them. A question that names
no fact is unreadable, and its plan counts as wrong; one that names several is read in each way, and the best counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from langchain_falconer.benchmarks.gold_answers import (
    Domain,
    Fact,
    Findings,
    Reading,
    Scope,
    Test,
    always,
    difference,
    findings,
)
from langchain_falconer.plan import LabelStep, Plan, SpanStep

_MOST_READINGS = 128
_NOT = re.compile(
    r"\b(?:not|non|no|without|never|except|excluding|other than|rather than|neither|nor|none)\b|n['’]t\b", re.I
)
_NOT_INSIDE = re.compile(r"\bnot\b|n['’]t\b", re.I)
_OR = re.compile(r"\bor\b|/", re.I)
_NAMES = re.compile(r"\b(?:mention|contain|includ|give|state|name|list|say|has|have|is there|are there)", re.I)
_NONE = re.compile(r"(?:others?|none|unknown|neither|unclear|unsure|n ?/? ?a|no|none of \w+|something else)", re.I)
_NEGATED = re.compile(r"(?:not|no|non) (.+)", re.I)
_NEGATION_REACH = 32
"""Characters before a word in which a negation belongs to it."""


class UnreadableError(ValueError):
    """A step that asks for no fact of the domain."""


@dataclass(frozen=True)
class _Mention:
    """Words of a question that name a fact (or one of its values)."""

    start: int
    end: int
    fact: Fact
    test: Test


def why_not(plan: Plan, gold: Findings, domain: Domain) -> str | None:
    """Return why a plan's rows are not those of the gold plan; None where they are the same in some reading."""
    reasons: list[str] = []
    try:
        for found in readings_findings(plan, domain):
            if (reason := difference(found, gold)) is None:
                return None
            reasons.append(reason)
    except UnreadableError as error:
        return str(error)
    return reasons[0]


def readings_findings(plan: Plan, domain: Domain) -> Iterator[Findings]:
    """Yield what a plan finds in each reading of its questions, the likeliest first.

    Raises:
        UnreadableError: A step asks for no fact of the domain.
    """
    for readings in islice(_readings(plan, plan.ordered, domain, {}), _MOST_READINGS):
        yield findings(plan, readings, domain.texts)


def _readings(
    plan: Plan, steps: Sequence[LabelStep | SpanStep], domain: Domain, above: Mapping[str, Reading]
) -> Iterator[Mapping[str, Reading]]:
    if not steps:
        yield above
        return
    step, *others = steps
    parent = above[step.of].fact if step.of else None
    for reading in _read(step, parent, domain):
        yield from _readings(plan, others, domain, {**above, step.id: reading})


def _read(step: LabelStep | SpanStep, parent: Fact | None, domain: Domain) -> list[Reading]:
    if isinstance(step, SpanStep):
        readings = _read_spans(step, parent, domain)
    elif step.names:
        readings = _read_choice(step, parent, domain)
    else:
        readings = _read_yes_no(step, parent, domain)
    if not readings:
        raise UnreadableError(f"step '{step.id}' asks for nothing that the gold answers know")
    return readings


def _read_spans(step: SpanStep, parent: Fact | None, domain: Domain) -> list[Reading]:
    spans = [f for f in domain.facts.values() if f.is_span and (parent is None or f.of == parent.name)]
    for question in (_plain(step.instruction), _plain(step.id)):
        found = [(match.start(), f) for f in spans if f.asks and (match := f.asks.search(question))]
        if found:
            heads = [f for _, f in sorted(found, key=lambda pair: pair[0])]
            limits = [
                _limit(_beside(head, _mentions(question, (head, parent), domain), question), question) for head in heads
            ]
            return [Reading(limit, fact=head) for head, limit in zip(heads, limits, strict=True)]
    return []


def _beside(head: Fact, mentions: Sequence[_Mention], question: str) -> list[_Mention]:
    """Return the mentions outside the words that name the spans: ``the defect of the product`` limits nothing."""
    named = [(m.start(), m.end()) for m in head.asks.finditer(question)] if head.asks else []
    return [m for m in mentions if all(m.end <= start or end <= m.start for start, end in named)]


def _read_yes_no(step: LabelStep, parent: Fact | None, domain: Domain) -> list[Reading]:
    for question in (_plain(step.instruction), _plain(step.id)):
        mentions = _mentions(question, (parent,), domain)
        if not mentions and _NAMES.search(question):
            spans = [f for f in domain.facts.values() if f.is_span and f.of == (parent and parent.name)]
            mentions = _apart([m for f in spans for m in _found(question, f, f.asks, f.test())])
        if mentions:
            return [Reading(_limit(mentions, question))]
    return [Reading()] if domain.kind.search(step.instruction) else []


def _read_choice(step: LabelStep, parent: Fact | None, domain: Domain) -> list[Reading]:
    level = [f for f in domain.facts.values() if not f.is_span and f.of == (parent and parent.name)]
    question = _plain(step.instruction)
    by_fact = [(fact, _options(step, [fact])) for fact in level if fact.values]
    most = max((_known(options) for _, options in by_fact), default=0)
    if (together := _options(step, level)) and _known(together) > most:
        return [Reading(always, together)]  # its labels are facts of their own
    return [
        Reading(_limit([m for m in _mentions(question, (parent,), domain) if m.fact is not fact], question), options)
        for fact, options in by_fact
        if options and _known(options) == most
    ]


def _known(options: Mapping[str, Test | None] | None) -> int:
    return sum(test is not None and test is not _never for test in (options or {}).values())


def _never(scope: Scope) -> bool:
    return False


def _options(step: LabelStep, facts: Sequence[Fact]) -> Mapping[str, Test | None] | None:
    """Return the test of each label, which never holds where it means none of the facts.

    None where no label means one of them, or two labels mean the same.
    """
    options: dict[str, Test | None] = {}
    meant = set()
    for name in step.names:
        plain = _plain(name).strip().casefold()
        found = _meaning(plain, facts)
        negated = None if found else _NEGATED.fullmatch(plain)
        if negated:
            found = _meaning(negated[1], facts)
        if not found:
            options[name] = None if _NONE.fullmatch(plain) else _never
        elif (*found[:2], bool(negated)) in meant:
            return None
        else:
            meant.add((*found[:2], bool(negated)))
            options[name] = _negation(found[2]) if negated else found[2]
    return options if meant else None


def _meaning(label: str, facts: Sequence[Fact]) -> tuple[str, str, Test] | None:
    """Return fact, value and test that a label means: a value's name, its words, or a yes/no fact's words."""
    values = [(f, v, p) for f in facts for v, p in f.values.items()]
    exact = [(f.name, v, f.test(v)) for f, v, _ in values if _plain(v).casefold() == label]
    reads = re.Pattern.match if _NEGATED.fullmatch(label) else re.Pattern.search  # "no difference" may be a value
    by_words = [(f.name, v, f.test(v)) for f, v, p in values if reads(p, label)]
    yes_no = [(f.name, "", f.test()) for f in facts if not f.values and f.asks and reads(f.asks, label)]
    return next(iter([*exact, *by_words, *yes_no]), None)


def _negation(test: Test) -> Test:
    return lambda scope: not test(scope)


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text)


def _mentions(question: str, about: Sequence[Fact | None], domain: Domain) -> list[_Mention]:
    """Return where the question names label facts of the text, or of the spans that it is about."""
    names = {fact.name for fact in about if fact}
    found: list[_Mention] = []
    for fact in domain.facts.values():
        if not fact.is_span and (fact.of is None or fact.of in names):
            found += _found(question, fact, fact.asks, fact.test())
            for value, pattern in fact.values.items():
                found += _found(question, fact, pattern, fact.test(value))
    return _apart(found)


def _found(question: str, fact: Fact, pattern: re.Pattern[str] | None, test: Test) -> list[_Mention]:
    return [_Mention(m.start(), m.end(), fact, test) for m in pattern.finditer(question)] if pattern else []


def _apart(mentions: Sequence[_Mention]) -> list[_Mention]:
    """Drop mentions that overlap others: those about spans come first, then longer ones."""
    kept: list[_Mention] = []
    for m in sorted(mentions, key=lambda m: (m.fact.of is None, m.start - m.end)):
        if all(m.end <= other.start or other.end <= m.start for other in kept):
            kept.append(m)
    return sorted(kept, key=lambda m: m.start)


def _limit(mentions: Sequence[_Mention], question: str) -> Test:
    """Return the condition that the mentions express: ``or`` joins neighbours, all else is ``and``."""
    groups: list[list[Test]] = []
    is_negated: list[bool] = []
    end = 0
    for m in mentions:
        between = question[end : m.start]
        negated = bool(_NOT.search(between[-_NEGATION_REACH:])) != bool(_NOT_INSIDE.search(question[m.start : m.end]))
        if groups and _OR.search(between) and (not negated or is_negated[-1]):
            groups[-1].append(m.test)
        else:
            groups.append([m.test])
            is_negated.append(negated)
        end = m.end

    def holds(scope: Scope) -> bool:
        return all(any(t(scope) for t in g) != n for g, n in zip(groups, is_negated, strict=True))

    return holds if groups else always
