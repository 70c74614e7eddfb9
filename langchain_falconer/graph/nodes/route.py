"""The route: an earlier answer, a proxy of the registry, the base, the LLM for a few texts, or training."""

from __future__ import annotations

from typing import Literal

from langchain_falconer.execute import BackendChoice, PartitionCache
from langchain_falconer.files import digest
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.routing import Route, Router, result_id
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.plan import Plan
from langchain_falconer.registry import exact_matches
from langchain_falconer.report import Cost, RunSummary
from langchain_falconer.tracing import span


def route(state: FalconerState, context: NodeContext) -> Update:
    """Choose a strategy, and compute the rows unless a proxy has yet to be trained; ``mine`` always trains."""
    options = context.options(state)
    if options is None:
        return {"routing": {"next": "sample"}}
    plan, dataset = context.plan(state), context.dataset(state)
    result = result_id(context, state, plan, dataset)
    with context.timed(state, "route") as seconds, span("falconer.route") as trace:
        earlier = context.home.results.find(result)
        if earlier is not None and not options.refresh and _is_final(earlier, plan, context):
            cached = earlier.model_copy(update={"cached": True, "cost": Cost(usd=0.0), "seconds": {}})
            return {"summary": cached.without_texts().model_dump(mode="json"), "routing": {"next": "end"}}
        router = Router(context, plan, dataset, options, bool(state.get("annotations")))
        chosen = router.choose(state)
        trace |= {
            "strategy": chosen.strategy.name,
            "proxy": chosen.strategy.proxy,
            "texts": router.stats.documents,
            "result": result,
        }
        routing = {
            "result": result,
            "decision": router.decision(chosen.strategy).model_dump(mode="json"),
            "annotator": chosen.annotator,
            "unanswered": chosen.unanswered,
            "answered_share": chosen.answered_share,
            "tokens_for_every_text": router.costs.strategy("llm", router.stats.passages).tokens,
            "documents": router.stats.documents,
            "next": "sample" if chosen.strategy.name == "train" else "report",
        }
        rows = {} if chosen.strategy.name == "train" else _run(chosen, router, context)
    return {"routing": routing, "messages": router.messages, **rows, "seconds": seconds}


def _is_final(earlier: RunSummary, plan: Plan, context: NodeContext) -> bool:
    """Return whether an answer stands: the LLM left out nothing, and no proxy has come that is better than a guess."""
    if earlier.unanswered:
        return False
    return not (earlier.is_untrained and exact_matches(context.home.registry.entries(), plan))


def _run(chosen: Route, router: Router, context: NodeContext) -> Update:
    """Compute the rows of the partitions that are missing."""
    proxy, answers = chosen.proxy, chosen.answers
    assert proxy is not None  # every strategy but training has one
    decided_by = proxy.fingerprint
    if answers:  # these very answers of the LLM decide the rows
        decided_by = f"llm {chosen.annotator} {digest([(a.text, repr(a.answers)) for a in answers])} {decided_by}"
    cache = PartitionCache(context.home.partitions, router.plan, decided_by)
    documents = router.stats.documents
    computed = cache.run(
        proxy,
        router.dataset,
        context.settings.run,
        known=answers,
        on_rows=lambda n: context.emit({"stage": "execute", "done": n, "total": documents}),
    )
    backend = None if answers else BackendChoice(name=proxy.session.name).model_dump(mode="json")
    entry = chosen.strategy.proxy
    return {
        "execution": {"computed": computed, "decided_by": decided_by, "backend": backend, "pace": {}},
        "quality": chosen.quality.model_dump(mode="json") if chosen.quality else None,
        "proxy": str(context.home.registry.path(entry)) if entry else None,
    }


def after_route(state: FalconerState) -> Literal["sample", "report", "__end__"]:
    """Return the node that follows."""
    following = state["routing"]["next"]
    return "__end__" if following == "end" else following
