"""The run: the proxy over the whole corpus, in shards; with targets, the LLM where the proxy is not confident."""

from __future__ import annotations

from pathlib import Path

from langchain_falconer.annotate import Annotation, AnnotationStore
from langchain_falconer.corpus import Place
from langchain_falconer.execute import (
    BACKEND_TEXTS,
    Cascade,
    Guarantee,
    Run,
    RunReport,
    choose_backend,
    is_flat,
    write_output,
)
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.nodes.annotate import ask_llm
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import Proxy
from langchain_falconer.settings import Targets


def execute(state: FalconerState, context: NodeContext) -> Update:
    """Run the proxy and write the rows."""
    sample, folder = context.sample(state), context.folder(state)
    settings, targets = context.settings.run, context.targets(state)
    proxy = Proxy.load(state["proxy"] or "")
    with context.timed(state, "execute") as seconds, context.store() as store:
        answered = [*sample.held_out, *sample.train, *context.corrected_texts(state)]
        annotated = context.annotations(store, state, answered)
        development = context.annotations(store, state, sample.development)
        texts = (sample.pool + sample.held_out + sample.train)[:BACKEND_TEXTS]
        backend = choose_backend(proxy, texts, settings.backend, development, device=settings.device)
        run = Run(proxy, context.corpus(state), folder / "shards", settings, annotated, scored=targets is not None)
        # The output of a question is written by the report, from the rows here.
        named = None if state.get("ask") is not None else state.get("output")
        output = context.place(named) if named else folder / "rows.jsonl"
        rows = folder / "rows.jsonl" if is_flat(output) else output
        report = run(None if targets else rows, lambda n: context.emit({"done": n, "total": sample.documents}))
        guarantee: Guarantee | None = None
        if targets:
            report, guarantee = _complete(run, report, rows, targets, state, context, store)
        if isinstance(rows, Path) and rows != output:
            write_output(proxy.plan, [rows], output, run.facts, settings.row_unit)
    facts = {
        "rows": report.statistics.counts().model_dump(mode="json"),
        "output": str(output),
        "exact_rows": str(rows),
        "backend": backend.model_dump(mode="json"),
        "pace": _pace(report, folder, retry=settings.retry_failed),
        "guarantee": guarantee.model_dump(mode="json") if guarantee else None,
    }
    return {"execution": facts, "seconds": seconds}


def _pace(report: RunReport, folder: Path, *, retry: bool) -> dict[str, float | None]:
    """The pace of this invocation; that of an earlier one where this one computed nothing, or a few failed rows."""
    pace = {"texts_per_second": report.texts_per_second, "seconds": report.seconds}
    cached = read_json(folder / "pace.json")
    if report.texts_per_second and not (cached and retry):
        write_json(folder / "pace.json", pace)
        return pace
    return cached or pace


def _complete(
    run: Run,
    report: RunReport,
    output: Place,
    targets: Targets,
    state: FalconerState,
    context: NodeContext,
    store: AnnotationStore,
) -> tuple[RunReport, Guarantee]:
    """The rows of a run with the LLM's answers where the proxy is not confident, and the guarantee for them."""
    plan, is_over = context.plan(state), False
    rows = context.certification_sample(state)
    annotated = {a.text: a for a in context.annotations(store, state, rows.values())}

    def ask(texts: list[str], limit: int) -> list[Annotation]:
        nonlocal is_over
        if limit and not is_over:
            is_over = ask_llm(store, plan, texts[:limit], state, context).error is not None
        return context.annotations(store, state, texts)

    drawn = {position: annotated.get(text) for position, text in rows.items()}
    cascade = Cascade(run, targets, drawn, context.folder(state) / "completed")
    total = report.statistics.total
    return cascade(ask, report, output, lambda n: context.emit({"done": n, "total": total}))
