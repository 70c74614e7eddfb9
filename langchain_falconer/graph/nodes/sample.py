"""The sample: one pass over the corpus in which unreadable rows show and the texts to annotate are drawn."""

from __future__ import annotations

from pathlib import Path

from langchain_falconer.annotate import has_answers, read_annotations, store_annotations
from langchain_falconer.annotate.splits import Sample, sample_annotated, sample_for_llm, sample_recorded
from langchain_falconer.errors import SettingsError
from langchain_falconer.execute import check_targets, required_annotations, target_hints
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import Embedder
from langchain_falconer.plan import Plan
from langchain_falconer.settings import Targets
from langchain_falconer.train import check_metrics


def sample(state: FalconerState, context: NodeContext) -> Update:
    """Draw the sample, and refuse targets that cannot be certified before any text is paid for."""
    plan, targets = context.plan(state), context.targets(state)
    check_metrics(plan, context.settings.metrics)
    if targets:
        check_targets(targets, plan)
    with context.timed(state, "sample") as seconds:
        file = context.sample_file(state, 0)
        sample = Sample.load(file)
        if sample is None:
            sample = _draw(state, context, plan)
            sample.save(file)
        if targets:
            _check_budget(state, context, targets, sample)
    return {"sample": sample.counts(), "seconds": seconds}


def _draw(state: FalconerState, context: NodeContext, plan: Plan) -> Sample:
    settings = context.settings
    passages = context.passages(state)
    if file := state.get("annotations"):
        annotations = read_annotations(Path(file), plan)
        with context.store() as store:
            store_annotations(store, plan, annotations, context.stored_source(state))
        return sample_annotated(annotations, passages, settings)
    if context.llm is None:
        source = context.stored_source(state)
        with context.store() as store:
            return sample_recorded(passages, lambda texts: has_answers(store, plan, texts, source), settings)
    return sample_for_llm(passages, plan, settings, Embedder(settings.base))


def _check_budget(state: FalconerState, context: NodeContext, targets: Targets, sample: Sample) -> None:
    rows = context.certification_sample(state)
    required = required_annotations(targets, len(rows), sample.documents - sample.bad_rows)
    for hint in target_hints(targets, len(rows)):
        context.emit({"note": hint})
    if (limit := context.settings.budget.max_calls) is None:
        return
    plan, to_learn = context.plan(state), {*sample.held_out, *sample.train}
    with context.store() as store:
        learn, certify = (
            has_answers(store, plan, list(texts), context.stored_source(state)).count(False)
            for texts in (to_learn, {*rows.values()} - to_learn)
        )
        spent = store.spent(state["run_id"]).calls
    steps = sum(step.where is None for step in plan.top_level)
    calls = spent + steps * sum(-(-n // context.settings.annotate.texts_per_call) for n in (learn, certify))
    if certify and calls > limit:
        raise SettingsError(
            f"max_calls of {limit} cannot certify the targets: to annotate {learn} texts to learn from and {certify} "
            f"more to certify takes at least {calls} calls; raise it, or let fewer texts certify (--certify, at least "
            f"{required})",
            field="budget.max_calls",
        )
