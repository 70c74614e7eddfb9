"""A middleware that keeps large tool results out of an agent's context: they become corpora to be asked about."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.tools.tool_node import ToolCallRequest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.runtime import Runtime
from langgraph.types import Command
from typing_extensions import NotRequired, TypedDict

from langchain_falconer.cancellation import run_in_thread
from langchain_falconer.corpus import IngestReport
from langchain_falconer.errors import CorpusError, SettingsError
from langchain_falconer.files import digest
from langchain_falconer.llm import estimate_tokens
from langchain_falconer.records import JsonObject
from langchain_falconer.tools.base import fit_tokens
from langchain_falconer.tools.tool_output import documents_of, text_of
from langchain_falconer.tools.toolkit import FalconerToolkit

_MAX_NOTE_TOKENS = 500
_SAMPLES, _SAMPLE_CHARS = 3, 150
_MAX_COLUMNS = 12
_MAX_LISTED = 10
_PROVENANCE = ("tool", "tool_call", "arguments")
_NEXT = (
    "the texts are too long to read; ask about all of them: get_label(corpus='{corpus}', instruction=…) for a "
    "question, get_span for what to extract, mine_corpus for both; with by=… to compare the groups of a column"
)


class KeptResult(TypedDict):
    """A tool result that was kept as a corpus.

    Attributes:
        tool: Name of the tool.
        tool_call: Id of the call.
        arguments: Digest of the arguments of the call.
        texts: Number of texts in the result.
    """

    tool: str
    tool_call: str
    arguments: str
    texts: int


def _merged(one: dict[str, KeptResult], other: dict[str, KeptResult]) -> dict[str, KeptResult]:
    return {**(one or {}), **(other or {})}


class CorpusState(AgentState[Any]):
    """The state of an agent with a :class:`CorpusMiddleware`: the corpora made in the conversation, by name."""

    corpora: NotRequired[Annotated[dict[str, KeptResult], _merged]]


class CorpusMiddleware(AgentMiddleware[CorpusState, Any, Any]):
    """A middleware that puts long tool results into a corpus, and tells the model how to ask about all of it.

    The texts get the name of the tool, the id of the call and a digest of its arguments as metadata (``tool``,
    ``tool_call``, ``arguments``), beside their own (``url``, ``source``, ``date`` …). The model reads what came, three
    samples and the name of the corpus; the tools to ask about it are added to the agent. The names of the corpora stay
    in the state and in the system prompt, so that they outlive a summary of the conversation.

    Args:
        toolkit: The tools that ask about corpora; its home keeps the texts. Their own results are never touched.
        max_tokens: A longer result becomes a corpus; estimated as one token per three UTF-8 bytes.
        corpus: Name of one corpus for all results; by default each result has its own.
        exclude: Names of tools whose results are left as they are.

    Raises:
        SettingsError: ``max_tokens`` is below 1.

    Example:
        ``create_agent(model, tools=[search], middleware=[CorpusMiddleware(FalconerToolkit(llm=model))])``
    """

    state_schema = CorpusState
    tools: Sequence[BaseTool]

    def __init__(
        self,
        toolkit: FalconerToolkit,
        *,
        max_tokens: int = 2_000,
        corpus: str | None = None,
        exclude: Collection[str] = (),
    ) -> None:
        if max_tokens < 1:
            raise SettingsError(f"max_tokens is {max_tokens}; set it to at least 1", field="max_tokens")
        super().__init__()
        self.toolkit = toolkit
        self.tools = toolkit.get_tools()
        self.max_tokens = max_tokens
        self.corpus = corpus
        self._excluded = {*exclude, *(tool.name for tool in self.tools)}

    # ---- tools

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Run a tool; a long result is put into a corpus."""
        return self._keep(request, handler(request))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """Run a tool; a long result is put into a corpus, in a thread."""
        result = await handler(request)
        return await run_in_thread(lambda: self._keep(request, result))

    def _keep(self, request: ToolCallRequest, result: ToolMessage | Command[Any]) -> ToolMessage | Command[Any]:
        if request.tool_call["name"] in self._excluded:
            return result
        if isinstance(result, ToolMessage):
            return self._shortened(request, result)
        update = result.update
        if not isinstance(update, Mapping) or not isinstance(update.get("messages"), list):
            return result
        messages = [self._shortened(request, m) if isinstance(m, ToolMessage) else m for m in update["messages"]]
        return replace(result, update={**update, "messages": messages})

    def _shortened(self, request: ToolCallRequest, message: ToolMessage) -> ToolMessage:
        """Return a message with a short note in place of a long text; blocks that are no text stay."""
        text = text_of(message)
        if estimate_tokens(text) <= self.max_tokens:
            return message
        call = request.tool_call
        source = {"tool": call["name"], "tool_call": call["id"] or "", "arguments": digest(call["args"])}
        documents = documents_of(message)
        try:
            report = self._store(documents, source, digest(text))
        except CorpusError as error:
            data = self._not_kept(text, error)
            return message.model_copy(update={"content": json.dumps(data, ensure_ascii=False), "artifact": data})
        data = _note(documents, source, report)
        note, others = json.dumps(data, ensure_ascii=False), _other_blocks(message)
        content = [{"type": "text", "text": note}, *others] if others else note
        kept: KeptResult = {**source, "texts": len(documents)}  # type: ignore[typeddict-item]
        return message.model_copy(update={"content": content, "artifact": {"kept": {report.corpus: kept}}})

    def _store(self, documents: Sequence[Document], source: Mapping[str, str], content: str) -> IngestReport:
        tool = re.sub("[^a-z0-9]+", "-", source["tool"].lower()).strip("-")[:40] or "tool"
        name = self.corpus or f"{tool}-{digest(source['arguments'], content)[:8]}"
        marked = [Document(d.page_content, metadata={**d.metadata, **source}) for d in documents]
        report = self.toolkit.falconer.add_documents(name, marked)
        if report.unreadable == len(documents):
            raise CorpusError(f"none of its {len(documents)} texts can be used: {report.reasons[0]}")
        return report

    def _not_kept(self, text: str, error: CorpusError) -> JsonObject:
        """Return the beginning of a result that no corpus could keep, and why."""
        reason = f"the result was too long to show, and it could not be kept as a corpus: {error}"
        shown = fit_tokens({"beginning": text[: 3 * self.max_tokens]}, self.max_tokens)
        return {"error": " ".join(reason.split()), **shown}

    # ---- state and prompt

    def before_model(self, state: CorpusState, runtime: Runtime[Any]) -> dict[str, dict[str, KeptResult]] | None:
        """Note in the state which corpora the last tool calls made."""
        made: dict[str, KeptResult] = {}
        for message in reversed(state["messages"]):
            if isinstance(message, AIMessage):
                break
            if isinstance(message, ToolMessage) and isinstance(message.artifact, dict):
                made = {**message.artifact.get("kept", {}), **made}
        return {"corpora": made} if made else None

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with the names of the corpora in its system prompt."""
        return handler(_with_corpora(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Call the model with the names of the corpora in its system prompt."""
        return await handler(_with_corpora(request))


