"""The plan: passed by the caller, written for this instruction before, or written now by the LLM."""

from __future__ import annotations

from langchain_falconer.errors import PlannerError, SettingsError
from langchain_falconer.execute import check_output, check_run
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.costs import estimate_annotation
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.llm import OpenAIBatches

_FRESH: Update = {
    "review": {},
    "routing": {},
    "sample": {},
    "round": 0,
    "needs_annotation": False,
    "annotation": {},
    "proxy": None,
    "training": {},
    "quality": None,
    "execution": {},
    "messages": [],
    "summary": {},
}


def plan(state: FalconerState, context: NodeContext) -> Update:
    """Check the input before anything is paid for, and plan."""
    with context.timed(state, "plan") as seconds:
        if output := state.get("output"):
            check_output(context.place(output), context.settings.run.row_unit)
        check_run(context.settings.run)
        _check_annotator(state, context)
        run_id = context.job_id(state)
        planned = not state.get("plan")
        plan = None if planned else context.plan(state)
        if plan is None and context.options(state) is not None:
            plan = context.home.registry.plan_for(state["instruction"])
        if plan is None:
            if context.llm is None:
                raise PlannerError("there is no LLM to write a plan; pass a plan (--plan FILE) or an LLM (--llm MODEL)")
            with context.store() as store:
                plan = context.home.plan(context.llm, state["instruction"], context.budget(store, run_id))
        estimate = None
        if context.options(state) is None and context.llm is not None and not state.get("annotations"):
            with context.store() as store:
                context.budget(store, run_id)  # refuses caps that cannot hold
            estimate = estimate_annotation(context, state, plan)
        if estimate and state.get("auto_approve"):
            context.emit({"note": str(estimate)})  # else the review shows it
    facts = {**estimate.model_dump(mode="json"), "summary": str(estimate)} if estimate else None
    return {
        **_FRESH,
        "run_id": run_id,
        "plan": plan.to_dict(),
        "estimate": facts,
        "planned": planned,
        "seconds": seconds,
    }


def _check_annotator(state: FalconerState, context: NodeContext) -> None:
    if context.settings.annotate.batch and context.llm is not None and not state.get("annotations"):
        OpenAIBatches(context.llm)  # refuses other models
    if context.options(state) is not None:
        return  # a trained proxy may answer; the router says so where none does
    has_llm, is_human = context.llm is not None, bool(state.get("annotations"))
    if not (has_llm or is_human or context.recorded is not None):
        raise SettingsError(
            "nothing can annotate the texts; name an LLM (--llm MODEL) or your own labels (--annotations FILE)"
        )
    targets = context.targets(state)
    if targets and (not has_llm or is_human):
        raise SettingsError(
            f"a target {next(iter(targets.shares))} needs an LLM that decides where the proxy is not confident; "
            "drop it or pass --llm without --annotations",
            field="targets",
        )
