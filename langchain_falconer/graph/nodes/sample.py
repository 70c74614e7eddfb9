"""The sample: one pass over the corpus in which unreadable rows show and the texts to annotate are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from langchain_falconer.annotate import has_answers, read_annotations, store_annotations
from langchain_falconer.annotate.candidates import PossibleAnswer
from langchain_falconer.annotate.splits import Sample, extend, sample_annotated, sample_for_llm, sample_recorded
from langchain_falconer.corpus import KeyCollector
from langchain_falconer.errors import SettingsError
from langchain_falconer.execute import check_targets, required_annotations, target_hints
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import LABEL_SCALE, HeadIndex, ZeroShotEncoder
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.settings import Targets
from langchain_falconer.train import check_metrics

_SPAN_BIAS = -4.0  # a passage whose cosine to the question is a quarter is as likely to have a span as not


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
            sample = _drawn(state, context, plan)
            sample.save(file)
        elif sample.remaining and state.get("sample") == sample.counts():  # these texts are annotated
            sample = _extended(sample, state, context, plan)
            sample.save(file)
        if targets and not state.get("sample"):
            _check_budget(state, context, targets, sample)
    return {"sample": sample.counts(), "seconds": seconds}


def after_annotate(state: FalconerState) -> Literal["sample", "train"]:
    """Return the node that follows an annotation: the sample where texts remain to be drawn, else the training."""
    is_over = state.get("annotation", {}).get("stopped") or not state.get("sample", {}).get("remaining")
    return "train" if is_over else "sample"


def _drawn(state: FalconerState, context: NodeContext, plan: Plan) -> Sample:
    settings = context.settings
    for column in context.corpus(state).guessed_columns:
        if column.lower() != "text":
            context.emit({"note": f"the text is the column '{column}', by its name; --text-column names another"})
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
    keys = KeyCollector(max(1, settings.indexed))
    sample = sample_for_llm(passages, keys.watch(passages), settings)
    if not sample.remaining:
        return sample
    context.save_passage_keys(state, keys)
    return _extended(sample, state, context, plan)


def _extended(sample: Sample, state: FalconerState, context: NodeContext, plan: Plan) -> Sample:
    """Add the next part of the training texts."""
    index = context.passage_index(state)
    with context.store() as store:
        annotations = context.annotations(store, state, sample.train)
    return extend(
        sample, index, possible_answers(plan.top_level, context.embedder.encoder), annotations, context.settings
    )


def possible_answers(steps: Sequence[LabelStep | SpanStep], encoder: ZeroShotEncoder) -> list[PossibleAnswer]:
    """Return the answers that steps may give, as linear classifiers that their words make of them.

    For labels these are the query heads of the untrained network, which scores a passage by its embedding; an option of
    a choice is compared with the mean of all. For spans it is the similarity to the question.
    """
    index = HeadIndex.of(steps)
    heads, (spans, _, _) = encoder.heads(index), encoder.vectors(index)
    possible: list[PossibleAnswer] = []
    for step in steps:
        if isinstance(step, SpanStep):
            possible.append(PossibleAnswer(step.id, None, LABEL_SCALE * spans[index.span_row[step.id]], _SPAN_BIAS))
            continue
        rows = index.label_rows[step.id]
        weights, biases = LABEL_SCALE * heads.label_weight[rows], heads.label_bias[rows]
        if step.kind == "yes_no":
            weights, biases = np.vstack([weights, -weights]), np.append(biases, -biases)
        elif step.kind == "choice":
            weights, biases = weights - weights.mean(0), biases - biases.mean()
        values: Sequence[bool | str] = (True, False) if step.kind == "yes_no" else step.names
        for value, weight, bias in zip(values, weights, biases.tolist(), strict=True):
            possible.append(PossibleAnswer(step.id, value, weight, bias))
    return possible


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
        learn += sample.remaining
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
