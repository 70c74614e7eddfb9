"""The annotations: the LLM answers the plan's steps about the sampled texts; a person's answers are there already."""

from __future__ import annotations

import time
from typing import Any

from langchain_falconer.annotate import Annotation, AnnotationReport, AnnotationStore, Annotator, stored_annotations
from langchain_falconer.errors import AnnotationError, BudgetError, FalconerError, LLMError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.plan import Plan

MIN_ANNOTATIONS = 10


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
        if state.get("annotations") or context.llm is None:
            known = context.annotations(store, state, texts)
        else:
            known, facts = _annotated(store, plan, texts, state, context)
            if facts["stopped"]:
                messages.append(f"annotation ended early: {facts['stopped']}")
        spent = store.spent(state["run_id"], "annotate")
    failed = sum(bool(a.failures) for a in known)
    if failed:
        messages.append(f"{failed} texts have a step that the LLM could not answer; the proxy decides them")
    facts |= {"source": context.source(state), "answered": len(known), "failed": failed, "tokens": spent.tokens}
    return {"annotation": facts, "messages": messages, "seconds": seconds}


def _annotated(
    store: AnnotationStore, plan: Plan, texts: list[str], state: FalconerState, context: NodeContext
) -> tuple[list[Annotation], dict[str, Any]]:
    report = ask_llm(store, plan, texts, state, context, show=True)
    known = context.annotations(store, state, texts)
    if len(known) < min(MIN_ANNOTATIONS, len(texts)):
        raise _too_few(len(known), len(texts), report.error)
    rejected, error = report.rejected_quotes, report.error
    if rows := list(context.certification_sample(state).values()):
        more = ask_llm(store, plan, rows, state, context, show=True)
        rejected, error = rejected + more.rejected_quotes, error or more.error
    pace = read_json(context.llm_pace_file(state))
    per_text = pace["seconds"] / pace["texts"] if pace else state.get("annotation", {}).get("llm_seconds_per_text")
    facts = {"rejected_quotes": rejected, "stopped": str(error) if error else None, "llm_seconds_per_text": per_text}
    return known, facts


def _too_few(answered: int, texts: int, cause: FalconerError | None) -> FalconerError:
    """An error of the same class with the same data, in terms of the job."""
    message = f"only {answered} of {texts} texts are annotated, too few to train on: "
    if isinstance(cause, BudgetError):
        return chained(BudgetError(message + str(cause), cap=cause.cap, limit=cause.limit, spent=cause.spent), cause)
    if isinstance(cause, LLMError):
        error = LLMError(message + str(cause), model=cause.model, status=cause.status, attempts=cause.attempts)
        return chained(error, cause)
    return LLMError(message + "the LLM gave no usable answers")


def chained(error: FalconerError, cause: BaseException) -> FalconerError:
    """Return the error with its cause."""
    error.__cause__ = cause
    return error


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
    before, began = len(stored_annotations(store, plan, texts, context.llm.name)), time.monotonic()
    annotator = Annotator(context.llm, store, plan, context.budget(store, state["run_id"]), context.settings.annotate)
    report = annotator.annotate(texts, (lambda n, total: context.emit({"done": n, "total": total})) if show else None)
    if (fresh := len(stored_annotations(store, plan, texts, context.llm.name)) - before) > 0:
        file = context.llm_pace_file(state)
        pace = read_json(file) or {"seconds": 0.0, "texts": 0}
        seconds = pace["seconds"] + time.monotonic() - began
        write_json(file, {"seconds": seconds, "texts": pace["texts"] + fresh})
    return report
