"""The report: the summary of a run, typed, and the HTML report beside it; of a question, the stored result."""

from __future__ import annotations

from pathlib import Path

from langchain_falconer.evaluate import Quality
from langchain_falconer.execute import PartitionCache, RowCounts, read_rows
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.estimation import estimate_counts
from langchain_falconer.graph.routing import in_words, reaches
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.graph.suspects import read_suspects, trust_messages
from langchain_falconer.model import Proxy
from langchain_falconer.report import (
    Cost,
    Decision,
    Evidence,
    QualityTarget,
    RunSummary,
    TrainingSummary,
    find,
    render_html,
)


def report(state: FalconerState, context: NodeContext) -> Update:
    """Build the summary; write the HTML report of a run, or store the result of a question."""
    with context.timed(state, "report") as seconds:
        if state.get("ask") is not None:
            summary = _store_result(state, context)
        else:
            file = context.folder(state) / "report.html"
            summary = _summary(state, context).model_copy(update={"report": str(file)})
            rows = read_rows(context.place(summary.exact_rows or summary.output))
            render_html(summary, rows, file, evidence=Evidence.of(context.folder(state)))
    summary = summary.model_copy(update={"seconds": {name: round(value, 2) for name, value in seconds.items()}})
    if summary.result:
        context.home.results.save(summary.result, summary)
    else:
        write_json(context.summary_file(state), summary.model_dump(mode="json"))
    return {"summary": summary.without_texts().model_dump(mode="json"), "seconds": seconds}


def _store_result(state: FalconerState, context: NodeContext) -> RunSummary:
    """Join the rows of all partitions, and collect the findings."""
    plan, dataset, routing, execution = (
        context.plan(state),
        context.dataset(state),
        state["routing"],
        state["execution"],
    )
    decision = Decision.model_validate(routing["decision"])
    if decision.chosen.name == "train":
        proxy = Proxy.load(state["proxy"] or "")
        # With targets the LLM's answers are among the rows, so that they belong to this result alone.
        belongs_to = proxy.fingerprint if context.targets(state) is None else f"{proxy.fingerprint} {routing['result']}"
        cache = PartitionCache(context.home.partitions, plan, belongs_to)
        cache.adopt(dataset, Path(execution["output"]))
        chosen = decision.chosen.model_copy(update={"proxy": Path(state["proxy"] or "").name})
        decision = decision.model_copy(update={"chosen": chosen})
    else:
        cache = PartitionCache(context.home.partitions, plan, execution["decided_by"])
    output = context.home.results.rows(routing["result"])
    statistics = cache.join(dataset, output)
    summary = _summary(state, context, rows=statistics.counts(), output=str(output))
    return summary.model_copy(
        update={
            "result": routing["result"],
            "decision": decision,
            "target": _quality_target(state, context, summary, decision),
            "computed": execution.get("computed", statistics.total),
            "findings": find(plan, output, statistics),
            "unanswered": routing["unanswered"],
        }
    )


