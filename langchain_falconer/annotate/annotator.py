"""The annotator: an LLM answers the steps of a plan about texts, each question once across runs and processes."""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from langchain_falconer.annotate.agreement import second_source, source_of
from langchain_falconer.annotate.batch_api import BatchSession
from langchain_falconer.annotate.budget import Budget
from langchain_falconer.annotate.decisions import DECISION_SCHEMA, decision_messages, read_decision
from langchain_falconer.annotate.grounding import UnplacedQuote
from langchain_falconer.annotate.isolation import addresses_the_llm
from langchain_falconer.annotate.questions import Question, RejectedReply
from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer
from langchain_falconer.annotate.view import Annotation, AnnotationTarget, AnnotationView, StepStatus
from langchain_falconer.cancellation import cancellation_check, raise_if_cancelled
from langchain_falconer.errors import BudgetError, FalconerError, LLMError
from langchain_falconer.llm import LLM, Meter, Usage
from langchain_falconer.plan import LabelStep, Plan, SpanStep, atoms
from langchain_falconer.settings import AnnotateSettings
from langchain_falconer.threads import map_as_completed

_MAX_ENUM = 1_000
"""OpenAI's limit on enum values in one strict schema."""
_MAX_CONSECUTIVE_ERRORS = 3
"""Calls in a row that failed for reasons which say nothing about a text, after which annotation ends."""
_MAX_UNANSWERED = 5
"""Questions in a row without a usable answer, of an LLM that never gave one, after which annotation ends."""
_MAX_REASONS = 3
Progress = Callable[[int, int], None]
"""Receives the number of questions that are done, and of all that are known so far."""


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """The result of an annotation run.

    Attributes:
        annotations: One annotation per text, in the order of the texts.
        rejected_quotes: Number of quotes that do not occur in their text, cached answers included.
        failed: Number of questions (a step about a text or span) without a usable answer from the LLM.
        error: Reason for an early end (:class:`BudgetError`, or :class:`LLMError` of an LLM that cannot be reached);
            ``None`` if there was none.
        usage: Usage of the replies of this invocation. Failed calls are in the ledger (``budget.spent``).
        coerced: Number of answers of this invocation in another form than was asked for, with one reading.
        reasons: The commonest reasons of failures, each with the number of texts, the commonest first.
        unplaced: Quotes of this invocation that do not occur in their text.
    """

    annotations: list[Annotation]
    rejected_quotes: int
    failed: int
    error: FalconerError | None
    usage: Usage
    coerced: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    unplaced: tuple[UnplacedQuote, ...] = ()


