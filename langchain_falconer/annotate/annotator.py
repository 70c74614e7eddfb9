"""The annotator: asks the LLM the steps of a plan about texts, each question once, whoever asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from langchain_falconer.annotate.budget import Budget
from langchain_falconer.annotate.questions import Question, QuestionTarget, RejectedReply
from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer, text_key
from langchain_falconer.annotate.threads import map_as_completed
from langchain_falconer.annotate.view import Annotation, AnnotationView, StepStatus
from langchain_falconer.errors import BudgetError, FalconerError, LLMError
from langchain_falconer.llm import LLM, Meter, Usage
from langchain_falconer.plan import LabelStep, Plan, SpanStep, atoms
from langchain_falconer.settings import AnnotateSettings

_MAX_ENUM = 1_000
"""OpenAI's limit on enum values in one strict schema."""
_ERRORS_IN_A_ROW = 3
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """What came of asking.

    Attributes:
        annotations: one a text, in the order given.
        rejected_quotes: quotes that had no place in their text, cached answers included.
        failed: questions (a step about a text or span) that the LLM was asked and gave no usable answer to.
        error: why asking ended early (:class:`BudgetError`, or :class:`LLMError` of an LLM that cannot be reached);
            ``None`` if it did not.
        usage: what the replies of this invocation took. Calls that failed are in the ledger (``budget.spent``).
    """

    annotations: list[Annotation]
    rejected_quotes: int
    failed: int
    error: FalconerError | None
    usage: Usage


