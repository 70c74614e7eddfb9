"""Annotation through OpenAI's Batch API: the questions of a level are one batch, which survives a kill.

What is needed to read a batch's results lies in a folder beside the store from before its submission until its answers
are stored: the requests, the texts that they ask about, and the entry in the ledger that holds their estimate. The
submission carries a key of ours, by which a batch is found whose submission was never confirmed: nothing is paid twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_falconer.annotate.budget import Budget
from langchain_falconer.annotate.grounding import UnplacedQuote
from langchain_falconer.annotate.questions import Question, RejectedReply
from langchain_falconer.annotate.store import AnnotationStore, Key, StoredAnswer
from langchain_falconer.annotate.view import AnnotationTarget
from langchain_falconer.errors import BudgetError, FalconerError, LLMError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.llm import LLM, BatchResult, BatchStatus, OpenAIBatches, Usage, wait_for
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.records import FrozenModel, JsonObject

if TYPE_CHECKING:
    from filelock import FileLock

_MAX_REQUESTS = 50_000
_MAX_BYTES = 100 * 2**20
"""Requests and bytes of one batch; OpenAI allows 50,000 and 200 MB."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 60.0
_NO_RESULT = {
    "expired": "the batch expired before its turn",
    "cancelled": "the batch was cancelled before its turn",
}


class PendingTarget(FrozenModel):
    """A text, or a span of it, that a batch asks about."""

    text: str
    at: tuple[int, int] | None = None


class PendingQuestion(FrozenModel):
    """A question of a batch."""

    step: LabelStep | SpanStep
    targets: tuple[PendingTarget, ...]

    def question(self) -> Question:
        """Return the question, to read its answers."""
        return Question(self.step, tuple(AnnotationTarget(target.text, target.at) for target in self.targets))


class PendingBatch(FrozenModel):
    """A batch whose answers are not in the store yet.

    Attributes:
        key: Key of ours, in the metadata of the submission.
        source: Source of the answers.
        entry: Entry of its estimate in the ledger.
        bodies: The requests.
        questions: The questions, in the order of the requests.
        began: Time of the submission, in seconds since the epoch.
        batch: Id of the batch at the provider; ``None`` until its submission is confirmed.
    """

    key: str
    source: str
    entry: int
    bodies: tuple[JsonObject, ...]
    questions: tuple[PendingQuestion, ...]
    began: float
    batch: str | None = None

    def asks(self, steps: Container[str]) -> bool:
        """Return whether the batch asks one of these steps (fingerprints)."""
        return any(one.step.fingerprint in steps for one in self.questions)


