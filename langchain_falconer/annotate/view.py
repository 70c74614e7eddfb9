"""What the store knows about texts, put together as the plan wants it; also which questions are still open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_falconer.annotate.questions import QuestionTarget
from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer, text_key
from langchain_falconer.errors import AnnotationError
from langchain_falconer.plan import LabelStep, Plan, SpanStep, atoms, holds
from langchain_falconer.records import Answers, Label, Span


@dataclass(frozen=True, slots=True)
class Annotation:
    """A text and what its source (an LLM's name, or ``"human"``) answers to a plan.

    ``failures`` holds, by step id, why a step that was to be asked has no answer. A step that is neither answered
    nor failed was not asked: its ``where`` is false, or asking ended before it. ``settled`` says that nothing is open.
    """

    text: str
    answers: Answers
    source: str
    failures: Mapping[str, str] = field(default_factory=dict)
    settled: bool = field(default=True, compare=False)


@dataclass(slots=True)
class AnnotationTarget:
    """What steps are asked about: a text, or (for ``of`` steps) a span of it; filled step by step."""

    target: QuestionTarget
    key: Key
    labels: dict[str, Label] = field(default_factory=dict)
    spans: dict[str, tuple[AnnotationTarget, ...]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Steps that should have an answer, or whose ``where`` is undecided for want of one."""
    rejected: int = 0

    @classmethod
    def of(cls, text: str, at: tuple[int, int] | None = None) -> AnnotationTarget:
        """The text itself, or the span at these offsets."""
        return cls(QuestionTarget(text, at), text_key(text, at))

    def walk(self) -> Iterator[AnnotationTarget]:
        """This subject and all spans in it."""
        yield self
        for spans in self.spans.values():
            for span in spans:
                yield from span.walk()

    def answers(self) -> Answers:
        """The answers so far."""
        return Answers(dict(self.labels), {k: tuple(s.span() for s in v) for k, v in self.spans.items()})

    def span(self) -> Span:
        """This subject as a span, with the answers about it."""
        assert self.target.at is not None
        start, end = self.target.at
        given = self.answers()
        return Span(start, end, self.target.text[start:end], labels=given.labels, spans=given.spans)


@dataclass(frozen=True, slots=True)
class StepStatus:
    """How things stand with a step: the targets it is asked about, which of them are open, and how many failed."""

    targets: dict[Key, QuestionTarget]
    open: set[Key]
    failed: int


class AnnotationView:
    """The answers of one source to a plan about some texts, read from the store step by step."""

    def __init__(self, store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str) -> None:
        self.plan = plan
        self.subjects = {text: AnnotationTarget.of(text) for text in texts}
        self._store = store
        self._source = source

    def read(self, step: LabelStep | SpanStep) -> StepStatus:
        """Take over what is known of a step, or has become known since; the steps it depends on come before it."""
        asked = list(self._asked(step))
        hashes = [subject.key[0] for subject, _ in asked]
        answers = self._store.answers(self._source, step.fingerprint, hashes)
        failures = self._store.failures(self._source, step.fingerprint, hashes)
        targets = {subject.key: subject.target for subject, waits in asked if not waits}
        for subject, waits in asked:
            if answer := answers.get(subject.key):
                self._take(step, subject, answer)
                continue
            subject.unknown.add(step.id)
            if failed := next((name for holder, name in waits if name in holder.failures), None):
                subject.failures[step.id] = f"not asked, because '{failed}' failed"
            elif not waits and subject.key in failures:
                subject.failures[step.id] = failures[subject.key]
        unanswered = targets.keys() - answers.keys()
        return StepStatus(targets, unanswered, failed=len(unanswered & failures.keys()))

    def _asked(
        self, step: LabelStep | SpanStep
    ) -> Iterator[tuple[AnnotationTarget, list[tuple[AnnotationTarget, str]]]]:
        """The subjects where the step's ``where`` holds, or is undecided because of these open answers."""
        for root in self.subjects.values():
            answers = root.answers() if step.where else Answers()
            for subject in _subjects(self.plan, step, root):
                waits = self._open(step, root, subject) if step.where else []
                span = subject.span() if step.where and step.of else None
                if waits or holds(self.plan, step.where, answers, span):
                    yield subject, waits

    def _open(
        self, step: LabelStep | SpanStep, root: AnnotationTarget, subject: AnnotationTarget
    ) -> list[tuple[AnnotationTarget, str]]:
        """The answers that a ``where`` wants and that are not known, each with the subject it is about."""
        assert step.where is not None
        found = []
        for name in dict.fromkeys(atom.step for atom in atoms(step.where)):
            if self.plan[name].of == step.of:
                found += [(subject, name)] if name in subject.unknown else []
            else:
                lineage = _lineage(self.plan, name)
                found += [(holder, n) for holder in root.walk() for n in lineage if n in holder.unknown]
        return found

    def _take(self, step: LabelStep | SpanStep, subject: AnnotationTarget, answer: StoredAnswer) -> None:
        subject.unknown.discard(step.id)
        subject.failures.pop(step.id, None)
        if step.id in subject.labels or step.id in subject.spans:
            return
        subject.rejected += answer.rejected
        text = subject.target.text
        if isinstance(step, LabelStep) and can_answer(step, answer.value):
            subject.labels[step.id] = Label(answer.value)
        elif isinstance(step, SpanStep) and _are_spans(text, answer.value):
            subject.spans[step.id] = tuple(AnnotationTarget.of(text, (start, end)) for start, end in answer.value)
        else:
            raise AnnotationError(
                f"{self._store.path} holds an answer that step '{step.id}' cannot give; "
                "move the store away, or import its recording again"
            )

    def annotation(self, text: str) -> Annotation:
        """What is known about a text."""
        subject = self.subjects[text]
        failures: dict[str, str] = {}
        for part in subject.walk():
            for step_id, reason in part.failures.items():
                failures.setdefault(step_id, reason)
        settled = not any(part.unknown for part in subject.walk())
        return Annotation(text, subject.answers(), self._source, failures, settled)


def _subjects(plan: Plan, step: LabelStep | SpanStep, root: AnnotationTarget) -> list[AnnotationTarget]:
    """What a step is asked about: the text itself, or the spans of its parent step."""
    if step.of is None:
        return [root]
    return [span for holder in _subjects(plan, plan[step.of], root) for span in holder.spans.get(step.of, ())]


def _lineage(plan: Plan, step_id: str) -> list[str]:
    """The step and, if it is asked of spans, the steps that find them."""
    parent = plan[step_id].of
    return [step_id, *(_lineage(plan, parent) if parent else [])]


def can_answer(step: LabelStep, value: object) -> bool:
    """Whether JSON data is an answer that the step can give."""
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return False
    return step.accepts(value)


def _are_spans(text: str, value: object) -> bool:
    end = 0
    for pair in value if isinstance(value, list) else [None]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(offset) is int for offset in pair)):
            return False
        if not end <= pair[0] < pair[1] <= len(text):
            return False
        end = pair[1]
    return True


def stored_annotations(store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str) -> list[Annotation]:
    """What the store knows of a source's answers to a plan; nothing is asked.

    Returns:
        An annotation for each of the texts, in their order, about which the source answered at least one step.

    Raises:
        AnnotationError: the store holds an answer that its step cannot give.
    """
    texts = list(texts)
    recollection = AnnotationView(store, plan, texts, source)
    for step in plan.ordered:
        recollection.read(step)
    annotations = map(recollection.annotation, texts)
    return [a for a in annotations if a.answers.labels or a.answers.spans]


def has_answers(store: AnnotationStore, plan: Plan, texts: Sequence[str], source: str) -> list[bool]:
    """For each of a batch of texts, whether the source answered at least one step of the plan about it.

    One look-up in an index a text, for streaming a corpus past a recording batch by batch.
    """
    keys = [text_key(text)[0] for text in texts]
    known = store.answered(source, [step.fingerprint for step in plan.top_level], keys)
    return [key in known for key in keys]
