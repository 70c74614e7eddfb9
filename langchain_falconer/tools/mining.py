"""The tools ``mine_corpus``, ``get_label`` and ``get_span``: questions about every text of a corpus or a few texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.execute import RowCounts
from langchain_falconer.falconer import MiningResult
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.report import Cost, Findings, RunSummary, ValueCount
from langchain_falconer.tools.base import MAX_TEXTS, FalconerTool, Text, report_progress

_TOP_SOURCES = 3
_TEXTS = "A few texts to ask about; leave out to ask about a corpus."
_CORPUS = "The name of the corpus to ask about, as list_corpora gives it; leave out if you give texts."


class MineCorpusInput(BaseModel):
    """Arguments of ``mine_corpus``."""

    instruction: Text = Field(
        description="What to find, in plain words, e.g. 'Extract laptop prices from positive reviews'.", min_length=1
    )
    corpus: Text = Field(description="The name of the corpus, as list_corpora gives it.", min_length=1)
    quality: float | None = Field(
        default=None,
        description="Only if the user asks for accuracy: the share of answers that must be right, e.g. 0.9.",
        gt=0,
        lt=1,
    )


class GetLabelInput(BaseModel):
    """Arguments of ``get_label``."""

    instruction: Text = Field(
        description="The question to answer about each text, e.g. 'Is this a complaint?'", min_length=1
    )
    texts: list[Text] | None = Field(default=None, description=_TEXTS, min_length=1, max_length=MAX_TEXTS)
    corpus: Text | None = Field(default=None, description=_CORPUS)
    labels: list[Text] | None = Field(
        default=None, description="The labels to choose from; leave out for a yes/no question."
    )
    multi_label: bool = Field(default=False, description="Whether several labels may apply to one text.")


class GetSpanInput(BaseModel):
    """Arguments of ``get_span``."""

    instruction: Text = Field(
        description="What to extract from each text, e.g. 'Extract the company names'.", min_length=1
    )
    texts: list[Text] | None = Field(default=None, description=_TEXTS, min_length=1, max_length=MAX_TEXTS)
    corpus: Text | None = Field(default=None, description=_CORPUS)


class _StepTool(FalconerTool):
    """A tool whose plan has one step, for texts or a corpus."""

    def _run_step(self, step: LabelStep | SpanStep, texts: list[str] | None, corpus: str | None) -> dict[str, Any]:
        if (texts is None) == (corpus is None):
            raise ToolException("give either texts or the name of a corpus, not both and not neither")
        plan = Plan(instruction=step.instruction, steps=(step,))
        source = self.find_corpus(corpus) if corpus is not None else None
        result = self.falconer.ask(plan, source, texts=texts, on_event=report_progress)
        facts = compact(result)
        if texts is None:
            return facts
        rows = list(islice(result.rows(), MAX_TEXTS))
        if isinstance(step, LabelStep):
            return {"labels": [row.get("labels", {}).get(step.id) for row in rows], **facts}
        return {"spans": [row.get("spans", {}).get(step.id) for row in rows], **facts}


class GetLabelTool(_StepTool):
    """Answer a question about each text: yes/no, one label, or several."""

    name: str = "get_label"
    description: str = (
        "Classify texts: answer ONE question about each text with yes/no, or with one of the given labels. "
        "Give either a few texts, or the name of a corpus to go through all of it. "
        "Returns counts, examples and a result id for read_results."
    )
    args_schema: type[BaseModel] = GetLabelInput

    def answer(
        self,
        instruction: str,
        texts: list[str] | None = None,
        corpus: str | None = None,
        labels: list[str] | None = None,
        multi_label: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Return the label of each text, or counts over a corpus, with examples, quality, cost and a result id."""
        step = {"id": "label", "instruction": instruction, "labels": labels, "multi_label": multi_label}
        return self._run_step(LabelStep.model_validate(step), texts, corpus)