class BatchSession:
    """The batches of one annotation run, one after the other.

    A target without a usable answer is recorded as failed with the reason, and asked about again by the next run.

    Args:
        llm: An ``openai:`` model.
        store: Store of the answers.
        source: Source of the answers.
        budget: Refuses a batch that may exceed a cap, before its submission; fewer requests are then sent at once.

    Attributes:
        usage: Usage of the batches that were read.
        coerced: Number of answers in another form than was requested.
        unplaced: Quotes that do not occur in their text.
        error: Reason for an early end; ``None`` if there was none.
    """

    def __init__(self, llm: LLM, store: AnnotationStore, source: str, budget: Budget) -> None:
        self._llm = llm
        self._store = store
        self._source = source
        self._budget = budget
        self._folder = store.path.with_suffix(".batches")
        self.usage = Usage()
        self.coerced = 0
        self.unplaced: list[UnplacedQuote] = []
        self.error: FalconerError | None = None

    def resume(self, steps: Container[str]) -> None:
        """Wait for the batches of earlier runs that ask these steps (fingerprints), and store their answers."""
        for file in sorted(self._folder.glob("*.json")):
            with self._lock(file.stem):
                data = read_json(file)  # None where another process was faster
                pending = PendingBatch.model_validate(data) if data else None
                if pending and pending.source == self._source and pending.asks(steps):
                    for _ in self._guarded(self._finish(pending)):
                        pass

    def run(self, questions: Sequence[Question]) -> Iterator[int]:
        """Ask the questions; yield, as they are done, numbers of their targets."""
        return self._guarded(self._run(questions))

    def _guarded(self, work: Iterator[int]) -> Iterator[int]:
        try:
            yield from work
        except (BudgetError, LLMError) as error:
            self.error = self.error or error

    @cached_property
    def _batches(self) -> OpenAIBatches:
        return OpenAIBatches(self._llm)

    def _run(self, questions: Sequence[Question]) -> Iterator[int]:
        waiting = [(one, self._batches.body(one.messages(), one.schema())) for one in questions]
        while waiting and not self.error:
            n, entry = self._reserve([body for _, body in waiting])
            pending = PendingBatch(
                key=uuid4().hex,
                source=self._source,
                entry=entry,
                bodies=tuple(body for _, body in waiting[:n]),
                questions=tuple(_pending(question) for question, _ in waiting[:n]),
                began=time.time(),
            )
            with self._lock(pending.key):
                self._write(pending)
                yield from self._finish(pending)
            waiting = waiting[n:]

    def _reserve(self, bodies: Sequence[JsonObject]) -> tuple[int, int]:
        """Reserve as many requests as the caps allow; return their number and the entry in the ledger."""
        sizes = accumulate(len(json.dumps(body)) for body in bodies[:_MAX_REQUESTS])
        n = max(1, sum(size <= _MAX_BYTES for size in sizes))
        while True:
            try:
                return n, self._budget.enter(self._batches.estimate(bodies[:n]))
            except BudgetError:
                if n == 1:
                    raise
                n //= 2

    def _finish(self, pending: PendingBatch) -> Iterator[int]:
        """Submit a batch if it was not, wait for it, and store its answers; yield numbers of targets."""
        sizes = [len(one.targets) for one in pending.questions]
        yielded = 0
        for status in self._statuses(pending):
            done = sum(sizes[: status.done])
            yield done - yielded
            yielded = done
        if status.reason is not None:
            self._close(pending, Usage())
            raise LLMError(
                f"{self._llm.name} refused the batch ({status.reason}); mend the cause, or leave --batch out",
                model=self._llm.name,
            )
        self._read(pending, status)
        yield sum(sizes) - yielded

    def _statuses(self, pending: PendingBatch) -> Iterator[BatchStatus]:
        """Yield the states of a batch until it is over."""
        if pending.batch is None:
            status = self._batches.submit(pending.key, pending.bodies)
            pending = pending.model_copy(update={"batch": status.id})
            self._write(pending)
        wait = 0.0
        while True:
            try:
                status = self._batches.status(pending.batch or "")
            except LLMError as error:
                if error.status == 404:  # deleted there: what it cost is unknown, and its estimate stays
                    self._file(pending.key).unlink(missing_ok=True)
                raise
            yield status
            if status.is_over:
                return
            wait = min(_LONGEST_WAIT_S, 2 * wait or _FIRST_WAIT_S)
            wait_for(f"batch {status.id} is {status.name}, {status.done} of {len(pending.bodies)} requests done", wait)

    def _read(self, pending: PendingBatch, status: BatchStatus) -> None:
        """Store answers and failures, then settle the ledger, then forget the batch: a kill between repeats all."""
        results = {result.index: result for result in self._batches.results(status)}
        missing = _NO_RESULT.get(status.name, "the batch holds no result")
        answers: dict[str, dict[Key, StoredAnswer]] = {}
        failures: dict[str, dict[Key, str]] = {}
        used = Usage()
        for i, one in enumerate(pending.questions):
            question = one.question()
            usage, outcomes = self._outcomes(question, results.get(i, BatchResult(i, None, missing)))
            used += usage
            for target, outcome in zip(question.targets, outcomes, strict=True):
                if isinstance(outcome, StoredAnswer):
                    self.coerced += outcome.is_coerced
                    self.unplaced += (UnplacedQuote.of(target.text, one.step.id, quote) for quote in outcome.quotes)
                    answers.setdefault(one.step.fingerprint, {})[target.key] = outcome
                else:
                    failures.setdefault(one.step.fingerprint, {})[target.key] = outcome.reason
        for step in {*answers, *failures}:
            self._store.put(self._source, step, answers.get(step, {}), failures.get(step, {}))
        self._close(pending, used)
        if not answers:
            reason = next((reason for reasons in failures.values() for reason in reasons.values()), missing)
            message = f"{self._llm.name} answered nothing in the batch ({reason}); run again, or leave --batch out"
            raise LLMError(message, model=self._llm.name)

    def _outcomes(
        self, question: Question, result: BatchResult
    ) -> tuple[Usage, Sequence[StoredAnswer | RejectedReply]]:
        n = len(question.targets)
        if result.completion is None:
            return Usage(), [RejectedReply(result.reason)] * n
        reply = self._batches.read(result.completion, question.schema(), question.accepts)
        if reply.data is None:
            return reply.usage, [RejectedReply(reply.error or "the reply holds no answer")] * n
        return reply.usage, question.read(reply.data)

    def _close(self, pending: PendingBatch, used: Usage) -> None:
        self.usage += used
        self._budget.close(pending.entry, used, time.time() - pending.began)
        self._file(pending.key).unlink(missing_ok=True)

    def _write(self, pending: PendingBatch) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(pending.key), pending.model_dump(mode="json", by_alias=True))

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _lock(self, key: str) -> FileLock:
        from filelock import FileLock

        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / f"{key}.lock", thread_local=False)


def _pending(question: Question) -> PendingQuestion:
    targets = tuple(PendingTarget(text=target.text, at=target.at) for target in question.targets)
    return PendingQuestion(step=question.step, targets=targets)