class Annotator:
    """Asks an LLM the steps of a plan about texts, and keeps each answer in the store as soon as it comes.

    What the store knows is not asked again: run it again, after a crash too, and it goes on where it ended. A step
    is asked where its ``where`` holds given the LLM's own earlier answers.

    Args:
        llm: answers; its name is the source of the answers.
        store: keeps them.
        plan: the steps to ask.
        budget: refuses calls beyond its caps.
        settings: how texts are put to the LLM.
    """

    def __init__(
        self, llm: LLM, store: AnnotationStore, plan: Plan, budget: Budget, settings: AnnotateSettings | None = None
    ) -> None:
        self._llm = llm
        self._store = store
        self._plan = plan
        self._meter = budget.for_source(llm.name)
        self._settings = settings or AnnotateSettings()

    def annotate(self, texts: Sequence[str], on_progress: Progress | None = None) -> AnnotationReport:
        """Ask what is not yet known about these texts.

        Args:
            texts: what to ask about; equal texts are asked about once.
            on_progress: told how many questions are settled, of how many known so far (conditional steps add to
                them as their turn comes).

        Raises:
            AnnotationError: the store cannot be used. Budget and LLM errors end the asking instead: see ``error``.
        """
        steps = {step.fingerprint for step in self._plan.steps}
        with self._store.exclusive(self._llm.name, steps):  # a job that asks the same waits, and finds the answers
            return self._annotate(texts, on_progress)

    def _annotate(self, texts: Sequence[str], on_progress: Progress | None) -> AnnotationReport:
        known = AnnotationView(self._store, self._plan, texts, self._llm.name)
        asking = _Asking(self._llm, self._store, self._meter)
        settled = total = failed = 0
        for level in _topological_levels(self._plan):
            readings = _deduplicate([(step, known.read(step)) for step in level])
            total += sum(len(reading.targets) for _, reading in readings)
            settled += sum(len(reading.targets) - len(reading.open) for _, reading in readings)
            if on_progress:
                on_progress(settled, total)
            for count in asking.run([q for step, reading in readings for q in self._questions(step, reading)]):
                settled += count
                if on_progress:
                    on_progress(settled, total)
            failed += sum(known.read(step).failed for step in level)
        rejected = sum(part.rejected for subject in known.subjects.values() for part in subject.walk())
        annotations = [known.annotation(text) for text in texts]
        return AnnotationReport(annotations, rejected, failed, asking.error, asking.usage)

    def _questions(self, step: LabelStep | SpanStep, reading: StepStatus) -> Iterator[Question]:
        """The open targets, a few a call.

        Which of them share a call depends on all targets, not on what is open: a run that was killed goes on with
        the very calls that it would have made.
        """
        for batch in self._batches(step, reading.targets):
            if waiting := tuple(reading.targets[key] for key in batch if key in reading.open):
                yield Question(step, waiting)

    def _batches(self, step: LabelStep | SpanStep, targets: Mapping[Key, QuestionTarget]) -> Iterator[list[Key]]:
        most = self._settings.texts_per_call
        if isinstance(step, LabelStep) and step.names:
            most = max(1, min(most, _MAX_ENUM // len(step.names)))
        batch: list[Key] = []
        chars = 0
        for key, target in targets.items():
            if batch and (len(batch) == most or chars + len(target.text) > self._settings.chars_per_call):
                yield batch
                batch, chars = [], 0
            batch.append(key)
            chars += len(target.text)
        if batch:
            yield batch


class _Asking:
    """Puts questions to the LLM from several threads, keeps what comes, and knows when to give up."""

    def __init__(self, llm: LLM, store: AnnotationStore, meter: Meter) -> None:
        self._llm = llm
        self._store = store
        self._meter = meter
        self._lock = threading.Lock()
        self._errors_in_a_row = 0
        self._patience = 1
        self.usage = Usage()
        self.error: FalconerError | None = None

    def run(self, questions: Sequence[Question]) -> Iterator[int]:
        """Ask the questions; yields, as they finish, how many of their targets are settled."""
        workers = min(self._llm.settings.max_concurrency, len(questions))
        if self.usage == Usage():
            # An LLM that never replied gets no more tries than go out at once anyway.
            self._patience = min(workers, _ERRORS_IN_A_ROW)
        return map_as_completed(self._settle, questions, workers, lambda: self.error is not None)

    def _settle(self, question: Question) -> int:
        """Ask; a target without a usable answer is asked about once more, alone, and then recorded as failed."""
        alone = len(question.targets) == 1
        settled = 0
        try:
            again = self._keep(question, self._ask(question), last=False)
            settled = len(question.targets) - len(again)
            for target, reason in again:
                if self.error:
                    break
                single = Question(question.step, (target,))
                self._keep(single, self._ask(single, reason if alone else None), last=True)
                settled += 1
        except BudgetError as error:
            with self._lock:
                self.error = self.error or error
        return settled

    def _ask(self, question: Question, feedback: str | None = None) -> list[StoredAnswer | RejectedReply]:
        targets = len(question.targets)
        try:
            reply = self._llm.complete(question.messages(feedback), question.schema(), self._meter)
        except LLMError as error:
            self._count_error(error)
            return [RejectedReply(str(error), final=targets == 1)] * targets  # the LLM has done its own retries
        with self._lock:
            self._errors_in_a_row, self._patience = 0, _ERRORS_IN_A_ROW
            self.usage += reply.usage
        if reply.data is None:
            return [RejectedReply(reply.error or "the reply holds no answer")] * targets
        return question.read(reply.data)

    def _count_error(self, error: LLMError) -> None:
        with self._lock:
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= self._patience:
                self.error = self.error or error

    def _keep(
        self, question: Question, outcomes: Sequence[StoredAnswer | RejectedReply], *, last: bool
    ) -> list[tuple[QuestionTarget, str]]:
        """Write what is final to the store, at once; returns what to ask again, and why."""
        answers: dict[Key, StoredAnswer] = {}
        failures: dict[Key, str] = {}
        again = []
        for target, outcome in zip(question.targets, outcomes, strict=True):
            key = text_key(target.text, target.at)
            if isinstance(outcome, StoredAnswer):
                answers[key] = outcome
            elif last or outcome.final:
                failures[key] = outcome.reason
            else:
                again.append((target, outcome.reason))
        self._store.put(self._llm.name, question.step.fingerprint, answers, failures)
        return again


def _deduplicate(
    readings: list[tuple[LabelStep | SpanStep, StepStatus]],
) -> list[tuple[LabelStep | SpanStep, StepStatus]]:
    """Where two steps put the same question, leave each open target to the first."""
    claimed: dict[str, set[Key]] = {}
    out = []
    for step, reading in readings:
        taken = claimed.setdefault(step.fingerprint, set())
        out.append((step, replace(reading, open=reading.open - taken)))
        taken |= reading.open
    return out


def _topological_levels(plan: Plan) -> list[list[LabelStep | SpanStep]]:
    """The steps in waves: each wave depends on earlier ones only."""
    level: dict[str, int] = {}
    for step in plan.ordered:
        before = [atom.step for atom in atoms(step.where)] if step.where else []
        level[step.id] = 1 + max((level[name] for name in [*before, *([step.of] if step.of else [])]), default=-1)
    waves: list[list[LabelStep | SpanStep]] = [[] for _ in range(max(level.values()) + 1)]
    for step in plan.ordered:
        waves[level[step.id]].append(step)
    return waves
