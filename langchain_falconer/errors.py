"""Exceptions, as one tree. Each message is one sentence that names the fix; attributes hold what a caller acts on.

The underlying exception, where there is one, is ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import ValidationError


def first_line(error: BaseException, limit: int | None = 160) -> str:
    """Return the first line of an error's message, at most ``limit`` characters of it."""
    return next(iter(str(error).strip().splitlines()), "")[:limit]


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Return the dotted name of the first field that pydantic refuses (empty for the whole), and why."""
    fault = error.errors(include_url=False)[0]
    return ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")


class FalconerError(Exception):
    """Base of every error that Falconer raises deliberately."""


@dataclass(frozen=True, slots=True)
class PlanIssue:
    """One fault of a plan.

    Attributes:
        message: The fault and its fix, in one sentence.
        step: Id of the step; ``None`` where the fault concerns the whole plan.
        field: Field of the step, such as ``where`` or ``labels``; ``None`` where it concerns the whole step.
    """

    message: str
    step: str | None = None
    field: str | None = None


class PlanError(FalconerError):
    """An invalid plan.

    Attributes:
        issues: Every fault, in the order of the steps.
    """

    def __init__(self, message: str, issues: Sequence[PlanIssue] = ()) -> None:
        super().__init__(message)
        self.issues = tuple(issues) or (PlanIssue(message),)


class PlannerError(PlanError):
    """The LLM gave no valid plan."""


class RefusedError(PlanError):
    """An instruction that labels and spans of single texts cannot answer.

    Attributes:
        reason: Why not.
        offer: What could be done instead; empty where there is nothing.
    """

    def __init__(self, reason: str, offer: str = "") -> None:
        instead = f"try instead: {offer}" if offer else "ask for what single texts say"
        super().__init__(f"this cannot be answered by labels and spans of single texts ({reason}); {instead}")
        self.reason, self.offer = reason, offer


class CorpusError(FalconerError):
    """Texts that cannot be read.

    Attributes:
        path: File or URL without credentials.
        row: Number of the row or line, from 1.
        column: Name of the column.
    """

    def __init__(
        self, message: str, *, path: str | Path | None = None, row: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.path, self.row, self.column = path, row, column


class AnnotationError(FalconerError):
    """Annotations that cannot be used.

    Attributes:
        path: File of annotations.
        row: Number of the line, from 1.
        step: Id of the step.
    """

    def __init__(
        self, message: str, *, path: str | Path | None = None, row: int | None = None, step: str | None = None
    ) -> None:
        super().__init__(message)
        self.path, self.row, self.step = path, row, step


class BudgetError(AnnotationError):
    """A limit on calls, tokens or USD leaves too little to continue.

    Attributes:
        cap: Name of the limit: ``max_calls``, ``max_tokens`` or ``max_usd``.
        limit: Its value.
        spent: Amount used so far, in the unit of the limit.
    """

    def __init__(
        self, message: str, *, cap: str | None = None, limit: float | None = None, spent: float | None = None
    ) -> None:
        super().__init__(message)
        self.cap, self.limit, self.spent = cap, limit, spent


LLMErrorKind = Literal["content", "length", "request", "access", "server"]
"""What refused an LLM call: the provider's content filter, the context length, or this request for another reason (all
three concern the texts in it); or access to the model, or the server (which say nothing about a text)."""


class LLMError(FalconerError):
    """The LLM could not be loaded, reached or parsed.

    Attributes:
        model: Name of the model.
        status: HTTP status of the last attempt; ``None`` where there was no response.
        attempts: Number of attempts made.
        kind: What refused the call; ``None`` where no call was made.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        status: int | None = None,
        attempts: int | None = None,
        kind: LLMErrorKind | None = None,
    ) -> None:
        super().__init__(message)
        self.model, self.status, self.attempts, self.kind = model, status, attempts, kind

    @property
    def concerns_text(self) -> bool:
        """Whether another text may well be answered."""
        return self.kind in ("content", "length", "request")


class ProxyError(FalconerError):
    """A proxy that cannot be trained, loaded, exported or used.

    Attributes:
        path: Folder or archive of the proxy.
        step: Id of the step.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, step: str | None = None) -> None:
        super().__init__(message)
        self.path, self.step = path, step


class RunError(FalconerError):
    """A run that cannot start or continue.

    Attributes:
        path: Output, folder or file concerned.
    """

    def __init__(self, message: str, *, path: str | Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class SettingsError(FalconerError):
    """Settings that contradict each other.

    Attributes:
        field: Name of the setting.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
