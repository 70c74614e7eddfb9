"""The pilot: a few texts answered in two wordings, before the review of the plan."""

from __future__ import annotations

from langchain_falconer.annotate.pilot import Pilot, pilot_budget, run_pilot
from langchain_falconer.annotate.splits import has_pilot, pilot_texts
from langchain_falconer.errors import CorpusError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import FalconerState


def pilot(state: FalconerState, context: NodeContext) -> Update:
    """Have a few texts answered twice; take the better wordings into a plan that the LLM wrote.

    A plan that was passed stays as it is: the better wordings are shown in its review.
    """
    is_left_out = state.get("annotations") or context.options(state) is not None or not has_pilot(context.settings)
    if context.llm is None or is_left_out:
        return {"pilot": None}
    plan = context.plan(state)
    with context.timed(state, "pilot") as seconds:
        file = context.folder(state) / "pilot.json"
        if (data := read_json(file)) is None:
            if not (texts := _texts(state, context)):
                return {"pilot": None}
            settings = context.settings
            with context.store() as store:
                budget = pilot_budget(store, state["run_id"], settings.budget, context.llm.price() is not None)
                memory = context.folder(state) / "rewritten.json"
                online = settings.annotate.model_copy(update={"batch": False})  # a person waits for it
                found = run_pilot(context.llm, store, plan, texts, budget, online, memory)
            data = found.model_dump(mode="json")
            if found.stopped is None:
                write_json(file, data)
        found = Pilot.model_validate(data)
        for wording in found.wordings:
            if wording.is_better:
                context.emit({"note": f"step '{wording.step}' is clearer as: {wording.rewritten}"})
    chosen = found.better(plan) if state.get("planned") else plan
    return {"pilot": data, "plan": chosen.to_dict(), "seconds": seconds}


def _texts(state: FalconerState, context: NodeContext) -> list[str]:
    try:
        return pilot_texts(context.passages(state), context.settings)
    except CorpusError:
        return []  # left to the stage that reads the whole corpus, which says why
