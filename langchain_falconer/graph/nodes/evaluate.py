"""The evaluation: agreement with the annotator on test texts, which chose nothing; and whether to annotate more."""

from __future__ import annotations

from pathlib import Path

from langchain_falconer.annotate import next_round
from langchain_falconer.annotate.splits import Sample
from langchain_falconer.evaluate import LearningCurve, Quality, RoundsEnd
from langchain_falconer.execute import escalation_forecast
from langchain_falconer.files import write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.measurements import (
    Measurement,
    learning_curve,
    measure,
    read_measurements,
    write_measurements,
)
from langchain_falconer.graph.nodes.train import measured, start_of, zero_shot
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.graph.suspects import write_suspects
from langchain_falconer.model import Proxy

_ROUNDS_FOR_A_TARGET = 4


def evaluate(state: FalconerState, context: NodeContext) -> Update:
    """Measure the proxy on test texts; while development texts speak for it, move doubtful texts to the next round."""
    plan, sample = context.plan(state), context.sample(state)
    proxy = Proxy.load(state["proxy"] or "")
    start = zero_shot(plan, start_of(proxy, context), context)
    with context.timed(state, "evaluate") as seconds:
        with context.store() as store:
            test = context.annotations(store, state, sample.test)
            write_suspects(state, context, store, proxy)
        quality = measured(plan, proxy, test)
        facts = quality.without_texts().model_dump(mode="json") if quality else None
        if quality:
            write_json(context.quality_file(state), quality.model_dump(mode="json"))
        _say_what_targets_cost(quality, state, context)
        proxy.update_manifest(quality=facts, annotator=context.source(state))
        curve = _curve(state, context, sample, proxy, start)
        if curve.ended_by is None:
            sample = _next_round(state, context, sample, proxy, start)
        sample.save(context.sample_file(state, state["round"] + 1))
    return {
        "quality": facts,
        "learning_curve": curve.model_dump(mode="json"),
        "sample": sample.counts(),
        "round": state["round"] + 1,
        "needs_annotation": curve.ended_by is None,
        "seconds": seconds,
    }


def _say_what_targets_cost(quality: Quality | None, state: FalconerState, context: NodeContext) -> None:
    targets = context.targets(state)
    if quality and targets:
        drawn = len(context.certification_sample(state))
        if forecast := escalation_forecast(targets, drawn, quality.agreement.value):
            context.emit({"note": forecast})


def _curve(
    state: FalconerState, context: NodeContext, sample: Sample, proxy: Proxy, start: Proxy | None
) -> LearningCurve:
    """Measure the proxy of this round, and decide whether another follows.

    What was measured before stays as it was, LLM calls included: a job that is run again has the same curve.
    """
    file, name = context.learning_curve_file(state), Path(state["proxy"] or "").name
    known = read_measurements(file)
    earlier = [one for one in known if one.round < state["round"]]
    own = [one for one in known if one.round == state["round"]]
    later = [one for one in known if one.round > state["round"]]
    if any(one.proxy == name for one in earlier):
        own = []  # nothing new was annotated
    elif all(one.proxy != name for one in own):
        own = _measure(state, context, sample, proxy, start)
    curve = learning_curve([*earlier, *own])
    if end := _end(state, context, sample, curve):
        curve = curve.model_copy(update=dict(zip(("ended_by", "reason"), end, strict=True)))
    write_measurements(file, [*earlier, *own, *later], curve)
    return curve


def _measure(
    state: FalconerState, context: NodeContext, sample: Sample, proxy: Proxy, start: Proxy | None
) -> list[Measurement]:
    """Measure the proxy, and in the first round what it started from too."""
    with context.store() as store:
        train, development, test = (
            context.annotations(store, state, texts) for texts in (sample.train, sample.development, sample.test)
        )
        calls = store.spent(state["run_id"]).calls
    candidates = [(Path(state["proxy"] or "").name, proxy, len(train), calls)]
    if start and state["round"] == 0:
        candidates.insert(0, ("untrained", start, 0, 0))
    measurements = []
    for name, candidate, n_annotations, spent in candidates:
        point, counts = measure(candidate, development, test, n_annotations, spent)
        measurements.append(Measurement(round=state["round"], proxy=name, point=point, counts=counts))
    return measurements


def _end(
    state: FalconerState, context: NodeContext, sample: Sample, curve: LearningCurve
) -> tuple[RoundsEnd, str] | None:
    """Return why no further round of annotation follows; None where one does."""
    targets, settings, annotation = context.targets(state), context.settings, state.get("annotation", {})
    target = targets.agreement if targets else None
    most = settings.max_rounds or (1 if target is None else _ROUNDS_FOR_A_TARGET)
    reached, gain = curve.points[-1].development, curve.forecast
    if context.llm is None or state.get("annotations"):
        return "annotator", "no LLM answers questions about more texts"
    if reached and target is not None and reached.value >= target:
        return (
            "target",
            f"the agreement on development texts, {reached.value:.0%}, has reached its target, {target:.0%}",
        )
    if stopped := annotation.get("stopped"):
        return "budget" if annotation.get("over_budget") else "annotator", f"annotation ended early: {stopped}"
    if state["round"] + 1 >= most:
        rounds = "one round" if most == 1 else f"{most} rounds"
        return "limit", f"{rounds} of annotation may be made; --max-rounds allows more"
    if not sample.pool:
        return "texts", "no text of the corpus is left to annotate"
    if reached is None:
        return "texts", "there is no development text to decide on further rounds; annotate more texts"
    if gain and gain.gain < settings.min_gain:
        return "plateau", (
            f"{gain.calls} more LLM calls are forecast to gain {gain.gain:.1%} of agreement ({gain.level:.0%} interval "
            f"{gain.low:.1%} to {gain.high:.1%}), and {settings.min_gain:.1%} would be worth a round"
        )
    return None


def _next_round(
    state: FalconerState, context: NodeContext, sample: Sample, proxy: Proxy, start: Proxy | None
) -> Sample:
    """Return the sample of the next round; the one that was drawn before, where the job is run again."""
    drawn = Sample.load(context.sample_file(state, state["round"] + 1))
    if drawn and drawn.train[: len(sample.train)] == sample.train and len(drawn.train) > len(sample.train):
        return drawn
    return next_round(
        proxy.plan,
        sample,
        proxy.answers(sample.pool),
        context.settings.round_annotations,
        context.settings.seed + state["round"],
        others=start.answers(sample.pool) if start else None,
        vectors=context.embedder(sample.pool),
    )
