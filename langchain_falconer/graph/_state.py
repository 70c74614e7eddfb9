"""What travels through the graph: plain JSON and references; texts, annotations, weights and rows live in the home."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from typing_extensions import NotRequired, TypedDict  # typing's own breaks LangGraph's schemas below Python 3.12


class FalconerInput(TypedDict):
    """What a run starts from."""

    instruction: str
    corpus: list[str]
    """Paths of files or folders, read one after the other."""
    output: NotRequired[str | None]
    """Where the rows go (.jsonl, .parquet or .duckdb)."""
    plan: NotRequired[dict[str, Any] | None]
    """A plan that is there already; without one the LLM writes it."""
    annotations: NotRequired[str | None]
    """A person's annotations (JSONL); with them no LLM is asked about texts."""
    auto_approve: NotRequired[bool]
    """Go past the review without asking."""


class FalconerOutput(TypedDict):
    """What a run ends with."""

    plan: dict[str, Any]
    summary: dict[str, Any]
    """Counts, quality with its interval, cost, pace, and where rows, report and proxy lie."""


class FalconerState(FalconerInput):
    """Everything in between."""

    run_id: NotRequired[str]
    review: NotRequired[dict[str, Any]]
    sample: NotRequired[dict[str, Any]]
    round: NotRequired[int]
    again: NotRequired[bool]
    annotation: NotRequired[dict[str, Any]]
    proxy: NotRequired[str]
    training: NotRequired[dict[str, Any]]
    quality: NotRequired[dict[str, Any]]
    execution: NotRequired[dict[str, Any]]
    seconds: NotRequired[dict[str, float]]
    notes: NotRequired[list[str]]
    summary: NotRequired[dict[str, Any]]


class Review(BaseModel):
    """A person's answer to the plan."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["approve", "edit", "reject"]
    plan: dict[str, Any] | None = None
    """With ``edit``: the plan to use instead."""
    reason: str | None = None
    """With ``reject``: why."""
