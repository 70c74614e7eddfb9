"""The review of the plan by a person."""

from __future__ import annotations

from typing import Literal

from langgraph.types import interrupt
from pydantic import ValidationError

from langchain_falconer.annotate.pilot import Pilot
from langchain_falconer.errors import PlanError
from langchain_falconer.graph.context import Update
from langchain_falconer.graph.state import FalconerState, Review, ReviewRequest
from langchain_falconer.plan import Plan, to_mermaid, to_pseudocode

_ANSWER = {"anyOf": [Review.model_json_schema(), {"type": "string"}]}
"""What clients show a form for; the answer is validated here, so that one that does not fit is asked for again."""
_NOT_UNDERSTOOD = (
    "the answer was not understood; say approve or reject, or answer with an object: action approve, edit (with "
    "a plan) or reject (with a reason)"
)


def review(state: FalconerState) -> Update:
    """Show the plan, with the fault of an earlier edit, and apply the answer; an invalid edit is asked about again."""
    if state.get("auto_approve"):
        return {"review": {"action": "approve"}}
    plan = Plan.parse(state["plan"] or {})
    request: ReviewRequest = {
        "question": "Is this plan right?",
        "plan": plan.to_dict(),
        "pseudocode": to_pseudocode(plan),
        "mermaid": to_mermaid(plan),
    }
    if estimate := state.get("estimate"):
        request["estimate"] = estimate
    if wordings := [w for w in Pilot.model_validate(state.get("pilot") or {}).wordings if w.rewritten]:
        request["wordings"] = [wording.model_dump(mode="json") for wording in wordings]
    if error := state.get("review", {}).get("error"):
        request["error"] = error
    try:
        answer = Review.model_validate(interrupt(request, response_schema=_ANSWER))
    except ValidationError:
        return {"review": {"action": "again", "error": _NOT_UNDERSTOOD}}
    if answer.action != "edit":
        return {"review": {"action": answer.action, "reason": answer.reason}}
    try:
        return {"plan": Plan.parse(answer.plan or {}).to_dict(), "review": {"action": "approve"}}
    except PlanError as error:
        return {"review": {"action": "again", "error": str(error)}}


def after_review(state: FalconerState) -> Literal["route", "review", "reject"]:
    """Return the node that follows."""
    action = state["review"]["action"]
    return "route" if action == "approve" else "reject" if action == "reject" else "review"


def reject(state: FalconerState) -> Update:
    """Return the summary of a run whose plan was rejected."""
    reason = state["review"].get("reason") or "the plan was rejected"
    return {"summary": {"run_id": state["run_id"], "rejected": reason}}