class Annotator:
    """Annotates texts with an LLM and writes each answer to the store as soon as it arrives.

    Questions that the store can answer are not asked again: another run, after a crash too, resumes where the last one
    ended. A step is asked where its ``where`` holds by the LLM's own earlier answers.

    Args:
        llm: LLM that annotates; its name is the source of the answers.
        store: Store of the answers.
        plan: Steps to ask.
        budget: Budget that refuses calls beyond its caps.
        settings: Grouping of texts into calls, and prompts.
        second: Whether to ask in the second wording, one text a call, whatever a person corrected.
    """

    def __init__(
        self,
        llm: LLM,
        store: AnnotationStore,
        plan: Plan,
        budget: Budget,
        settings: AnnotateSettings | None = None,
        *,
        second: bool = False,
    ) -> None:
        self._llm = llm
        self._store = store
        self._plan = plan
        self._settings = settings or AnnotateSettings()
        self._second = second
        self._prompts = self._settings.second_prompts if second else self._settings.prompts
        first = source_of(llm.name, self._settings.prompts)
        self._source = second_source(first) if second else first
        self._meter = budget.for_source(llm.name, "repeat" if second else None)

    def annotate(self, texts: Sequence[str], on_progress: Progress | None = None) -> AnnotationReport:
        """Ask the questions about these texts that the store cannot answer.

        Args:
            texts: Texts to annotate; equal texts are asked about once.
            on_progress: Receives the number of questions that are done, and of all that are known so far (conditional
                steps add to them as their turn comes).

        Raises:
            AnnotationError: The store cannot be used. Budget and LLM errors do not raise but end the run early: see
                ``AnnotationReport.error``.
        """
        steps = {step.fingerprint for step in self._plan.steps}
        with self._store.exclusive(self._source, steps):  # a job with the same questions waits, then reads
            return self._annotate(texts, on_progress)

    def _annotate(self, texts: Sequence[str], on_progress: Progress | None) -> AnnotationReport:
        view = AnnotationView(self._store, self._plan, texts, self._source, corrected=not self._second)
        batches = BatchSession(self._llm, self._store, self._source, self._meter)
        batches.resume({step.fingerprint for step in self._plan.steps})  # paid for already, with --batch or without
        is_batch = self._settings.batch or batches.error is not None
        session = batches if is_batch else _Session(self._llm, self._store, self._source, self._meter)
        done = total = failed = 0
        for level in _topological_levels(self._plan):
            statuses = _deduplicate([(step, view.read(step)) for step in level])
            total += sum(len(status.targets) for _, status in statuses)
            done += sum(len(status.targets) - len(status.open) for _, status in statuses)
            if on_progress:
                on_progress(done, total)
            for count in session.run([q for step, status in statuses for q in self._questions(step, status)]):
                done += count
                if on_progress:
                    on_progress(done, total)
            raise_if_cancelled()
            failed += sum(view.read(step).failed for step in level)
        rejected = sum(part.rejected for target in view.targets.values() for part in target.walk())
        annotations = [view.annotation(text) for text in texts]
        return AnnotationReport(
            annotations,
            rejected,
            failed,
            session.error,
            session.usage,
            session.coerced,
            common_reasons(annotations),
            tuple(session.unplaced),
        )

    def _questions(self, step: LabelStep | SpanStep, status: StepStatus) -> Iterator[Question]:
        """Yield questions about the open targets, several targets per call.

        The grouping depends on all targets, not on the open ones: after a kill, a run resumes with exactly the calls
        that it would have made. Texts that speak to the LLM are asked about alone, and change no other call.
        """
        for batch in self._batches(step, status.targets):
            if open_targets := tuple(status.targets[key] for key in batch if key in status.open):
                yield Question(step, open_targets, self._prompts)

    def _batches(self, step: LabelStep | SpanStep, targets: Mapping[Key, AnnotationTarget]) -> Iterator[list[Key]]:
        max_targets = 1 if self._second or self._llm.is_decider else self._settings.texts_per_call
        if isinstance(step, LabelStep) and step.names:
            max_targets = max(1, min(max_targets, _MAX_ENUM // len(step.names)))
        batch: list[Key] = []
        chars = 0
        for key, target in targets.items():
            if addresses_the_llm(target.text):
                yield [key]
                continue
            if batch and (len(batch) == max_targets or chars + len(target.text) > self._settings.chars_per_call):
                yield batch
                batch, chars = [], 0
            batch.append(key)
            chars += len(target.text)
        if batch:
            yield batch


class _Session:
    """Calls of one annotation run: several threads ask, write answers to the store, and stop after repeated errors.

    What the provider refuses about a text is a failure of that text. What says nothing about a text (no access, no
    connection, a rate limit or a server that fails after all retries) ends the run when it recurs.
    """

    def __init__(self, llm: LLM, store: AnnotationStore, source: str, meter: Meter) -> None:
        self._llm = llm
        self._store = store
        self._source = source
        self._meter = meter
        self._lock = threading.Lock()
        self._consecutive_errors = 0
        self._unanswered = 0
        self.coerced = 0
        self.unplaced: list[UnplacedQuote] = []
        self.usage = Usage()
        self.error: FalconerError | None = None

    def run(self, questions: Sequence[Question]) -> Iterator[int]:
        """Ask the questions; yield, as each finishes, the number of its targets that are done."""
        waiting, is_cancelled = deque(questions), cancellation_check()
        while waiting and not self.error and self._llm.output_mode is None:  # a way to ask is sought once, not n times
            yield from map_as_completed(self._answer, [waiting.popleft()], 1, lambda: False)
        workers = min(self._llm.settings.max_concurrency, len(waiting))
        yield from map_as_completed(self._answer, waiting, workers, lambda: self.error is not None or is_cancelled())

    def _answer(self, question: Question, feedback: str | None = None, *, is_last: bool = False) -> int:
        """Ask, and write what was answered; return the number of targets that are done.

        A call that is too long is halved. A target without a usable answer is asked about once more, alone, and then
        recorded as failed.

        Args:
            question: A step about targets.
            feedback: Fault of an earlier reply.
            is_last: Whether a target without a usable answer is not asked about again.
        """
        n = len(question.targets)
        outcomes = self._ask(question, feedback)
        if isinstance(outcomes, BudgetError):
            return 0
        if isinstance(outcomes, LLMError) and outcomes.kind == "length" and n > 1:
            halves = question.targets[: n // 2], question.targets[n // 2 :]
            return sum(self._answer(replace(question, targets=half)) for half in halves if not self.error)
        if isinstance(outcomes, LLMError):  # the LLM has retried already
            is_final = n == 1 or self.error is not None
            outcomes = [RejectedReply(str(outcomes), is_final)] * n
        retries = self._store_outcomes(question, outcomes, is_last=is_last)
        done = n - len(retries)
        for target, reason in retries:
            if not self.error:
                single = replace(question, targets=(target,))
                done += self._answer(single, reason if n == 1 else None, is_last=True)
        return done

    def _ask(
        self, question: Question, feedback: str | None
    ) -> Sequence[StoredAnswer | RejectedReply] | LLMError | BudgetError:
        n, is_decider = len(question.targets), self._llm.is_decider
        try:
            if is_decider:
                reply = self._llm.complete(decision_messages(question), DECISION_SCHEMA, self._meter)
            else:
                reply = self._llm.complete(
                    question.messages(feedback), question.schema(), self._meter, accepts=question.accepts
                )
        except BudgetError as error:
            with self._lock:
                self.error = self.error or error
            return error
        except LLMError as error:
            self._count_error(error)
            return error
        with self._lock:
            self._consecutive_errors = 0
            self.usage += reply.usage
        if reply.data is None:
            reason = reply.error or "the reply holds no answer"
            self._count_unanswered(reason)
            return [RejectedReply(reason, final=reply.is_refusal and n == 1)] * n
        outcomes = read_decision(question, reply.data) if is_decider else question.read(reply.data)
        with self._lock:
            self._unanswered = 0
        return outcomes

    def _count_error(self, error: LLMError) -> None:
        if error.concerns_text:
            with self._lock:
                self._consecutive_errors = 0  # the server answers
            if error.kind == "request":
                self._count_unanswered(str(error))
            return
        # A server that nobody ever reached is not reached by another text.
        is_gone = self._llm.output_mode is None and (error.status is None or error.kind == "access")
        with self._lock:
            self._consecutive_errors += 1
            if is_gone or self._consecutive_errors >= _MAX_CONSECUTIVE_ERRORS:
                self.error = self.error or error

    def _count_unanswered(self, reason: str) -> None:
        """End the run where an LLM that never gave an answer gives none several times: it would be paid for nothing."""
        if self._llm.output_mode is not None:
            return
        with self._lock:
            self._unanswered += 1
            if self._unanswered >= _MAX_UNANSWERED:
                message = f"{self._llm.name} gave no usable answer, however it was asked ({reason}); name another model"
                self.error = self.error or LLMError(message, model=self._llm.name, kind="request")

    def _store_outcomes(
        self, question: Question, outcomes: Sequence[StoredAnswer | RejectedReply], *, is_last: bool
    ) -> list[tuple[AnnotationTarget, str]]:
        """Write answers and final failures to the store; return the targets to ask again, each with the reason."""
        answers: dict[Key, StoredAnswer] = {}
        failures: dict[Key, str] = {}
        retries = []
        unplaced: list[UnplacedQuote] = []
        for target, outcome in zip(question.targets, outcomes, strict=True):
            if isinstance(outcome, StoredAnswer):
                answers[target.key] = outcome
                unplaced += (UnplacedQuote.of(target.text, question.step.id, quote) for quote in outcome.quotes)
            elif is_last or outcome.final:
                failures[target.key] = outcome.reason
            else:
                retries.append((target, outcome.reason))
        self._store.put(self._source, question.step.fingerprint, answers, failures)
        with self._lock:
            self.coerced += sum(answer.is_coerced for answer in answers.values())
            self.unplaced += unplaced
        return retries


def common_reasons(annotations: Iterable[Annotation]) -> tuple[tuple[str, int], ...]:
    """Return the commonest reasons of failures with the number of texts, what differs by text left out."""
    reasons = Counter(
        reason
        for annotation in annotations
        for reason in {
            _general(reason) for reason in annotation.failures.values() if not reason.startswith("not asked")
        }
    )
    return tuple(reasons.most_common(_MAX_REASONS))


def _general(reason: str) -> str:
    """Return a reason without what the LLM wrote and without numbers, so that like reasons are counted together."""
    quoted = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "'…'", reason)
    return re.sub(r"\bt\d+\b", "t…", re.sub(r"\b(?=\w*\d)\w{6,}\b", "…", quoted))


def _deduplicate(
    statuses: list[tuple[LabelStep | SpanStep, StepStatus]],
) -> list[tuple[LabelStep | SpanStep, StepStatus]]:
    """Leave each open target to the first of several steps that ask the same question."""
    claimed: dict[str, set[Key]] = {}
    unique = []
    for step, status in statuses:
        keys = claimed.setdefault(step.fingerprint, set())
        unique.append((step, replace(status, open=status.open - keys)))
        keys |= status.open
    return unique


def _topological_levels(plan: Plan) -> list[list[LabelStep | SpanStep]]:
    """Return the steps in levels; each level depends on earlier ones only."""
    level: dict[str, int] = {}
    for step in plan.ordered:
        required = [atom.step for atom in atoms(step.where)] if step.where else []
        level[step.id] = 1 + max((level[name] for name in [*required, *([step.of] if step.of else [])]), default=-1)
    levels: list[list[LabelStep | SpanStep]] = [[] for _ in range(max(level.values()) + 1)]
    for step in plan.ordered:
        levels[level[step.id]].append(step)
    return levels
