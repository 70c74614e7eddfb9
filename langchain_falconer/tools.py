"""Agent tools: ``get_label``, ``get_span`` and ``mine_corpus``, for ``create_agent`` and every LangChain host.

An agent names a corpus; no text has to pass through its context. Content is a compact JSON summary, the artifact the
same facts as data with references to what lies on disk.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, BaseToolkit, ToolException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_falconer.annotate import Annotator, Budget
from langchain_falconer.errors import FalconerError
from langchain_falconer.falconer import Falconer
from langchain_falconer.graph import digest
from langchain_falconer.llm import LLM
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import Answers

MAX_TEXTS = 1_000
MAX_LLM_TEXTS = 50
_TOP = 10
Result = tuple[str, dict[str, Any]]


class GetLabelInput(BaseModel):
    """Arguments of ``get_label``."""

    texts: list[str] = Field(description="The texts to label.", min_length=1, max_length=MAX_TEXTS)
    instruction: str = Field(
        description="The question to answer about each text, e.g. 'Is this a complaint?'", min_length=1
    )
    labels: list[str] | None = Field(
        default=None, description="The labels to choose from; leave out for a yes/no question."
    )
    multi_label: bool = Field(default=False, description="Whether several labels may apply to one text.")


class GetSpanInput(BaseModel):
    """Arguments of ``get_span``."""

    texts: list[str] = Field(description="The texts to extract from.", min_length=1, max_length=MAX_TEXTS)
    instruction: str = Field(
        description="What to extract from each text, e.g. 'Extract the company names'.", min_length=1
    )


class MineCorpusInput(BaseModel):
    """Arguments of ``mine_corpus``."""

    instruction: str = Field(
        description="What to find, in plain words, e.g. 'Extract laptop prices from positive reviews'.", min_length=1
    )
    corpus: str = Field(description="The name of the corpus.", min_length=1)


class _FalconerTool(BaseTool):
    """What the tools share: a Falconer to work with, errors that tell the agent what to do, sync and async."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True
    handle_validation_error: Any = Field(default=lambda error: _explain(error))
    falconer: Any = Field(exclude=True, repr=False)
    """The :class:`Falconer` whose LLM, home and settings the tool uses."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _answer(self, step: LabelStep | SpanStep, texts: Sequence[str]) -> tuple[list[Answers], dict[str, Any]]:
        """By the newest proxy that was trained on this very question, else (for a handful of texts) by the LLM."""
        falconer: Falconer = self.falconer
        registry = falconer.home.registry
        for entry in registry.entries():
            own = next((s for s in entry.steps if s.fingerprint == step.fingerprint and s.of is None), None)
            if own is not None:
                quality = entry.quality.steps.get(own.id) if entry.quality else None
                return registry.load(entry.name).ask(texts, step), {
                    "decided_by": "proxy",
                    "proxy": entry.name,
                    "quality": quality.to_dict() if quality else None,
                }
        if falconer.llm is None:
            raise ToolException(
                "no trained proxy answers this question and there is no LLM; "
                "call mine_corpus first, with the same question"
            )
        if len(texts) > MAX_LLM_TEXTS:
            raise ToolException(
                f"no trained proxy answers this question, and the LLM is asked about at most {MAX_LLM_TEXTS} texts; "
                "call mine_corpus on a corpus, which trains one, or pass fewer texts"
            )
        return self._by_llm(falconer.llm, step, texts), {"decided_by": falconer.llm.name}

    def _by_llm(self, llm: LLM, step: LabelStep | SpanStep, texts: Sequence[str]) -> list[Answers]:
        falconer: Falconer = self.falconer
        plan = Plan(instruction=step.instruction, steps=(step,))
        store = falconer.home.store()
        try:
            job = f"tool-{digest(plan.to_dict())}"
            budget = Budget(store, job, falconer.settings.budget, llm.price() is not None)
            report = Annotator(llm, store, plan, budget, falconer.settings.annotate).annotate(texts)
        finally:
            store.close()
        if unanswered := [a for a in report.annotations if step.id not in a.answers]:
            reason = report.stopped or unanswered[0].failures.get(step.id, "no answer")
            raise ToolException(
                f"{len(unanswered)} of {len(texts)} texts were not answered ({reason}); "
                "call again to ask only for those"
            )
        return [a.answers for a in report.annotations]

    async def _arun(self, *args: Any, config: RunnableConfig = None, **kwargs: Any) -> Result:  # type: ignore[assignment]
        return await asyncio.to_thread(self._run, *args, config=config, **kwargs)


class GetLabelTool(_FalconerTool):
    """Answers a question about each of some texts: yes/no, one label, or several."""

    name: str = "get_label"
    description: str = (
        "Classify texts: answers one question about each text with yes/no, or with one of the given labels. "
        "Fast and cheap where a proxy was trained on the question; else the LLM answers for at most 50 texts."
    )
    args_schema: Any = GetLabelInput

    def _run(
        self,
        texts: list[str],
        instruction: str,
        labels: list[str] | None = None,
        multi_label: bool = False,
        config: RunnableConfig = None,  # type: ignore[assignment]
    ) -> Result:
        with _told():
            asked = {"id": "label", "instruction": instruction, "labels": labels, "multi_label": multi_label}
            step = LabelStep.model_validate(asked)
            answers, facts = self._answer(step, texts)
        found = [a.labels["label"].to_dict() for a in answers]
        facts |= {"labels": found}
        return json.dumps(facts, ensure_ascii=False), facts


class GetSpanTool(_FalconerTool):
    """Extracts from each of some texts every piece that fits, verbatim, with offsets."""

    name: str = "get_span"
    description: str = (
        "Extract from texts: every piece of each text that fits the instruction, verbatim and with character offsets. "
        "Fast and cheap where a proxy was trained on the instruction; else the LLM answers for at most 50 texts."
    )
    args_schema: Any = GetSpanInput

    def _run(self, texts: list[str], instruction: str, config: RunnableConfig = None) -> Result:  # type: ignore[assignment]
        with _told():
            answers, facts = self._answer(SpanStep(id="span", instruction=instruction), texts)
        found = [[s.to_dict() for s in a.spans["span"]] for a in answers]
        facts |= {"spans": found}
        return json.dumps(facts, ensure_ascii=False), facts


class MineCorpusTool(_FalconerTool):
    """Mines a whole corpus for an instruction, and returns counts, top values, quality, cost and a reference."""

    name: str = "mine_corpus"
    description: str = (
        "Search through EVERY text of a corpus for an instruction in plain words (classify, filter, extract), "
        "at low cost. Returns how many texts match, the most frequent values, the measured quality, the cost, "
        "and where the rows are."
    )
    args_schema: Any = MineCorpusInput
    corpora: Mapping[str, str] = Field(default_factory=dict)
    """The corpora that may be mined: name to path."""

    def _run(self, instruction: str, corpus: str, config: RunnableConfig = None) -> Result:  # type: ignore[assignment]
        if corpus not in self.corpora:
            known = ", ".join(sorted(self.corpora)) or "none"
            raise ToolException(f"there is no corpus '{corpus}'; use one of: {known}")
        with _told():
            result = self.falconer.mine(instruction, Path(self.corpora[corpus]), on_event=_stream)
        facts = _compact(result.summary)
        return json.dumps(facts, ensure_ascii=False), facts


class FalconerToolkit(BaseToolkit):
    """The tools, on one home, one LLM and the corpora that an agent may mine.

    Example:
        ``toolkit = FalconerToolkit(llm="openai:gpt-4.1-mini", corpora={"reviews": "reviews.jsonl"})``, then
        ``create_agent(model, tools=toolkit.get_tools())``
    """

    falconer: Any = Field(exclude=True, repr=False)
    corpora: dict[str, str] = Field(default_factory=dict)

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    def __init__(
        self, falconer: Falconer | None = None, *, corpora: Mapping[str, str | Path] | None = None, **options: Any
    ) -> None:
        """Take a Falconer, or the arguments to make one (``llm``, ``home``, ``settings`` …)."""
        paths = {name: str(path) for name, path in (corpora or {}).items()}
        super().__init__(falconer=falconer or Falconer(**options), corpora=paths)

    def get_tools(self) -> list[BaseTool]:
        """``get_label``, ``get_span`` and ``mine_corpus``."""
        return [
            GetLabelTool(falconer=self.falconer),
            GetSpanTool(falconer=self.falconer),
            MineCorpusTool(falconer=self.falconer, corpora=self.corpora),
        ]


def _compact(summary: dict[str, Any]) -> dict[str, Any]:
    """A run's summary small enough for a model's context."""
    rows = summary["rows"]
    spans = {k: {**v, "top": v["top"][:_TOP]} for k, v in rows["spans"].items()}
    return {
        "rows": rows["total"],
        "matched": rows["matched"],
        "failed": rows["failed"],
        "labels": rows["labels"],
        "spans": spans,
        "agreement_with_annotator": (summary.get("quality") or {}).get("agreement"),
        "guarantee": (summary.get("guarantee") or {}).get("said"),
        "cost": summary["cost"],
        "result": summary["output"],
        "proxy": Path(summary["proxy"]).name,
        "messages": summary["messages"],
    }


@contextmanager
def _told() -> Iterator[None]:
    """Turns Falconer's errors, and bad arguments, into what a tool may say to an agent."""
    try:
        yield
    except ValidationError as error:
        raise ToolException(_explain(error)) from None
    except FalconerError as error:
        raise ToolException(str(error)) from None


def _explain(error: Any) -> str:
    if not isinstance(error, ValidationError):
        return f"the arguments do not fit: {error}"
    fault = error.errors(include_url=False)[0]
    field = ".".join(map(str, fault["loc"]))
    return f"argument {field}: {fault['msg']}" if field else str(fault["msg"]).removeprefix("Value error, ")


def _stream(event: dict[str, Any]) -> None:
    """Progress as a custom event, where the tool runs inside a graph."""
    from langgraph.config import get_stream_writer

    try:
        writer = get_stream_writer()
    except (RuntimeError, KeyError):
        return
    writer({"falconer": event})
