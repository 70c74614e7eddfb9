"""The tools ``mine_corpus``, ``get_label`` and ``get_span``: questions about every text of a corpus or a few texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import ClassVar

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.execute import RowCounts
from langchain_falconer.falconer import MiningResult
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.report import Findings, RunSummary, ValueCount
from langchain_falconer.tools import brief_estimates
from langchain_falconer.tools.answers import MiningAnswer
from langchain_falconer.tools.base import MAX_TEXTS, FalconerTool, Text, ToolInput, report_progress
from langchain_falconer.tools.group_counts import GroupCounter
from langchain_falconer.tools.row_filters import RowFilter, open_rows

_TOP_SOURCES = _TOP_LABELS = 3
_MAX_GROUPS = 24
_TOP_BESIDE_GROUPS = 3
_NO_PLANNER = (
    "there is no LLM here that could plan an instruction; ask one thing at a time: get_label for a question about each "
    "text, get_span for what to extract"
)


class MineCorpusInput(ToolInput):
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
    by: Text | None = Field(
        default=None,
        description="Compare groups of texts, too: 'month', 'source' or a column such as 'stars'; for a trend 'month'.",
    )


class GetSpanInput(ToolInput):
    """Arguments of ``get_span``."""

    instruction: Text = Field(
        description="What to extract from each text, e.g. 'Extract the company names'.", min_length=1
    )
    texts: list[Text] | None = Field(
        default=None,
        description="A few texts to ask about; leave out to ask about a corpus.",
        min_length=1,
        max_length=MAX_TEXTS,
    )
    corpus: Text | None = Field(
        default=None,
        description="The name of the corpus to ask about, as list_corpora gives it; leave out if you give texts.",
    )
    by: Text | None = Field(
        default=None,
        description="Compare groups of texts, too: 'month', 'source' or a column such as 'stars'; for a trend 'month'.",
    )


class GetLabelInput(GetSpanInput):
    """Arguments of ``get_label``."""

    instruction: Text = Field(
        description="The question to answer about each text, e.g. 'Is this a complaint?'", min_length=1
    )
    labels: list[Text] | None = Field(
        default=None, description="The labels to choose from; leave out for a yes/no question."
    )
    multi_label: bool = Field(default=False, description="Whether several labels may apply to one text.")


class GetLabelTool(FalconerTool):
    """Answer a question about each text: yes/no, one label, or several."""

    name: str = "get_label"
    description: str = (
        "Classify texts: answer ONE question about each text with yes/no, or with one of the given labels. "
        "Give either a few texts, or the name of a corpus to go through all of it. "
        "Returns counts, examples and a result id for read_results."
    )
    args_schema: type[BaseModel] = GetLabelInput
    answer_type: ClassVar[type] = MiningAnswer

    def answer(self, request: GetLabelInput) -> Mapping[str, object]:
        """Return the label of each text, or counts over a corpus, with examples, quality, cost and a result id."""
        step = {"id": "label", **request.model_dump(exclude={"texts", "corpus", "by"})}
        return _run_step(self, LabelStep.model_validate(step), request)


class GetSpanTool(FalconerTool):
    """Extract every matching piece of each text, verbatim, with offsets."""

    name: str = "get_span"
    description: str = (
        "Extract from texts: every piece of each text that fits ONE instruction, verbatim. "
        "Give either a few texts, or the name of a corpus to go through all of it. "
        "Returns the most frequent pieces with counts and sources, examples and a result id for read_results."
    )
    args_schema: type[BaseModel] = GetSpanInput
    answer_type: ClassVar[type] = MiningAnswer

    def answer(self, request: GetSpanInput) -> Mapping[str, object]:
        """Return the spans of each text, or counts over a corpus, with examples, quality, cost and a result id."""
        return _run_step(self, SpanStep(id="span", instruction=request.instruction), request)


class MineCorpusTool(FalconerTool):
    """Mine a whole corpus for an instruction of any number of steps."""

    name: str = "mine_corpus"
    description: str = (
        "Go through EVERY text of a corpus for an instruction in plain words that may combine classifying, filtering "
        "and extracting, at low cost. Returns how many texts match, the most frequent values with their sources, "
        "quoted examples, the measured quality, the cost, and a result id for read_results."
    )
    args_schema: type[BaseModel] = MineCorpusInput
    answer_type: ClassVar[type] = MiningAnswer

    def answer(self, request: MineCorpusInput) -> Mapping[str, object]:
        """Plan the instruction, run it over the corpus, and return counts, quality, cost and a result id."""
        corpus = self.find_corpus(request.corpus)
        if self.falconer.llm is None and self.falconer.home.registry.plan_for(request.instruction) is None:
            raise ToolException(_NO_PLANNER)
        result = self.falconer.ask(request.instruction, corpus, quality=request.quality, on_event=report_progress)
        return _answer(self, result, request.by, [RowFilter(only_matches=True)])


def _run_step(tool: FalconerTool, step: LabelStep | SpanStep, request: GetSpanInput) -> Mapping[str, object]:
    """Run a plan of one step over texts or a corpus."""
    if (request.texts is None) == (request.corpus is None):
        raise ToolException("give either texts or the name of a corpus, not both and not neither")
    plan = Plan(instruction=step.instruction, steps=(step,))
    corpus = tool.find_corpus(request.corpus) if request.corpus is not None else None
    result = tool.falconer.ask(plan, corpus, texts=request.texts, on_event=report_progress)
    answer = _answer(tool, result, request.by, _measures(step, result))
    if request.texts is None:
        return answer
    rows = list(islice(result.rows(), MAX_TEXTS))
    if isinstance(step, LabelStep):
        answers: dict[str, object] = {"labels": [row.get("labels", {}).get(step.id) for row in rows]}
    else:
        answers = {"spans": [row.get("spans", {}).get(step.id) for row in rows]}
    if result.summary.unanswered:
        guesses = [i for i, row in enumerate(rows) if row.get("decided_by", {}).get(step.id) == "proxy"]
        answers["guesses"] = guesses  # positions of the texts that the LLM did not answer
    return {**answers, **answer}


def _measures(step: LabelStep | SpanStep, result: MiningResult) -> list[RowFilter]:
    """Return what is compared between groups: "yes", the most frequent labels, or whether something was extracted."""
    if isinstance(step, SpanStep):
        return [RowFilter(step=step.id)]
    counts = result.summary.rows.labels.get(step.id, {})
    frequent = sorted(counts, key=lambda label: -counts[label])[:_TOP_LABELS] if step.names else [True]
    return [RowFilter(step=step.id, value=label) for label in frequent]


def _answer(
    tool: FalconerTool, result: MiningResult, by: str | None, measures: Sequence[RowFilter]
) -> Mapping[str, object]:
    """Return the answer, with the groups of the rows, one table for each measure; or why there are none."""
    summary = result.summary
    if by is None or summary.result is None:
        return compact(result)
    try:
        with open_rows(tool.falconer.home.results.rows(summary.result), summary.plan) as rows:
            groups = [
                {
                    "of": measure.model_dump(exclude_defaults=True),
                    **GroupCounter(rows, summary, measure).count(by, order=None, offset=0, limit=_MAX_GROUPS),
                }
                for measure in measures
            ]
    except ToolException as error:  # the answer is paid
        return {**compact(result), "messages": [*summary.messages, f"not compared: {error}"]}
    findings = summary.findings or Findings(top={}, examples=())
    fewer = {step: top[:_TOP_BESIDE_GROUPS] for step, top in findings.top.items()}  # the budget is for the groups
    shorter = summary.model_copy(update={"findings": Findings(top=fewer, examples=findings.examples[:1])})
    return {**compact(MiningResult(shorter)), "groups": groups}


def compact(result: MiningResult) -> Mapping[str, object]:
    """Return a result as brief JSON data: counts, top values with sources, quotes, quality, cost and decision."""
    summary, cost = result.summary, result.cost
    findings = summary.findings or Findings(top={}, examples=())
    target = {"target": summary.target.model_dump(mode="json")} if summary.target else {}
    return {
        "result": summary.result,
        "rows": summary.rows.total,
        **({"untrained": True} if summary.is_untrained else {}),
        "matched": summary.rows.matched,
        "read": {"only_matches": True},
        **brief_estimates.matched(summary.estimates),
        "failed": summary.rows.failed,
        "steps": {
            step.id: {
                **_step(step, summary.rows, findings.top.get(step.id, ())),
                **brief_estimates.of_step(step, summary.estimates),
            }
            for step in summary.plan.top_level
        },
        "examples": [example.model_dump(exclude_defaults=True) for example in findings.examples],
        "quality": _quality(summary),
        **target,
        "cost": {
            "llm_calls": cost.calls,
            "tokens": cost.tokens,
            "usd": cost.usd,
            **({"prices": cost.prices} if cost.prices else {}),
            "tokens_for_every_text": cost.tokens_for_every_text,
        },
        "decision": _decision(summary),
        "messages": list(summary.messages),
        "next": (
            f"read_results(result='{summary.result}', ...) with the arguments under 'read' gives the rows of a number; "
            "it pages, filters and compares groups (count_by); cite rows by id"
        ),
    }


def _step(step: LabelStep | SpanStep, rows: RowCounts, top: Sequence[ValueCount]) -> Mapping[str, object]:
    question = step.instruction[:200]
    read = {"step": step.id, "value": "one of these"}
    if isinstance(step, LabelStep):
        sources = {value.value: value.sources for value in top[:_TOP_SOURCES] if value.sources}
        counts = {"question": question, "counts": rows.labels.get(step.id, {}), "read": read}
        return {**counts, "sources": sources} if sources else counts
    spans = rows.spans.get(step.id)
    return {
        "question": question,
        "texts_with": spans.texts if spans else 0,
        "spans": spans.spans if spans else 0,
        "top": [value.model_dump(exclude_defaults=True) for value in top],
        "read": read,
    }


def _quality(summary: RunSummary) -> Mapping[str, object] | str:
    if summary.quality is None:
        if summary.is_untrained:
            return "not measured: guesses of the untrained model, from the words of the question alone"
        if summary.decision is None or summary.decision.chosen.name != "llm":
            return "not measured"
        if summary.unanswered:
            texts = summary.rows.total - summary.rows.failed
            answered = texts - summary.unanswered
            return f"the LLM answered {answered} of {texts} texts, the rest is the untrained model's guess"
        return "the LLM itself answered"
    agreement = summary.quality.agreement
    ends = {"value": round(agreement.value, 3), "low": round(agreement.low, 3), "high": round(agreement.high, 3)}
    return {"agreement_with": summary.annotations.source or "its annotator", **ends, "texts": agreement.n}


def _decision(summary: RunSummary) -> Mapping[str, object]:
    if summary.cached:
        return {"strategy": "answered before", "reason": "the same question about the same documents"}
    if summary.decision is None:
        return {}
    chosen = summary.decision.chosen
    return {"strategy": chosen.name, "reason": chosen.reason} | ({"proxy": chosen.proxy} if chosen.proxy else {})
