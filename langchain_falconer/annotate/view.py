"""Annotations of texts, assembled from the store by the steps of a plan, and the questions that are still open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer, text_key
from langchain_falconer.errors import AnnotationError
from langchain_falconer.plan import LabelStep, Plan, SpanStep, atoms, holds
from langchain_falconer.records import Answers, Label, Span

HUMAN = "human"
"""Source of a person's annotations."""
CORRECTIONS = f"{HUMAN}:corrections"
"""Source of a person's corrections of single answers; they stand in for those of every LLM."""
UNIFORM_CORRECTIONS = f"{CORRECTIONS}:uniform"
"""Source of corrections, or confirmations, of texts that were drawn uniformly."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """The answers of one source to a plan about a text.

    A step with neither an answer nor a failure was not put to the source: its ``where`` is false, or annotation ended
    before its turn.

    Attributes:
        text: The text.
        answers: The answers, by step id.
        source: Name of the LLM, or ``"human"``.
        failures: Reasons why steps that apply have no answer, by step id.
        is_complete: Whether no question about the text is open.
        corrected: Ids of the steps that a person answered in place of the source.
    """

    text: str
    answers: Answers
    source: str
    failures: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool = field(default=True, compare=False)
    corrected: frozenset[str] = frozenset()


@dataclass(slots=True)
class AnnotationTarget:
    """A text, or a span of it for ``of`` steps, with its answers; filled step by step.

    Attributes:
        text: The text.
        at: Start and end of the span, in code points; ``None`` for the text as a whole.
        key: Key in the store.
        labels: Labels by step id.
        spans: Spans by step id.
        failures: Reasons why steps have no answer, by step id.
        unanswered: Steps that should have an answer, or whose ``where`` waits for one.
        corrected: Steps that a person answered.
        rejected: Number of quotes that do not occur in the text.
    """

    text: str
    at: tuple[int, int] | None = None
    key: Key = field(init=False)
    labels: dict[str, Label] = field(default_factory=dict)
    spans: dict[str, tuple[AnnotationTarget, ...]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    corrected: set[str] = field(default_factory=set)
    rejected: int = 0

    def __post_init__(self) -> None:
        self.key = text_key(self.text, self.at)

    def walk(self) -> Iterator[AnnotationTarget]:
        """Yield this target and all spans inside it."""
        yield self
        for span in chain.from_iterable(self.spans.values()):
            yield from span.walk()

    def answers(self) -> Answers:
        """Return the answers so far."""
        return Answers(dict(self.labels), {k: tuple(s.span() for s in v) for k, v in self.spans.items()})

    def span(self) -> Span:
        """Return this target as a span, with the answers about it."""
        assert self.at is not None
        answers = self.answers()
        return replace(Span.at(self.text, *self.at), labels=answers.labels, spans=answers.spans)


@dataclass(frozen=True, slots=True)
class StepStatus:
    """What a step applies to, the keys of what is unanswered, and for how many of these the source failed."""

    targets: dict[Key, AnnotationTarget]
    open: set[Key]
    failed: int


_Blocker = tuple[AnnotationTarget, str]
"""A target and the id of a step without an answer about it, which a ``where`` needs."""


class AnnotationView:
    """The answers of one source to a plan about some texts, read from the store step by step.

    Args:
        store: The store.
        plan: The plan.
        texts: The texts.
        source: The source.
        corrected: Whether a person's corrections stand in for the answers of the source.
    """

    def __init__(
        self, store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str, *, corrected: bool = True
    ) -> None:
        self.plan = plan
        self._corrections = (UNIFORM_CORRECTIONS, CORRECTIONS) if corrected else ()
        self.targets = {text: AnnotationTarget(text) for text in texts}
        self._store = store
        self._source = source

    def read(self, step: LabelStep | SpanStep) -> StepStatus:
        """Read what the store holds of a step; the steps that it depends on must have been read before."""
        applicable = list(self._applicable(step))
        hashes = [target.key[0] for target, _ in applicable]
        answers = self._store.answers(self._source, step.fingerprint, hashes)
        failures = self._store.failures(self._source, step.fingerprint, hashes)
        corrections = {
            k: a for c in self._corrections for k, a in self._store.answers(c, step.fingerprint, hashes).items()
        }
        answers |= corrections
        targets = {target.key: target for target, blockers in applicable if not blockers}
        for target, blockers in applicable:
            if target.key in corrections:
                target.corrected.add(step.id)
            if answer := answers.get(target.key):
                self._add_answer(step, target, answer)
                continue
            target.unanswered.add(step.id)
            if failed := next((name for holder, name in blockers if name in holder.failures), None):
                target.failures[step.id] = f"not asked, because '{failed}' failed"
            elif not blockers and target.key in failures:
                target.failures[step.id] = failures[target.key]
        unanswered = targets.keys() - answers.keys()
        return StepStatus(targets, unanswered, failed=len(unanswered & failures.keys()))

    def _applicable(self, step: LabelStep | SpanStep) -> Iterator[tuple[AnnotationTarget, list[_Blocker]]]:
        """Yield the targets where the step's ``where`` holds, or is undecided because of these open answers."""
        for root in self.targets.values():
            answers = root.answers() if step.where else Answers()
            for target in _targets_of(self.plan, step, root):
                blockers = self._blockers(step, root, target) if step.where else []
                span = target.span() if step.where and step.of else None
                if blockers or holds(self.plan, step.where, answers, span):
                    yield target, blockers

    def _blockers(self, step: LabelStep | SpanStep, root: AnnotationTarget, target: AnnotationTarget) -> list[_Blocker]:
        """Return the missing answers that a ``where`` needs, each with the target that it is about."""
        assert step.where is not None
        blockers = []
        for name in dict.fromkeys(atom.step for atom in atoms(step.where)):
            if self.plan[name].of == step.of:
                blockers += [(target, name)] if name in target.unanswered else []
            else:
                lineage = _lineage(self.plan, name)
                blockers += [(holder, n) for holder in root.walk() for n in lineage if n in holder.unanswered]
        return blockers

    def _add_answer(self, step: LabelStep | SpanStep, target: AnnotationTarget, answer: StoredAnswer) -> None:
        target.unanswered.discard(step.id)
        target.failures.pop(step.id, None)
        if step.id in target.labels or step.id in target.spans:
            return
        target.rejected += answer.rejected
        if isinstance(step, LabelStep) and can_answer(step, answer.value):
            target.labels[step.id] = Label(answer.value, answer.score)
        elif isinstance(step, SpanStep) and _are_spans(target.text, answer.value):
            target.spans[step.id] = tuple(AnnotationTarget(target.text, (start, end)) for start, end in answer.value)
        else:
            fix = "move the store away, or import its recording again"
            message = f"{self._store.path} holds an answer that step '{step.id}' cannot give; {fix}"
            raise AnnotationError(message, path=self._store.path, step=step.id)

    def annotation(self, text: str) -> Annotation:
        """Return the annotation of a text as far as it has been read."""
        parts = list(self.targets[text].walk())
        failures = {step_id: reason for part in reversed(parts) for step_id, reason in part.failures.items()}
        is_complete = not any(part.unanswered for part in parts)
        source = HUMAN if _is_human(self._source) else self._source
        corrected = frozenset(step_id for part in parts for step_id in part.corrected)
        return Annotation(text, parts[0].answers(), source, failures, is_complete, corrected)


