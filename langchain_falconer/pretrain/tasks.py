"""Tasks to pretrain on: each source draws small batches of texts with questions and their answers."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from langchain_falconer.model import Example, HeadIndex
from langchain_falconer.plan import LabelOption, LabelStep, SpanStep
from langchain_falconer.pretrain.phrasings import ASK_IS, ASK_MENTION, ASK_SPAN, instruction_for, words_of
from langchain_falconer.pretrain.pretraining import Task

MAX_CHARS = 400


class Source(Protocol):
    """A source of tasks; its length is the number of items to draw from."""

    def __len__(self) -> int: ...

    def draw(self, rng: random.Random, size: int) -> Task:
        """A task of about ``size`` texts; the same state of ``rng``, the same task."""
        ...


@dataclass(frozen=True)
class MarkedText:
    """A text and its spans by type."""

    text: str
    spans: Mapping[str, Sequence[tuple[int, int]]]


@dataclass
class SpanSource:
    """A set with marked spans: asked for some of its types, and for some that no text of it can hold.

    ``mentions`` is how often the question is whether a type is there at all, instead of where.
    """

    rows: Sequence[MarkedText]
    kind: str = "text"
    strangers: Sequence[str] = ()
    instructions: Mapping[str, str] = field(default_factory=dict)
    mentions: float = 0.15

    def __post_init__(self) -> None:
        self._with: dict[str, list[MarkedText]] = defaultdict(list)
        for row in self.rows:
            for name, spans in row.spans.items():
                if spans:
                    self._with[name].append(row)
        self._types = sorted(self._with)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        types = rng.sample(self._types, min(len(self._types), rng.randint(1, 6)))
        wanted = [rng.choice(self._with[rng.choice(types)]) for _ in range(round(size * 0.75))]
        rows = wanted + rng.sample(self.rows, min(len(self.rows), size - len(wanted)))
        if rng.random() < self.mentions:
            return self._mentions(rng, types, rows)
        absent = rng.sample(self.strangers, min(len(self.strangers), rng.randint(0, 2)))
        names = {f"s{i}": name for i, name in enumerate([*types, *absent])}
        steps = tuple(SpanStep(id=i, instruction=self._worded(rng, name)) for i, name in names.items())
        examples = [Example(r.text, {}, {i: list(r.spans.get(n, ())) for i, n in names.items()}) for r in rows]
        return Task(HeadIndex.of(steps), examples)

    def _worded(self, rng: random.Random, name: str) -> str:
        if name in self.instructions and rng.random() < 0.35:
            return self.instructions[name]
        return instruction_for(rng, ASK_SPAN, rng.choice(words_of(name)), self.kind)

    def _mentions(self, rng: random.Random, types: list[str], rows: list[MarkedText]) -> Task:
        if len(types) > 1 and rng.random() < 0.5:
            words = {name: rng.choice(words_of(name)) for name in types}
            if len(set(words.values())) == len(words):
                step = LabelStep(
                    id="m",
                    instruction=f"What does the {self.kind} mention?",
                    labels=tuple(words.values()),
                    multi_label=True,
                )
                found = [{"m": tuple(w for n, w in words.items() if r.spans.get(n))} for r in rows]
                return Task(HeadIndex.of([step]), [Example(r.text, f, {}) for r, f in zip(rows, found, strict=True)])
        named = {f"m{i}": name for i, name in enumerate(types[:4])}
        steps = [
            LabelStep(id=i, instruction=instruction_for(rng, ASK_MENTION, rng.choice(words_of(n)), self.kind))
            for i, n in named.items()
        ]
        examples = [Example(r.text, {i: bool(r.spans.get(n)) for i, n in named.items()}, {}) for r in rows]
        return Task(HeadIndex.of(steps), examples)


@dataclass
class OpenSource:
    """Texts whose span types were named for each of them alone, as an LLM does that is free in its words.

    What was marked in one text is asked of the others too, as something that is not there, unless it may be: a type
    that shares a word with one of theirs, or that is too general to rule out (the negatives of GLiNER, arXiv
    2311.08526, but for those).
    """

    rows: Sequence[MarkedText]
    most: int = 16

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        rows = rng.sample(self.rows, min(size, len(self.rows)))
        types = sorted({name for row in rows for name in row.spans})
        named = {f"o{i}": name for i, name in enumerate(rng.sample(types, min(len(types), self.most)))}
        steps = tuple(SpanStep(id=i, instruction=instruction_for(rng, ASK_SPAN, name)) for i, name in named.items())
        examples = [
            Example(r.text, {}, {i: list(r.spans.get(n, ())) for i, n in named.items() if n in r.spans or _lacks(r, n)})
            for r in rows
        ]
        return Task(HeadIndex.of(steps), examples)


_GENERAL = frozenset(
    "person people man woman organization organisation company group place location name event date time year number "  # noqa: SIM905
    "amount title work product".split()
)


def _lacks(row: MarkedText, name: str) -> bool:
    words = set(name.split())
    return not words & _GENERAL and not any(words & set(other.split()) for other in row.spans)


@dataclass
class LabelSource:
    """A set of labelled texts: asked as a choice among some classes, as yes/no about one, or which of several fit.

    Args:
        rows: Texts and the classes that hold of each.
        classes: Ways to name each class.
        prompts: Ways to ask for the class.
        ask_is: Ways to ask whether one class (``{x}``) holds.
        exclusive: Whether a text has one class only.
        questions: A yes/no question of its own for some classes.
    """

    rows: Sequence[tuple[str, Sequence[str]]]
    classes: Mapping[str, Sequence[str]]
    prompts: Sequence[str]
    ask_is: tuple[str, ...] = ASK_IS
    exclusive: bool = True
    kind: str = "text"
    questions: Mapping[str, str] = field(default_factory=dict)
    most: int = 16

    def __post_init__(self) -> None:
        self._of: dict[str, list[int]] = defaultdict(list)
        for i, (_, labels) in enumerate(self.rows):
            for name in labels:
                self._of[name].append(i)
        self._names = sorted(set(self._of) & set(self.classes))

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        share = rng.random()
        if share < (0.65 if self.exclusive else 0.0):
            return self._choice(rng, size)
        return self._yes_no(rng, size) if share < 0.85 or len(self._names) < 3 else self._multi(rng, size)

    def _some(self, rng: random.Random, at_least: int = 2) -> dict[str, str]:
        """Some classes, each with a name; no two with the same."""
        count = rng.randint(min(at_least, len(self._names)), min(len(self._names), self.most))
        words: dict[str, str] = {}
        for name in rng.sample(self._names, count):
            word = rng.choice(list(self.classes[name]))
            if word not in words.values():
                words[name] = word
        return words

    def _rows(self, rng: random.Random, names: Sequence[str], size: int) -> list[int]:
        return [rng.choice(self._of[rng.choice(names)]) for _ in range(size)]

    def _options(self, rng: random.Random, words: Mapping[str, str]) -> tuple[str | LabelOption, ...]:
        """Names alone, or (as users do) a short name with another wording as its description."""
        if rng.random() < 0.6:
            return tuple(words.values())
        described: list[str | LabelOption] = []
        for name, word in words.items():
            others = [w for w in self.classes[name] if w != word]
            described.append(LabelOption(name=word, description=rng.choice(others)) if others else word)
        return tuple(described)

    def _choice(self, rng: random.Random, size: int) -> Task:
        words = self._some(rng)
        if len(words) < 2:
            return self._yes_no(rng, size)
        step = LabelStep(id="c", instruction=rng.choice(list(self.prompts)), labels=self._options(rng, words))
        rows = [self.rows[i] for i in self._rows(rng, list(words), size)]
        gold = [next(words[h] for h in labels if h in words) for _, labels in rows]
        return Task(HeadIndex.of([step]), [Example(t, {"c": g}, {}) for (t, _), g in zip(rows, gold, strict=True)])

    def _yes_no(self, rng: random.Random, size: int) -> Task:
        names = rng.sample(self._names, min(len(self._names), rng.randint(1, 4)))
        near = self._rows(rng, names, size // 2)
        rows = [self.rows[i] for i in (*near, *(rng.randrange(len(self.rows)) for _ in range(size - len(near))))]
        ids = {f"y{i}": name for i, name in enumerate(names)}
        steps = [LabelStep(id=i, instruction=self._question(rng, name)) for i, name in ids.items()]
        return Task(
            HeadIndex.of(steps), [Example(t, {i: n in labels for i, n in ids.items()}, {}) for t, labels in rows]
        )

    def _question(self, rng: random.Random, name: str) -> str:
        if name in self.questions and rng.random() < 0.4:
            return self.questions[name]
        return instruction_for(rng, self.ask_is, rng.choice(list(self.classes[name])), self.kind)

    def _multi(self, rng: random.Random, size: int) -> Task:
        words = self._some(rng, 3)
        if len(words) < 2:
            return self._yes_no(rng, size)
        step = LabelStep(
            id="m",
            instruction=rng.choice(list(self.prompts)),
            labels=self._options(rng, words),
            multi_label=True,
        )
        near = self._rows(rng, list(words), round(size * 0.75))
        rows = [self.rows[i] for i in (*near, *(rng.randrange(len(self.rows)) for _ in range(size - len(near))))]
        gold = [tuple(w for n, w in words.items() if n in labels) for _, labels in rows]
        return Task(HeadIndex.of([step]), [Example(t, {"m": g}, {}) for (t, _), g in zip(rows, gold, strict=True)])


@dataclass
class PairSource:
    """Pairs of texts that belong together: which of the batch's right-hand sides goes with this left-hand side?"""

    pairs: Sequence[tuple[str, str]]
    prompts: Sequence[str]
    most: int = 16

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        chosen: dict[str, str] = {}
        for left, right in rng.sample(self.pairs, min(len(self.pairs), self.most)):
            chosen.setdefault(right, left)
        step = LabelStep(id="p", instruction=rng.choice(list(self.prompts)), labels=tuple(chosen))
        return Task(HeadIndex.of([step]), [Example(left, {"p": right}, {}) for right, left in chosen.items()])


@dataclass
class NextTokensSource:
    """Next tokens extraction (Cuckoo, arXiv 2502.11275 §3).

    A phrase that comes next and stands in the text already is a span, asked for by the words before it comes again.
    """

    cases: Sequence[tuple[str, str, Sequence[tuple[int, int]]]]

    def __len__(self) -> int:
        return len(self.cases)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        rows = [rng.choice(self.cases) for _ in range(size)]
        steps = tuple(SpanStep(id=f"n{i}", instruction=asked_by) for i, (_, asked_by, _) in enumerate(rows[:8]))
        examples = [Example(text, {}, {f"n{i}": list(spans)}) for i, (text, _, spans) in enumerate(rows[:8])]
        # Every other context asks for something else: what it finds here, if anything, is not known, so only a
        # context's own text counts.
        return Task(HeadIndex.of(steps), examples)
