"""The state of the graph: plain JSON and references; texts, annotations, weights and rows lie in the home."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import NotRequired, TypedDict  # typing's own breaks LangGraph's schemas below Python 3.12

from langchain_falconer.plan import PlanData
from langchain_falconer.records import JsonObject
from langchain_falconer.settings import Trust


class AskOptions(BaseModel):
    """Options of a question that is routed to the cheapest strategy.

    Attributes:
        quality: Agreement with the LLM that the answer must reach, with the lower end of its 95% interval, in (0, 1).
        trust: When a proxy that was not trained on the question is accepted.
        refresh: Compute the answer again, although the same question was answered before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality: float | None = Field(default=None, gt=0, lt=1)
    trust: Trust = Trust()
    refresh: bool = False


class FalconerInput(TypedDict):
    """The input of a run."""

    instruction: str
    corpus: list[str]
    """Paths or URLs of files or folders, read one after the other."""
    output: NotRequired[str | None]
    """File or URL of the rows (.jsonl, .parquet or .duckdb)."""
    plan: NotRequired[PlanData | None]
    """A plan; without one the LLM writes it."""
    annotations: NotRequired[str | None]
    """A file of a person's annotations (JSONL); with them no LLM is asked about texts."""
    corrections: NotRequired[str | None]
    """A file of a person's corrections of the LLM's answers (JSONL), which count from now on in this home."""
    auto_approve: NotRequired[bool]
    """Skip the review of the plan."""
    ask: NotRequired[JsonObject | None]
    """:class:`AskOptions`; with them the question goes to the cheapest strategy, without them a proxy is trained."""
    dataset: NotRequired[Mapping[str, object] | None]
    """Name and partitions of a stored corpus (``Dataset.to_dict``); without them the files are one partition."""


class FalconerOutput(TypedDict):
    """The output of a run."""

    plan: PlanData
    summary: JsonObject
    """A :class:`RunSummary` as JSON data; ``{"run_id", "rejected"}`` where the plan was rejected."""


class ReviewState(TypedDict, total=False):
    """The reviewer's decision; after an invalid edit ``again``, with its fault."""

    action: Literal["approve", "reject", "again"]
    reason: str | None
    error: str


class RoutingState(TypedDict, total=False):
    """The strategy for a question, and the node that follows."""

    next: Literal["sample", "report", "end"]
    result: str
    decision: JsonObject
    annotator: str | None
    unanswered: int
    answered_share: float
    tokens_for_every_text: int
    documents: int


class AnnotationState(TypedDict, total=False):
    """Counts of the annotation, and the reason why it ended early."""

    source: str
    answered: int
    failed: int
    tokens: int
    rejected_quotes: int
    coerced: int
    stopped: str | None
    over_budget: bool
    self_agreement: JsonObject | None
    accuracy: JsonObject | None
    llm_seconds_per_text: float | None


class ExecutionState(TypedDict, total=False):
    """The rows, and what computed them: of a run output and guarantee, of a question what decided the rows."""

    rows: JsonObject
    output: str
    exact_rows: str
    backend: JsonObject | None
    pace: dict[str, float | None]
    guarantee: JsonObject | None
    computed: int
    decided_by: str


class FalconerState(FalconerInput):
    """The state between the nodes."""

    run_id: NotRequired[str]
    estimate: NotRequired[JsonObject | None]
    planned: NotRequired[bool]
    """Whether the LLM wrote the plan."""
    pilot: NotRequired[JsonObject | None]
    review: NotRequired[ReviewState]
    routing: NotRequired[RoutingState]
    sample: NotRequired[dict[str, int]]
    round: NotRequired[int]
    needs_annotation: NotRequired[bool]
    annotation: NotRequired[AnnotationState]
    proxy: NotRequired[str | None]
    training: NotRequired[JsonObject]
    quality: NotRequired[JsonObject | None]
    learning_curve: NotRequired[JsonObject]
    execution: NotRequired[ExecutionState]
    seconds: NotRequired[dict[str, float]]
    messages: NotRequired[list[str]]
    summary: NotRequired[JsonObject]


class ProgressEvent(TypedDict):
    """A progress event of a run: the same from the graph, the facade and the tools.

    Attributes:
        type: ``falconer``, which tells it from the events of other nodes and tools.
        stage: The node that reports.
        event: ``begin`` or ``end`` of a stage.
        done: Units of work done so far: texts, or steps of training.
        total: Units of work in all.
        seconds: At the end of a stage: how long it took.
        loss: Of a step of training.
        note: A remark that the user should see.
    """

    type: Literal["falconer"]
    stage: str
    event: NotRequired[Literal["begin", "end"]]
    done: NotRequired[int]
    total: NotRequired[int]
    seconds: NotRequired[float]
    loss: NotRequired[float]
    note: NotRequired[str]


class ReviewRequest(TypedDict):
    """The plan as the reviewer sees it.

    Attributes:
        question: What is asked of the reviewer.
        plan: The plan as JSON data.
        pseudocode: The plan as pseudo-Python.
        mermaid: The plan as a Mermaid drawing.
        estimate: What annotation is expected to cost (``AnnotationEstimate`` as JSON data), and ``summary``, its
            sentence; absent where no LLM annotates.
        wordings: Questions on which the LLM's two answers differed in a pilot, each with its other wording and the
            agreement before and after (``Wording`` as JSON data). The plan holds the better one where the LLM wrote it.
        error: What was wrong with an earlier edit.
    """

    question: str
    plan: PlanData
    pseudocode: str
    mermaid: str
    estimate: NotRequired[JsonObject]
    wordings: NotRequired[list[JsonObject]]
    error: NotRequired[str]


_WORDS: dict[str, str] = {
    **dict.fromkeys(("approve", "approved", "accept", "yes", "y", "ok", "okay", "go", "continue"), "approve"),
    **dict.fromkeys(("reject", "rejected", "no", "n", "stop", "cancel"), "reject"),
}


class Review(BaseModel):
    """A person's answer to the plan. A plain word stands for an action: ``Review.model_validate("yes")``.

    Attributes:
        action: ``approve``, ``edit`` or ``reject``.
        plan: With ``edit``: the plan to use instead.
        reason: With ``reject``: why.
    """

    model_config = ConfigDict(extra="forbid")

    action: Literal["approve", "edit", "reject"]
    plan: JsonObject | None = None
    reason: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, answer: object) -> object:
        if isinstance(answer, bool):
            return {"action": "approve" if answer else "reject"}
        data = {"action": answer} if isinstance(answer, str) else answer
        if not isinstance(data, Mapping) or not isinstance(action := data.get("action"), str):
            return data
        word = action.strip().strip(".!").lower()
        return {**data, "action": _WORDS.get(word, word)}