def _is_human(source: str) -> bool:
    return source == HUMAN or source.startswith(f"{HUMAN}:")


def _targets_of(plan: Plan, step: LabelStep | SpanStep, root: AnnotationTarget) -> list[AnnotationTarget]:
    """Return the targets of a step: the text itself, or the spans of its parent step."""
    if step.of is None:
        return [root]
    return [span for holder in _targets_of(plan, plan[step.of], root) for span in holder.spans.get(step.of, ())]


def _lineage(plan: Plan, step_id: str) -> list[str]:
    """Return the step and, if it is about spans, the steps that find them."""
    parent = plan[step_id].of
    return [step_id, *(_lineage(plan, parent) if parent else [])]


def can_answer(step: LabelStep, value: object) -> bool:
    """Return whether JSON data is an answer that the step can give."""
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


def stored_annotations(
    store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str, *, corrected: bool = True
) -> list[Annotation]:
    """Read the annotations of texts that the store already holds; no LLM is called.

    Args:
        store: The store.
        plan: The plan.
        texts: The texts.
        source: The source of the answers.
        corrected: Whether a person's corrections stand in for the answers of the source.

    Returns:
        An annotation for each of the texts, in their order, about which the source answered at least one step.

    Raises:
        AnnotationError: The store holds an answer that its step cannot give.
    """
    texts = list(texts)
    view = AnnotationView(store, plan, texts, source, corrected=corrected)
    for step in plan.ordered:
        view.read(step)
    return [a for a in map(view.annotation, texts) if a.answers.labels or a.answers.spans]


def has_answers(store: AnnotationStore, plan: Plan, texts: Sequence[str], source: str) -> list[bool]:
    """Return, for each text of a batch, whether the source answered at least one step of the plan about it.

    Each text takes one index look-up, so that a whole corpus can be compared with a recording batch by batch.
    """
    keys = [text_key(text)[0] for text in texts]
    answered = store.answered(source, [step.fingerprint for step in plan.top_level], keys)
    return [key in answered for key in keys]
