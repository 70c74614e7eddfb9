"""The review of the plan by a person."""

from __future__ import annotations

from langchain_falconer.errors import PlanError
from langchain_falconer.graph.context import Update
from langchain_falconer.graph.state import FalconerState, Review, ReviewRequest
from langchain_falconer.plan import Plan, to_mermaid, to_pseudocode


def question(state: FalconerState) -> ReviewRequest:
    """Return what the reviewer is shown: the plan in three forms, and the fault of an earlier edit."""
    plan = Plan.parse(state["plan"] or {})
    request: ReviewRequest = {
        "question": "Is this plan right?",
        "plan": plan.to_dict(),
        "pseudocode": to_pseudocode(plan),
        "mermaid": to_mermaid(plan),
    }
    if error := state.get("review", {}).get("error"):
        request["error"] = error
    return request


def decided(review: Review) -> Update:
    """Apply the reviewer's decision; an invalid edit is asked about again."""
    if review.action == "edit":
        try:
            plan = Plan.parse(review.plan or {})
        except PlanError as error:
            return {"review": {"action": "again", "error": str(error)}}
        return {"plan": plan.to_dict(), "review": {"action": "approve"}}
    return {"review": {"action": review.action, "reason": review.reason}}


def reject(state: FalconerState) -> Update:
    """Return the summary of a run whose plan was rejected."""
    return {
        "summary": {"run_id": state["run_id"], "rejected": state["review"].get("reason") or "the plan was rejected"}
    }
