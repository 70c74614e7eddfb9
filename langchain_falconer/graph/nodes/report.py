"""The report: the summary of a run, typed, and the HTML report beside it; of a question, the stored result."""

from __future__ import annotations

from pathlib import Path

from langchain_falconer.evaluate import Quality
from langchain_falconer.execute import BackendChoice, Guarantee, PartitionCache, RowCounts, read_rows
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.routing import in_words, reaches
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import Proxy
from langchain_falconer.report import (
    AnnotationSummary,
    CorpusSummary,
    Cost,
    Decision,
    Pace,
    QualityTarget,
    RunSummary,
    TrainingSummary,
    find,
    render_html,
)


def report(state: FalconerState, context: NodeContext) -> Update:
    """Build the summary; write the HTML report of a run, or store the result of a question."""
    with context.timed(state, "report") as seconds:
        summary = _store_result(state, context) if state.get("ask") else _write_report(state, context)
    summary = summary.model_copy(update={"seconds": {name: round(value, 2) for name, value in seconds.items()}})
    if summary.result:
        context.home.results.save(summary.result, summary)
    else:
        write_json(context.folder(state) / "summary.json", summary.model_dump(mode="json"))
    return {"summary": summary.model_dump(mode="json"), "seconds": seconds}


def _write_report(state: FalconerState, context: NodeContext) -> RunSummary:
    summary = _summary(state, context)
    file = context.folder(state) / "report.html"
    summary = summary.model_copy(update={"report": str(file)})
    render_html(summary, read_rows(context.place(summary.output)), file)
    return summary


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
        proxy = Path(state["proxy"] or "")
        cache = PartitionCache(context.home.partitions, plan, _trained_identity(state, context))
        cache.adopt(dataset, Path(execution["output"]))
        decision = decision.model_copy(update={"chosen": decision.chosen.model_copy(update={"proxy": proxy.name})})
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


def _trained_identity(state: FalconerState, context: NodeContext) -> str:
    """The fingerprint of the trained proxy; with targets the LLM's answers are among the rows, so the result's id."""
    fingerprint = Proxy.load(state["proxy"] or "").fingerprint
    return fingerprint if context.targets(state) is None else f"{fingerprint} {state['routing']['result']}"


def _summary(
    state: FalconerState, context: NodeContext, *, rows: RowCounts | None = None, output: str | None = None
) -> RunSummary:
    """The only builder of a summary, for runs and for questions."""
    execution, annotation, routing = state["execution"], state.get("annotation") or {}, state.get("routing") or {}
    sample, dataset = state.get("sample") or {}, context.dataset(state)
    corpus = CorpusSummary(
        sources=tuple(context.corpus(state).sources),
        documents=sample.get("documents", routing.get("documents", 0)),
        bad_rows=sample.get("bad_rows", 0),
        name=dataset.name if state.get("dataset") else None,
    )
    annotations = AnnotationSummary(
        source=annotation.get("source", routing.get("annotator")),
        rounds=state["round"],
        failed=annotation.get("failed", 0),
        rejected_quotes=annotation.get("rejected_quotes", 0),
        stopped=annotation.get("stopped"),
        **{part: sample.get(part, 0) for part in ("train", "development", "test")},
    )
    quality = state.get("quality")
    training = TrainingSummary.model_validate(state["training"]) if state.get("training") else None
    guarantee, backend = execution.get("guarantee"), execution.get("backend")
    return RunSummary(
        run_id=state["run_id"],
        instruction=state["instruction"],
        plan=context.plan(state),
        corpus=corpus,
        annotations=annotations,
        quality=Quality.model_validate(quality) if quality else None,
        guarantee=Guarantee.model_validate(guarantee) if guarantee else None,
        cost=_cost(state, context),
        pace=_pace(execution["pace"], annotation.get("llm_seconds_per_text")),
        rows=rows or RowCounts.model_validate(execution["rows"]),
        training=training,
        backend=BackendChoice.model_validate(backend) if backend else None,
        output=output or execution["output"],
        proxy=state.get("proxy"),
        messages=(*state.get("messages", []), *_threshold_messages(training, context)),
    )


def _cost(state: FalconerState, context: NodeContext) -> Cost:
    """The cost of this job, against asking the LLM about every passage at the same tokens per text."""
    with context.store() as store:
        spent, annotated = store.spent(state["run_id"]), store.spent(state["run_id"], "annotate")
    passages = (state.get("sample") or {}).get("passages")
    pace = read_json(context.llm_pace_file(state))
    every = (state.get("routing") or {}).get("tokens_for_every_text")
    if pace and passages:
        every = round(annotated.tokens / pace["texts"] * passages)
    is_free = spent.calls == 0
    return Cost(
        calls=spent.calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        usd=0.0 if is_free else spent.usd,
        tokens_for_every_text=every,
    )


def _pace(pace: dict[str, float | None], llm_seconds: float | None) -> Pace:
    per_second = pace.get("texts_per_second")
    ratio = llm_seconds * per_second if llm_seconds and per_second else None
    return Pace(texts_per_second=per_second, seconds=pace.get("seconds"), llm_seconds_per_text=llm_seconds, ratio=ratio)


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
    if training is None:
        return []
    messages = []
    for step, point in training.operating_points.items():
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
