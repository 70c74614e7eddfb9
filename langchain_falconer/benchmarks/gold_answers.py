"""Small texts with gold answers to every question about them, and the rows that a plan gives with these answers.

A domain is twenty texts and its *facts*: what a step can ask of them, with the answer for each text. Spans and what is
said about each of them are marked in the text itself: ``[dish #1 verdict=liked|lamb stew] for [cost @1|$19]`` is the
span ``lamb stew`` of the fact ``dish``, which was liked, and whose cost is ``$19``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from langchain_falconer.plan import LabelStep, Plan, SpanStep, resolve
from langchain_falconer.records import Answers, Label, Span

_MARK = re.compile(r"\[(\w+)([^|\]]*)\|([^\]]+)\]")
_ATTRIBUTE = re.compile(r"(\w+)=([\w -]+?)(?=\s+\w+=|\s*$)")
_YES = "true"
Finding = tuple[str, frozenset[tuple[object, ...]]]
"""What a step finds in all texts: ``span`` or ``label``, and where. It has no name: equal rows are equal findings."""


@dataclass(frozen=True)
class Mark:
    """A span of a text that answers the fact ``fact``, with its ``key`` and that of the span that it belongs to."""

    fact: str
    start: int
    end: int
    key: str | None
    parent: str | None
    labels: Mapping[str, str]


@dataclass(frozen=True)
class GoldText:
    """A text with its gold answers: the values of label facts (``true`` for yes) and the marks."""

    text: str
    labels: Mapping[str, frozenset[str]]
    marks: tuple[Mark, ...]

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> GoldText:
        """Read a text with marks, and the values of its label facts beside it."""
        marked, marks, plain, end = str(data["text"]), [], "", 0
        for match in _MARK.finditer(marked):
            plain += marked[end : match.start()]
            key, parent = (re.search(rf"{sign}(\w+)", match[2]) for sign in "#@")
            where = (len(plain), len(plain) + len(match[3]))
            names = (key and key[1], parent and parent[1])
            marks.append(Mark(match[1], *where, *names, dict(_ATTRIBUTE.findall(match[2]))))
            plain += match[3]
            end = match.end()
        labels: dict[str, frozenset[str]] = {}
        for name, value in data.items():
            if name == "is" and isinstance(value, list):
                labels.update({fact: frozenset([_YES]) for fact in value})
            elif name != "text":
                labels[name] = frozenset(value if isinstance(value, list) else [str(value)])
        return cls(plain + marked[end:], labels, tuple(marks))


@dataclass(frozen=True)
class Scope:
    """A text, or one of its spans (the last of ``marks``, each inside the one before it)."""

    text: GoldText
    marks: tuple[Mark, ...] = ()


Test = Callable[[Scope], bool]
"""Whether something is true of a text, or of one of its spans."""


@dataclass(frozen=True)
class Fact:
    """What a step can ask.

    Attributes:
        name: Its name in marks, texts and gold plans.
        asks: Words of a question about it (yes/no and span facts).
        values: The labels of a choice, each with the words that mean it; empty for yes/no and span facts.
        multi: Whether any subset of the values may apply.
        is_span: Whether the answer is spans.
        of: The span fact whose spans it is about; None for the text.
    """

    name: str
    asks: re.Pattern[str] | None
    values: Mapping[str, re.Pattern[str]]
    multi: bool
    is_span: bool
    of: str | None

    @classmethod
    def parse(cls, name: str, data: Mapping[str, object]) -> Fact:
        """Read a fact of a domain's file."""
        labels = data.get("labels")
        values = {str(k): words(str(v)) for k, v in labels.items()} if isinstance(labels, Mapping) else {}
        asks, of = data.get("span") or data.get("asks"), data.get("of")
        multi = bool(data.get("multi"))
        return cls(name, words(str(asks)) if asks else None, values, multi, "span" in data, str(of) if of else None)

    def test(self, value: str = _YES) -> Test:
        """Return the test for a value; of a span fact, for whether there is a span."""

        def holds(scope: Scope) -> bool:
            if self.is_span:
                return bool(self.marks(scope))
            if self.of is None:
                return value in scope.text.labels.get(self.name, ())
            own = [m for m in scope.marks if m.fact == self.of] or [m for m in scope.text.marks if m.fact == self.of]
            return any(m.labels.get(self.name) == value for m in own)

        return holds

    def marks(self, scope: Scope) -> list[Mark]:
        """Return the spans in a text, or those that belong to the span of the scope."""
        found = [m for m in scope.text.marks if m.fact == self.name]
        if scope.marks and scope.marks[-1].fact == self.of:
            return [m for m in found if m.parent is not None and m.parent == scope.marks[-1].key]
        return found


def words(pattern: str) -> re.Pattern[str]:
    """Compile ``a|b``: words that begin so, in any case."""
    return re.compile(rf"\b(?:{pattern})", re.IGNORECASE)


@dataclass(frozen=True)
class Domain:
    """Texts of a kind, and their facts by name."""

    name: str
    kind: re.Pattern[str]
    facts: Mapping[str, Fact]
    texts: tuple[GoldText, ...]


