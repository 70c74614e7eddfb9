"""The review of the plan by a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from langgraph.types import interrupt
from pydantic import ValidationError

from langchain_falconer.annotate.pilot import Pilot
from langchain_falconer.errors import PlanError
from langchain_falconer.graph.context import Update
from langchain_falconer.graph.state import ClarificationData, FalconerState, Review, ReviewRequest
from langchain_falconer.plan import Plan, to_mermaid, to_pseudocode

_ANSWER = {"anyOf": [Review.model_json_schema(), {"type": "string"}]}
"""What clients show a form for; the answer is validated here, so that one that does not fit is asked for again."""
_NOT_UNDERSTOOD = (
    "the answer was not understood; say approve or reject, say in several words what to change, or answer with an "
    "object: action approve, edit (with a plan), reply (with a reply) or reject (with a reason)"
)
_NEXT: Mapping[str, Literal["route", "plan", "review", "reject"]] = {
    "approve": "route",
    "reply": "plan",
    "again": "review",
    "reject": "reject",
}


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
    before = state.get("review", {})
    if questions := before.get("questions"):
        request["questions"] = questions
    if error := before.get("error"):
        request["error"] = error
    try:
        answer = Review.model_validate(interrupt(request, response_schema=_ANSWER))
    except ValidationError:
        return {"review": {**before, "action": "again", "error": _NOT_UNDERSTOOD}}
    if answer.action == "reply":
        return _replied(state, answer.reply or "")
    if answer.action != "edit":
        return {"review": {"action": answer.action, "reason": answer.reason}}
    try:
        return {"plan": Plan.parse(answer.plan or {}).to_dict(), "review": {"action": "approve"}}
    except PlanError as error:
        return {"review": {**before, "action": "again", "error": str(error)}}


def _replied(state: FalconerState, reply: str) -> Update:
    before = state.get("review", {})
    fault = None if reply.strip() else "the reply is blank; say what to change, or approve"
    if not state.get("planned"):
        fault = "the plan was passed and not written from words; edit it, or say approve or reject"
    if fault:
        return {"review": {**before, "action": "again", "error": fault}}
    said: ClarificationData = {"question": " ".join(before.get("questions", ())), "reply": reply.strip()}
    return {"plan": None, "review": {"action": "reply", "clarifications": [*before.get("clarifications", ()), said]}}


def after_review(state: FalconerState) -> Literal["route", "plan", "review", "reject"]:
    """Return the node that follows."""
    return _NEXT[state["review"]["action"]]


def reject(state: FalconerState) -> Update:
    """Return the summary of a run whose plan was rejected."""
    reason = state["review"].get("reason") or "the plan was rejected"
    return {"summary": {"run_id": state["run_id"], "rejected": reason}}
