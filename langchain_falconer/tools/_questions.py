"""``mine_corpus``, ``get_label`` and ``get_span``: questions about every text of a corpus, or about a few texts."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.falconer import MiningResult
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.tools._base import MAX_TEXTS, FalconerTool, Text, progress

_MOST_SOURCED = 3
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


class _Question(FalconerTool):
    """A question of one step, about texts or a corpus."""

    def _about(self, step: LabelStep | SpanStep, texts: list[str] | None, corpus: str | None) -> dict[str, Any]:
        if (texts is None) == (corpus is None):
            raise ToolException("give either texts or the name of a corpus, not both and not neither")
        asked = self.find(corpus) if corpus is not None else texts
        result = self.mine.ask(Plan(instruction=step.instruction, steps=(step,)), asked, on_event=progress)
        facts = compact(result)
        if texts is None:
            return facts
        told = "labels" if isinstance(step, LabelStep) else "spans"
        return {told: [row.get(told, {}).get(step.id) for row in islice(result.rows(), MAX_TEXTS)], **facts}


class GetLabelTool(_Question):
    """Answers a question about each text: yes/no, one label, or several."""

    name: str = "get_label"
    description: str = (
        "Classify texts: answer ONE question about each text with yes/no, or with one of the given labels. "
        "Give either a few texts, or the name of a corpus to go through all of it. "
        "Returns counts, examples and a result id for read_results."
    )
    args_schema: Any = GetLabelInput

    def answer(
        self,
        instruction: str,
        texts: list[str] | None = None,
        corpus: str | None = None,
        labels: list[str] | None = None,
        multi_label: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """See the description."""
        asked = {"id": "label", "instruction": instruction, "labels": labels, "multi_label": multi_label}
        return self._about(LabelStep.model_validate(asked), texts, corpus)


class GetSpanTool(_Question):
    """Extracts from each text every piece that fits, verbatim, with offsets."""

    name: str = "get_span"
    description: str = (
        "Extract from texts: every piece of each text that fits ONE instruction, verbatim. "
        "Give either a few texts, or the name of a corpus to go through all of it. "
        "Returns the most frequent pieces with counts and sources, examples and a result id for read_results."
    )
    args_schema: Any = GetSpanInput

    def answer(
        self, instruction: str, texts: list[str] | None = None, corpus: str | None = None, **_: Any
    ) -> dict[str, Any]:
        """See the description."""
        return self._about(SpanStep(id="span", instruction=instruction), texts, corpus)


class MineCorpusTool(FalconerTool):
    """Mines a whole corpus for an instruction of any number of steps."""

    name: str = "mine_corpus"
    description: str = (
        "Go through EVERY text of a corpus for an instruction in plain words that may combine classifying, filtering "
        "and extracting, at low cost. Returns how many texts match, the most frequent values with their sources, "
        "quoted examples, the measured quality, the cost, and a result id for read_results."
    )
    args_schema: Any = MineCorpusInput

    def answer(self, instruction: str, corpus: str, quality: float | None = None, **_: Any) -> dict[str, Any]:
        """See the description."""
        return compact(self.mine.ask(instruction, self.find(corpus), quality=quality, on_event=progress))


def compact(result: MiningResult) -> dict[str, Any]:
    """An answer in brief: counts, top values with sources, quotes, quality with its interval, cost and decision."""
    summary = result.summary
    rows, found = summary["rows"], summary["findings"]
    return {
        "result": result.result,
        "rows": rows["total"],
        "matched": rows["matched"],
        "failed": rows["failed"],
        "steps": {step.id: _step(step, rows, found["top"].get(step.id, [])) for step in result.plan.top_level},
        "examples": found["examples"],
        "quality": _quality(summary),
        **({"target": summary["target"]} if summary.get("target") else {}),
        "cost": _cost(summary["cost"]),
        "decision": _decision(summary),
        "messages": summary["messages"],
        "next": f"read_results(result='{result.result}', ...) pages, filters and counts the rows; cite rows by id",
    }


def _step(step: LabelStep | SpanStep, rows: dict[str, Any], top: list[dict[str, Any]]) -> dict[str, Any]:
    asked = {"question": step.instruction[:200]}
    if isinstance(step, LabelStep):
        sources = {found["value"]: found["sources"] for found in top[:_MOST_SOURCED] if "sources" in found}
        return {**asked, "counts": rows["labels"].get(step.id, {})} | ({"sources": sources} if sources else {})
    spans = rows["spans"].get(step.id, {"texts": 0, "spans": 0})
    return {**asked, "texts_with": spans["texts"], "spans": spans["spans"], "top": top}


def _quality(summary: dict[str, Any]) -> dict[str, Any] | str:
    quality = summary.get("quality")
    if not quality:
        return "the LLM itself answered" if summary["decision"]["way"] == "llm" else "not measured"
    agreement = quality["agreement"]
    rounded: dict[str, Any] = {key: round(agreement[key], 3) for key in ("value", "low", "high")}
    with_whom = (summary.get("annotations") or {}).get("source") or "its annotator"
    return {"agreement_with": with_whom, **rounded, "texts": agreement["n"]}


def _cost(cost: dict[str, Any]) -> dict[str, Any]:
    spent = cost["input_tokens"] + cost["output_tokens"]
    facts = {"llm_calls": cost["calls"], "tokens": spent, "usd": cost["usd"]}
    return facts | {"tokens_for_every_text": cost.get("tokens_for_every_text")}


def _decision(summary: dict[str, Any]) -> dict[str, Any]:
    if summary.get("answered_before"):
        return {"way": "answered before", "reason": "the same question about the same documents"}
    taken = summary["decision"]
    proxy = taken.get("proxy")
    return {"way": taken["way"], "reason": taken["reason"]} | ({"proxy": Path(proxy).name} if proxy else {})