@lru_cache
def domain(name: str) -> Domain:
    """Read the domain of this name."""
    file = files("langchain_falconer.benchmarks").joinpath("planning_cases", "domains", f"{name}.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    facts = {fact: Fact.parse(fact, spec) for fact, spec in data["facts"].items()}
    return Domain(name, words(data["kind"]), facts, tuple(map(GoldText.parse, data["texts"])))


def always(scope: Scope) -> bool:
    """Hold everywhere."""
    return True


@dataclass(frozen=True)
class Reading:
    """What a step asks, in terms of facts.

    Attributes:
        limit: Where it has an answer; of a yes/no step, where the answer is yes.
        options: Of a choice: each label with its test; None for one that means "none of these".
        fact: Of a span step: the fact whose spans it finds.
    """

    limit: Test = always
    options: Mapping[str, Test | None] | None = None
    fact: Fact | None = None


@dataclass(frozen=True)
class Findings:
    """What a plan finds in all texts.

    Attributes:
        outputs: The findings of the steps that no other step refers to, and of the spans that such a step is about.
        all: The findings of all steps.
        unanswered: Where yes/no steps say no, which is what a second label would say.
        choices: The findings that are labels of a choice.
    """

    outputs: frozenset[Finding]
    all: frozenset[Finding]
    unanswered: frozenset[Finding]
    choices: frozenset[Finding]


def findings(plan: Plan, readings: Mapping[str, Reading], texts: Sequence[GoldText]) -> Findings:
    """Run a plan over texts, its steps answered as their readings say."""
    found: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for number, text in enumerate(texts):
        answers = resolve(plan, _answers(plan, plan.top_level, readings, Scope(text)))
        for step, value, place in _places(answers, (number,)):
            options = readings[step].options
            if options is None or options[value] is not None:  # a label that means "none of these" says nothing
                found.setdefault((step, value), set()).add(place)
    shown = {step.id for step in plan.outputs}
    while parents := {plan[step].of for step in shown} - shown - {None}:
        shown |= {parent for parent in parents if parent}
    named = {key: _finding(plan, key, places) for key, places in found.items()}
    said = {key: finding for key, finding in named.items() if key[1] != "False"}
    choices = {step for step, reading in readings.items() if reading.options is not None}
    return Findings(
        frozenset(finding for (step, _), finding in said.items() if step in shown),
        frozenset(said.values()),
        frozenset(named[key] for key in named.keys() - said.keys()),
        frozenset(finding for (step, _), finding in said.items() if step in choices),
    )


def _finding(plan: Plan, key: tuple[str, str], places: set[tuple[object, ...]]) -> Finding:
    return "span" if isinstance(plan[key[0]], SpanStep) else "label", frozenset(places)


def difference(plan: Findings, gold: Findings) -> str | None:
    """Return how the rows of a plan differ from the gold plan's; None if they say the same.

    Of a choice of two, one label says what no says to the other: there, a yes/no step and a choice are the same.
    """
    if missing := [f for f in gold.outputs - plan.all if f not in gold.choices or f not in plan.unanswered]:
        return f"its rows lack {_some(missing)}"
    if extra := [f for f in plan.outputs - gold.outputs if f not in plan.choices or f not in gold.unanswered]:
        return f"its rows have {_some(extra)} too many"
    return None


def _some(found: Sequence[Finding]) -> str:
    counts = [f"{len(places)} {kind}{'' if len(places) == 1 else 's'}" for kind, places in found]
    return " and ".join(sorted(counts))


def _answers(
    plan: Plan, steps: Sequence[LabelStep | SpanStep], readings: Mapping[str, Reading], scope: Scope
) -> Answers:
    labels, spans = {}, {}
    for step in steps:
        reading = readings[step.id]
        if isinstance(step, SpanStep):
            spans[step.id] = tuple(_spans(plan, step, readings, scope))
        elif reading.options is None:
            labels[step.id] = Label(reading.limit(scope))
        elif reading.limit(scope) and (value := _choice(step, reading.options, scope)) is not None:
            labels[step.id] = Label(value)
    return Answers(labels, spans)


def _spans(plan: Plan, step: SpanStep, readings: Mapping[str, Reading], scope: Scope) -> Iterator[Span]:
    reading = readings[step.id]
    for mark in reading.fact.marks(scope) if reading.fact else ():
        inner = Scope(scope.text, (*scope.marks, mark))
        if reading.limit(inner):
            own = _answers(plan, plan.children(step.id), readings, inner)
            yield Span(mark.start, mark.end, scope.text.text[mark.start : mark.end], 1.0, own.labels, own.spans)


def _choice(step: LabelStep, options: Mapping[str, Test | None], scope: Scope) -> str | tuple[str, ...] | None:
    """Return the labels that are true; of a choice the only one, else the one that means "none", if it has one."""
    true = [name for name, test in options.items() if test is not None and test(scope)]
    if step.multi_label:
        return tuple(true)
    if not true:
        return next((name for name, test in options.items() if test is None), None)
    return true[0] if len(true) == 1 else None


def _places(answers: Answers | Span, place: tuple[object, ...]) -> Iterator[tuple[str, str, tuple[object, ...]]]:
    """Yield step, value and place of each answer."""
    for step, label in answers.labels.items():
        for value in label.value if isinstance(label.value, tuple) else (label.value,):
            yield step, str(value), place
    for step, spans in answers.spans.items():
        for span in spans:
            inside = (*place, (span.start, span.end))
            yield step, "", inside
            yield from _places(span, inside)