def _summary(
    state: FalconerState, context: NodeContext, *, rows: RowCounts | None = None, output: str | None = None
) -> RunSummary:
    """The only builder of a summary, for runs and for questions."""
    execution, annotation, routing = state["execution"], state.get("annotation") or {}, state.get("routing") or {}
    sample, suspects = state.get("sample") or {}, read_suspects(state, context)
    training = TrainingSummary.model_validate(state["training"]) if state.get("training") else None
    llm_seconds, per_second = annotation.get("llm_seconds_per_text"), execution["pace"].get("texts_per_second")
    corpus, exact_rows = context.corpus(state), execution.get("exact_rows")
    facts = {
        "run_id": state["run_id"],
        "instruction": state["instruction"],
        "plan": context.plan(state),
        "corpus": {
            "sources": corpus.sources,
            "documents": sample.get("documents", routing.get("documents", 0)),
            "bad_rows": sample.get("bad_rows", 0),
            "name": context.dataset(state).name if state.get("dataset") else None,
            "guessed_columns": corpus.guessed_columns,
        },
        "annotations": {
            "source": annotation.get("source", routing.get("annotator")),
            "rounds": state["round"],
            "failed": annotation.get("failed", 0),
            "rejected_quotes": annotation.get("rejected_quotes", 0),
            "stopped": annotation.get("stopped"),
            "self_agreement": annotation.get("self_agreement"),
            "accuracy": annotation.get("accuracy"),
            "likely_errors": suspects.likely_errors,
            "review": suspects.review,
            **{part: sample.get(part, 0) for part in ("train", "development", "test")},
        },
        "quality": _quality(state, context),
        "learning_curve": state.get("learning_curve") or {},
        "guarantee": execution.get("guarantee"),
        "cost": _cost(state, context),
        "pace": {
            "texts_per_second": per_second,
            "seconds": execution["pace"].get("seconds"),
            "llm_seconds_per_text": llm_seconds,
            "ratio": llm_seconds * per_second if llm_seconds and per_second else None,
        },
        "rows": rows or execution["rows"],
        "training": training,
        "backend": execution.get("backend"),
        "output": output or execution["output"],
        "exact_rows": None if output or exact_rows == execution["output"] else exact_rows,
        "proxy": state.get("proxy"),
        "messages": [
            *state.get("messages", []),
            *trust_messages(annotation, suspects),
            *_threshold_messages(training, context),
        ],
    }
    summary = RunSummary.model_validate(facts)
    estimates = estimate_counts(state, context, summary.rows, context.place(summary.exact_rows or summary.output))
    return summary.model_copy(update={"estimates": estimates})


def _quality(state: FalconerState, context: NodeContext) -> Quality | None:
    """Return the quality, with the mistakes where they are those of this proxy."""
    if not state.get("quality"):
        return None
    quality, data = Quality.model_validate(state["quality"]), read_json(context.quality_file(state))
    measured = Quality.model_validate(data) if data else quality
    return measured if measured.without_texts() == quality else quality


def _cost(state: FalconerState, context: NodeContext) -> Cost:
    """The cost of this job, against asking the LLM about every passage at the same tokens per text.

    What was spent on some of the texts is no more than what all of them take: a projection below it is raised to it.
    """
    with context.store() as store:
        spent, annotated = store.spent(state["run_id"]), store.spent(state["run_id"], "annotate")
    passages = (state.get("sample") or {}).get("passages")
    every = (state.get("routing") or {}).get("tokens_for_every_text")
    if passages and (pace := read_json(context.llm_pace_file(state))):
        every = round(annotated.tokens / pace["texts"] * passages)
    price = context.llm.price() if context.llm and spent.calls else None
    return Cost(
        calls=spent.calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        usd=spent.usd if spent.calls else 0.0,
        prices=price.source if price and spent.usd is not None else None,
        tokens_for_every_text=None if every is None else max(every, annotated.tokens),
    )


def _quality_target(
    state: FalconerState, context: NodeContext, summary: RunSummary, decision: Decision
) -> QualityTarget | None:
    """Return whether the answer reaches the quality that was requested, and by what that is known; None if none was."""
    options = context.options(state)
    if options is None or options.quality is None:
        return None
    required = options.quality
    if decision.chosen.name == "llm":
        share = state["routing"]["answered_share"]
        met, reason = share >= required, f"the LLM itself answered {share:.0%} of the texts"
    elif summary.guarantee:
        met = summary.guarantee.certified and not summary.guarantee.uncertain
        reason = " ".join(summary.guarantee.statements)
    elif summary.quality:
        met, reason = reaches(summary.quality, required), in_words(summary.quality)
    else:
        met, reason = False, "the agreement of this proxy was never measured"
    if not met and context.llm is None:
        reason += "; name an LLM that verifies, and answers where no proxy is confident"
    return QualityTarget(quality=required, met=met, reason=reason)


def _threshold_messages(training: TrainingSummary | None, context: NodeContext) -> list[str]:
    messages = []
    for step, point in (training.operating_points if training else {}).items():
        metric = context.settings.metrics[step]
        if point is None:
            messages.append(
                f"step '{step}' says yes from one half on: no threshold serves {metric} on the development texts; "
                "annotate more"
            )
        else:
            messages.append(
                f"step '{step}' says yes from a probability of {point.threshold:.2f} on, for {metric}: precision "
                f"{point.precision:.2f}, recall {point.recall:.2f} on the {point.n} development answers that it was "
                f"chosen on ({point.positives} of them yes)"
            )
    return messages
