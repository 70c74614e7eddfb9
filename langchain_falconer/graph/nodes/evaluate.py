"""The evaluation: agreement with the annotator on test texts, which chose nothing; and whether to annotate more."""

from __future__ import annotations

from langchain_falconer.annotate.splits import Sample, next_round
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.nodes.train import measured
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.graph.suspects import write_suspects
from langchain_falconer.model import Proxy


def evaluate(state: FalconerState, context: NodeContext) -> Update:
    """Measure the proxy on test texts; while development texts speak for it, move uncertain texts to the next round."""
    plan, sample = context.plan(state), context.sample(state)
    proxy = Proxy.load(state["proxy"] or "")
    with context.timed(state, "evaluate") as seconds, context.store() as store:
        test, development = (context.annotations(store, state, part) for part in (sample.test, sample.development))
        quality = measured(plan, proxy, test)
        facts = quality.model_dump(mode="json") if quality else None
        write_suspects(state, context, store, proxy)
        proxy.update_manifest(quality=facts, annotator=context.source(state))
        chosen = measured(plan, proxy, development)
        needs_annotation = chosen is not None and _needs_annotation(state, context, chosen.agreement.value, sample)
        if needs_annotation:
            sample = next_round(sample, proxy.confidence(sample.pool), context.settings.round_annotations)
        sample.save(context.sample_file(state, state["round"] + 1))
    return {
        "quality": facts,
        "sample": sample.counts(),
        "round": state["round"] + 1,
        "needs_annotation": needs_annotation,
        "seconds": seconds,
    }


def _needs_annotation(state: FalconerState, context: NodeContext, agreement: float, sample: Sample) -> bool:
    targets = context.targets(state)
    if targets is None or targets.agreement is None or agreement >= targets.agreement:
        return False
    stopped = state.get("annotation", {}).get("stopped")
    return not stopped and bool(sample.pool) and state["round"] + 1 < context.settings.max_rounds