class GetSpanTool(_StepTool):
    """Extract every matching piece of each text, verbatim, with offsets."""

    name: str = "get_span"
    description: str = (
        "Extract from texts: every piece of each text that fits ONE instruction, verbatim. "
        "Give either a few texts, or the name of a corpus to go through all of it. "
        "Returns the most frequent pieces with counts and sources, examples and a result id for read_results."
    )
    args_schema: type[BaseModel] = GetSpanInput

    def answer(
        self, instruction: str, texts: list[str] | None = None, corpus: str | None = None, **_: Any
    ) -> dict[str, Any]:
        """Return the spans of each text, or counts over a corpus, with examples, quality, cost and a result id."""
        return self._run_step(SpanStep(id="span", instruction=instruction), texts, corpus)


class MineCorpusTool(FalconerTool):
    """Mine a whole corpus for an instruction of any number of steps."""

    name: str = "mine_corpus"
    description: str = (
        "Go through EVERY text of a corpus for an instruction in plain words that may combine classifying, filtering "
        "and extracting, at low cost. Returns how many texts match, the most frequent values with their sources, "
        "quoted examples, the measured quality, the cost, and a result id for read_results."
    )
    args_schema: type[BaseModel] = MineCorpusInput

    def answer(self, instruction: str, corpus: str, quality: float | None = None, **_: Any) -> dict[str, Any]:
        """Plan the instruction, run it over the corpus, and return counts, quality, cost and a result id."""
        return compact(
            self.falconer.ask(instruction, self.find_corpus(corpus), quality=quality, on_event=report_progress)
        )


def compact(result: MiningResult) -> dict[str, Any]:
    """Return a result as brief JSON data: counts, top values with sources, quotes, quality, cost and decision."""
    summary = result.summary
    findings = summary.findings or Findings(top={}, examples=())
    target = {"target": summary.target.model_dump(mode="json")} if summary.target else {}
    return {
        "result": summary.result,
        "rows": summary.rows.total,
        "matched": summary.rows.matched,
        "failed": summary.rows.failed,
        "steps": {step.id: _step(step, summary.rows, findings.top.get(step.id, ())) for step in summary.plan.top_level},
        "examples": [example.model_dump(exclude_defaults=True) for example in findings.examples],
        "quality": _quality(summary),
        **target,
        "cost": _cost(summary.cost),
        "decision": _decision(summary),
        "messages": list(summary.messages),
        "next": f"read_results(result='{summary.result}', ...) pages, filters and counts the rows; cite rows by id",
    }


def _step(step: LabelStep | SpanStep, rows: RowCounts, top: Sequence[ValueCount]) -> dict[str, Any]:
    question = {"question": step.instruction[:200]}
    if isinstance(step, LabelStep):
        sources = {value.value: value.sources for value in top[:_TOP_SOURCES] if value.sources}
        return {**question, "counts": rows.labels.get(step.id, {})} | ({"sources": sources} if sources else {})
    counts = rows.spans.get(step.id)
    values = [value.model_dump(exclude_defaults=True) for value in top]
    return {
        **question,
        "texts_with": counts.texts if counts else 0,
        "spans": counts.spans if counts else 0,
        "top": values,
    }


def _quality(summary: RunSummary) -> dict[str, Any] | str:
    if summary.quality is None:
        if summary.decision is None or summary.decision.chosen.name != "llm":
            return "not measured"
        if summary.unanswered:
            answered = summary.rows.total - summary.unanswered
            return f"the LLM answered {answered} of {summary.rows.total} texts, the rest is the untrained model's guess"
        return "the LLM itself answered"
    agreement = summary.quality.agreement
    ends = {"value": round(agreement.value, 3), "low": round(agreement.low, 3), "high": round(agreement.high, 3)}
    return {"agreement_with": summary.annotations.source or "its annotator", **ends, "texts": agreement.n}


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "llm_calls": cost.calls,
        "tokens": cost.tokens,
        "usd": cost.usd,
        "tokens_for_every_text": cost.tokens_for_every_text,
    }


def _decision(summary: RunSummary) -> dict[str, Any]:
    if summary.cached:
        return {"strategy": "answered before", "reason": "the same question about the same documents"}
    if summary.decision is None:
        return {}
    chosen = summary.decision.chosen
    return {"strategy": chosen.name, "reason": chosen.reason} | ({"proxy": chosen.proxy} if chosen.proxy else {})