def _with_corpora(request: ModelRequest[Any]) -> ModelRequest[Any]:
    corpora: dict[str, KeptResult] = request.state.get("corpora") or {}  # type: ignore[assignment]
    if not corpora:
        return request
    listed = [f"'{name}' ({kept['texts']} texts of {kept['tool']})" for name, kept in corpora.items()]
    line = "Corpora kept from long tool results, to be asked about with get_label, get_span and mine_corpus: "
    line += "; ".join(listed[-_MAX_LISTED:])
    before = request.system_message.content_blocks if request.system_message else []
    blocks: list[Any] = [*before, {"type": "text", "text": f"\n\n{line}" if before else line}]
    return request.override(system_message=SystemMessage(content_blocks=blocks))


def _other_blocks(message: ToolMessage) -> list[Any]:
    blocks = [] if isinstance(message.content, str) else message.content
    return [block for block in blocks if isinstance(block, dict) and not isinstance(block.get("text"), str)]


def _note(documents: Sequence[Document], source: Mapping[str, str], report: IngestReport) -> JsonObject:
    """Return what the model reads in place of a long result."""
    chars = sum(len(document.page_content) for document in documents)
    columns = dict.fromkeys(str(name) for document in documents for name in document.metadata)
    samples = documents[:: max(1, -(-len(documents) // _SAMPLES))]
    note = {
        "corpus": report.corpus,
        "kept": f"{source['tool']} returned {len(documents)} texts ({chars} characters), all kept in this corpus",
        "texts": report.documents,
        **({"duplicates": report.duplicates} if report.duplicates else {}),
        **({"unreadable": report.unreadable} if report.unreadable else {}),
        "columns": [name for name in columns if name not in _PROVENANCE][:_MAX_COLUMNS],
        "samples": [_sample(document) for document in samples],
        "next": _NEXT.format(corpus=report.corpus),
    }
    return fit_tokens(note, _MAX_NOTE_TOKENS)


def _sample(document: Document) -> dict[str, str]:
    text = " ".join(document.page_content.split())
    source = document.metadata.get("source") or document.metadata.get("url")
    shown = text[:_SAMPLE_CHARS] + "…" * (len(text) > _SAMPLE_CHARS)
    return {"text": shown, **({"source": str(source)[:120]} if source else {})}
