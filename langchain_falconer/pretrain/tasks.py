"""Tasks to pretrain on: each source draws a few texts with questions about them and their answers.

Plain data and the standard library only: a bundle takes this module to machines that lack the package's dependencies.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from langchain_falconer.pretrain.wordings import (
    ABSENT_TYPES,
    CHOICE_WORDINGS,
    CLASS_WORDINGS,
    MENTION_WORDINGS,
    NONE_WORDINGS,
    SPAN_WORDINGS,
    fill,
    is_sentence,
)

Offsets: TypeAlias = Sequence[tuple[int, int]]
"""Spans as (start, end), in characters of their text."""
_NEAR = 0.75  # share of texts drawn for having an answer


@dataclass(frozen=True)
class SpanQuestion:
    """A question for spans.

    Attributes:
        words: The question.
        answers: Spans by position of the text in its task; a text that is absent has no known answer.
    """

    words: str
    answers: Mapping[int, Offsets]


@dataclass(frozen=True)
class LabelQuestion:
    """A question with options.

    Attributes:
        words: The question.
        options: The options; for yes/no the question alone.
        answers: Per text, by its position: the position of the right option for ``exclusive`` options, else the
            probability of each. A text that is absent has no known answer.
        exclusive: Whether one option alone is right.
    """

    words: str
    options: Sequence[str]
    answers: Mapping[int, int | Sequence[float]]
    exclusive: bool = False


@dataclass(frozen=True)
class Task:
    """Texts, with the questions that are asked of all of them."""

    texts: Sequence[str]
    spans: Sequence[SpanQuestion] = ()
    labels: Sequence[LabelQuestion] = ()


class Source(Protocol):
    """A source of tasks; its length is the number of texts to draw from."""

    def __len__(self) -> int: ...

    def draw(self, rng: random.Random, size: int) -> Task:
        """Draw a task of at most ``size`` texts; the same state of ``rng`` gives the same task."""
        ...


@dataclass
class SpanSource:
    """A set with marked spans: asked for some of its types, and for some that its texts do not hold.

    Attributes:
        rows: Texts with their spans by type.
        names: The ways to name each type.
        text_kind: What a text is, as a noun.
        mentions: How often the question is whether a type is there, in place of where.
    """

    rows: Sequence[tuple[str, Mapping[str, Offsets]]]
    names: Mapping[str, Sequence[str]]
    text_kind: str = "text"
    mentions: float = 0.1

    def __post_init__(self) -> None:
        self._holding: dict[str, list[int]] = defaultdict(list)
        for i, (_, spans) in enumerate(self.rows):
            for name in spans:
                self._holding[name].append(i)
        used = {word for ways in self.names.values() for way in ways for word in way.lower().split()}
        self._absent = [name for name in ABSENT_TYPES if not used & set(name.split())]

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        types = sorted(self._holding)
        types = rng.sample(types, min(len(types), rng.randint(1, 7)))
        near = [rng.choice(self._holding[rng.choice(types)]) for _ in range(round(size * _NEAR))]
        others = rng.sample(range(len(self.rows)), min(len(self.rows), size - len(near)))
        rows = [self.rows[i] for i in dict.fromkeys([*near, *others])]
        texts = [text for text, _ in rows]
        if rng.random() < self.mentions:
            return Task(texts, labels=[self._mention(rng, name, rows) for name in types[:4]])
        questions = [
            SpanQuestion(self._question(rng, name), {i: spans.get(name, ()) for i, (_, spans) in enumerate(rows)})
            for name in types
        ]
        nowhere: dict[int, Offsets] = dict.fromkeys(range(len(rows)), ())
        absent = rng.sample(self._absent, min(len(self._absent), rng.randint(0, 2)))
        questions += [SpanQuestion(fill(rng, SPAN_WORDINGS, name, self.text_kind), nowhere) for name in absent]
        return Task(texts, questions)

    def _question(self, rng: random.Random, name: str) -> str:
        words = rng.choice(self.names[name])
        return words if is_sentence(words) else fill(rng, SPAN_WORDINGS, words, self.text_kind)

    def _mention(
        self, rng: random.Random, name: str, rows: Sequence[tuple[str, Mapping[str, Offsets]]]
    ) -> LabelQuestion:
        nouns = [way for way in self.names[name] if not is_sentence(way)] or list(self.names[name])
        words = fill(rng, MENTION_WORDINGS, rng.choice(nouns), self.text_kind)
        return LabelQuestion(words, [words], {i: [float(name in spans)] for i, (_, spans) in enumerate(rows)})


@dataclass
class QuestionSource:
    """Questions that are each asked of one text, and sometimes of another one, which does not answer it."""

    rows: Sequence[tuple[str, str, Offsets]]
    astray: float = 0.3

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        rows = rng.sample(self.rows, min(len(self.rows), size))
        questions = []
        for i, (text, question, answers) in enumerate(rows):
            answered: dict[int, Offsets] = {i: answers}
            other = rng.randrange(len(rows))
            if rng.random() < self.astray and rows[other][0] != text:
                answered[other] = ()
            questions.append(SpanQuestion(question, answered))
        return Task([text for text, _, _ in rows], questions)


@dataclass
class LabelSource:
    """A set with classes: asked to choose one, any of them, or whether one of them fits.

    Attributes:
        rows: Texts, each with its classes.
        names: The ways to name each class.
        questions: The ways to ask which class it is.
        text_kind: What a text is, as a noun.
        exclusive: Whether a text has exactly one class.
        max_options: Options of one question.
        topic: What the classes are about, in a word or two.
    """

    rows: Sequence[tuple[str, Sequence[str]]]
    names: Mapping[str, Sequence[str]]
    questions: Sequence[str]
    text_kind: str = "text"
    exclusive: bool = True
    max_options: int = 16
    topic: str = "class"
    _of: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), init=False, repr=False)

    def __post_init__(self) -> None:
        for i, (_, classes) in enumerate(self.rows):
            for name in classes:
                self._of[name].append(i)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: random.Random, size: int) -> Task:
        """See :class:`Source`."""
        if set(self.names) == {"yes", "no"}:
            return self._yes_no_question(rng, size)
        share = rng.random()
        if self.exclusive and share < 0.65 and len(self._of) > 1:
            return self._choice(rng, size)
        return self._yes_no(rng, size) if share < 0.85 or len(self._of) < 3 else self._any(rng, size)

    def _choice(self, rng: random.Random, size: int) -> Task:
        words = self._some(rng)
        shown = list(words)
        hidden = shown.pop() if len(shown) > 2 and rng.random() < 0.2 else None
        options = self._options(rng, {name: words[name] for name in shown})
        if hidden:  # its texts are "none of these"
            options.append(rng.choice(NONE_WORDINGS))
        order = {name: i for i, name in enumerate([*shown, hidden] if hidden else shown)}
        rows = self._near(rng, list(words), size)
        answers = {i: next(order[c] for c in classes if c in order) for i, (_, classes) in enumerate(rows)}
        question = LabelQuestion(self._question(rng), options, answers, exclusive=True)
        return Task([text for text, _ in rows], labels=[question])

    def _any(self, rng: random.Random, size: int) -> Task:
        words = self._some(rng)
        rows = self._near(rng, list(words), round(size * _NEAR)) + self._uniform(rng, size - round(size * _NEAR))
        rows = list(dict(rows).items())
        answers = {i: [float(name in classes) for name in words] for i, (_, classes) in enumerate(rows)}
        return Task(
            [t for t, _ in rows], labels=[LabelQuestion(self._question(rng), self._options(rng, words), answers)]
        )

    def _yes_no(self, rng: random.Random, size: int) -> Task:
        names = rng.sample(sorted(self._of), min(len(self._of), rng.randint(1, 4)))
        rows = self._near(rng, names, size // 2)
        rows = list(dict([*rows, *self._uniform(rng, size - len(rows))]).items())
        questions = []
        for name in names:
            words = rng.choice(self.names[name])
            words = words if words.endswith("?") else fill(rng, CLASS_WORDINGS, words, self.text_kind)
            answers = {i: [float(name in classes)] for i, (_, classes) in enumerate(rows)}
            questions.append(LabelQuestion(words, [words], answers))
        return Task([text for text, _ in rows], labels=questions)

    def _yes_no_question(self, rng: random.Random, size: int) -> Task:
        rows = self._near(rng, ["yes", "no"], size)
        words = rng.choice(self.questions)
        answers = {i: [float("yes" in classes)] for i, (_, classes) in enumerate(rows)}
        return Task([text for text, _ in rows], labels=[LabelQuestion(words, [words], answers)])

    def _some(self, rng: random.Random) -> dict[str, str]:
        """Return some classes with their words: all of them where there are few, so that they belong together."""
        names = sorted(self._of)
        size = (
            len(names) if len(names) <= 6 and rng.random() < 0.7 else rng.randint(2, min(len(names), self.max_options))
        )
        words: dict[str, str] = {}
        for name in rng.sample(names, size):
            way = rng.choice(self.names[name])
            if way not in words.values():
                words[name] = way
        return words

    def _options(self, rng: random.Random, words: Mapping[str, str]) -> list[str]:
        if rng.random() < 0.6:
            return list(words.values())
        others = {name: [way for way in self.names[name] if way != words[name]] for name in words}
        return [f"{way}: {rng.choice(others[name])}" if others[name] else way for name, way in words.items()]

    def _question(self, rng: random.Random) -> str:
        if rng.random() < 0.8:
            return rng.choice(self.questions)
        return fill(rng, CHOICE_WORDINGS, self.topic, self.text_kind)

    def _near(self, rng: random.Random, names: Sequence[str], size: int) -> list[tuple[str, Sequence[str]]]:
        drawn = [rng.choice(self._of[rng.choice(names)]) for _ in range(size)]
        return [self.rows[i] for i in dict.fromkeys(drawn)]

    def _uniform(self, rng: random.Random, size: int) -> list[tuple[str, Sequence[str]]]:
        return rng.sample(self.rows, min(len(self.rows), size))


KINDS: dict[str, type[SpanSource] | type[QuestionSource] | type[LabelSource]] = {
    source.__name__: source for source in (SpanSource, QuestionSource, LabelSource)
}
Kind: TypeAlias = Literal["SpanSource", "QuestionSource", "LabelSource"]


def fields_of(source: Source) -> dict[str, object]:
    """Return what a source is made of, as JSON data: ``KINDS[type(source).__name__](**fields)`` makes it again."""
    assert dataclasses.is_dataclass(source)
    return {f.name: getattr(source, f.name) for f in dataclasses.fields(source) if f.init}
