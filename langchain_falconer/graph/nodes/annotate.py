"""The annotations: the LLM answers the plan's steps about the sampled texts; a person's answers are there already."""

from __future__ import annotations

import time
from pathlib import Path

from langchain_falconer.annotate import (
    AnnotationReport,
    AnnotationStore,
    Annotator,
    accuracy,
    read_annotations,
    self_agreement,
    source_of,
    store_corrections,
    stored_annotations,
)
from langchain_falconer.errors import AnnotationError, BudgetError, LLMError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import AnnotationState, FalconerState
from langchain_falconer.plan import Plan
from langchain_falconer.report import add_unplaced

_MIN_ANNOTATIONS = 10


def annotate(state: FalconerState, context: NodeContext) -> Update:
    """Have the sample annotated.

    Raises:
        LLMError: The LLM cannot be reached, or gave too few usable answers to train on.
        BudgetError: The budget ends before there are enough annotations to train on.
    """
    plan, sample = context.plan(state), context.sample(state)
    messages = list(state.get("messages", []))
    texts = [*sample.held_out, *sample.train]
    facts = dict(state.get("annotation", {}))
    with context.timed(state, "annotate") as seconds, context.store() as store:
        if file := state.get("corrections"):
            store_corrections(store, plan, Path(file))
            context.add_corrected_texts(state, (one.text for one in read_annotations(Path(file), plan)))
        if not state.get("annotations") and context.llm is not None:
            report, asked = _ask_about_sample(store, plan, texts, state, context)
            facts |= asked
            if asked["stopped"] or not sample.remaining:
                messages += _remarks(report, asked)
                facts |= _trust(store, plan, texts, state, context)
        annotated = context.annotations(store, state, texts)
        spent = store.spent(state["run_id"], "annotate")
    facts |= {"source": context.source(state), "answered": len(annotated), "tokens": spent.tokens}
    facts.setdefault("failed", 0)
    return {"annotation": facts, "messages": messages, "seconds": seconds}


def _ask_about_sample(
    store: AnnotationStore, plan: Plan, texts: list[str], state: FalconerState, context: NodeContext
) -> tuple[AnnotationReport, AnnotationState]:
    """Ask about texts to learn from and, if there are enough answers, about those that certify the targets.

    Returns:
        The report about the texts to learn from, and counts of both.
    """
    report = ask_llm(store, plan, texts, state, context, show=True)
    rejected, error = report.rejected_quotes, report.error
    answered = len(context.annotations(store, state, texts))
    if answered < min(_MIN_ANNOTATIONS, len(texts)):
        message = f"only {answered} of {len(texts)} texts are annotated, too few to train on: "
        if isinstance(error, BudgetError):
            raise BudgetError(f"{message}{error}", cap=error.cap, limit=error.limit, spent=error.spent) from error
        if isinstance(error, LLMError):
            raise LLMError(
                f"{message}{error}",
                model=error.model,
                status=error.status,
                attempts=error.attempts,
                kind=error.kind,
            ) from error
        raise LLMError(f"{message}the LLM gave no usable answers, {_reasons(report)}")
    rows = list(context.certification_sample(state).values())
    if rows and not context.sample(state).remaining:
        more = ask_llm(store, plan, rows, state, context, show=True)
        rejected, error = rejected + more.rejected_quotes, error or more.error
    pace = read_json(context.llm_pace_file(state))
    per_text = pace["seconds"] / pace["texts"] if pace else state.get("annotation", {}).get("llm_seconds_per_text")
    return report, {
        "rejected_quotes": rejected,
        "failed": sum(bool(annotation.failures) for annotation in report.annotations),
        "coerced": report.coerced,
        "stopped": str(error) if error else None,
        "over_budget": isinstance(error, BudgetError),
        "llm_seconds_per_text": per_text,
    }


def _remarks(report: AnnotationReport, counts: AnnotationState) -> list[str]:
    """Return what the user should know of the annotation."""
    remarks = []
    if counts["stopped"]:
        remarks.append(f"annotation ended early: {counts['stopped']}")
    if failed := counts["failed"]:
        which = f"{failed} texts have a step" if failed > 1 else "1 text has a step"
        remarks.append(f"{which} that the LLM did not answer, {_reasons(report)}; the proxy decides them")
    if report.coerced:
        remarks.append(
            f"{report.coerced} answers of the LLM were not in the form that was asked for, and had one reading only"
        )
    return remarks


def _reasons(report: AnnotationReport) -> str:
    """Return the commonest reasons of failures with the number of texts."""
    reasons = "; ".join(f"{reason} ({n} text{'s' * (n > 1)})" for reason, n in report.reasons)
    return f"most often because: {reasons}" if reasons else "and gave no reason"


def _trust(
    store: AnnotationStore, plan: Plan, texts: list[str], state: FalconerState, context: NodeContext
) -> AnnotationState:
    """Have a uniform slice of the texts answered a second time; compare the LLM with itself, and with a person."""
    assert context.llm is not None
    settings, sample, source = context.settings, context.sample(state), context.source(state)
    repeated = [*sample.development, *sample.test][: round(settings.annotations * settings.annotate.repeated)]
    if len(repeated) >= _MIN_ANNOTATIONS:
        budget = context.budget(store, state["run_id"])
        Annotator(context.llm, store, plan, budget, settings.annotate, second=True).annotate(repeated)
    agreement, right = self_agreement(store, plan, repeated, source), accuracy(store, plan, texts, source)
    return {
        "self_agreement": agreement.model_dump(mode="json") if agreement else None,
        "accuracy": right.model_dump(mode="json") if right else None,
    }


def ask_llm(
    store: AnnotationStore,
    plan: Plan,
    texts: list[str],
    state: FalconerState,
    context: NodeContext,
    *,
    show: bool = False,
) -> AnnotationReport:
    """Have the LLM answer what is open about texts; its pace over all invocations of the job is written to disk.

    Args:
        store: Holds the answers.
        plan: The steps.
        texts: The texts.
        state: The state of the job.
        context: Must have an LLM.
        show: Whether progress is emitted.
    """
    if context.llm is None:
        raise AnnotationError("nothing annotates the texts; name an LLM")
    source = source_of(context.llm.name, context.settings.annotate.prompts)
    before, began = len(stored_annotations(store, plan, texts, source, corrected=False)), time.monotonic()
    annotator = Annotator(context.llm, store, plan, context.budget(store, state["run_id"]), context.settings.annotate)
    report = annotator.annotate(texts, (lambda n, total: context.emit({"done": n, "total": total})) if show else None)
    add_unplaced(context.folder(state), report.unplaced)
    if (fresh := len(stored_annotations(store, plan, texts, source, corrected=False)) - before) > 0:
        file = context.llm_pace_file(state)
        pace = read_json(file) or {"seconds": 0.0, "texts": 0}
        seconds = pace["seconds"] + time.monotonic() - began
        write_json(file, {"seconds": seconds, "texts": pace["texts"] + fresh})
    return report
