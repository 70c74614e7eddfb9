"""The base of all tools: a Falconer with its corpora, errors that name the fix, answers within a token budget."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from langchain_falconer.cancellation import run_in_thread
from langchain_falconer.corpus import StoredCorpus, Url
from langchain_falconer.errors import FalconerError, first_fault
from langchain_falconer.falconer import Falconer
from langchain_falconer.graph import ProgressEvent
from langchain_falconer.llm import estimate_tokens
from langchain_falconer.records import JsonObject

MAX_TEXTS = 1_000
"""Maximum number of texts or documents per call."""
MAX_TOKENS = 1_500
"""Maximum number of tokens of an answer, estimated as one token per three UTF-8 bytes."""
_MAX_REASON_CHARS = 200
_MIN_CUT_CHARS = 40
_DATA_KEYS = ("sources", "counts")
"""Dictionaries whose keys are data rather than field names."""
Result = tuple[str, JsonObject]
"""The content of a tool message, and its artifact."""
_log = logging.getLogger(__name__)

progress_listener: ContextVar[Callable[[ProgressEvent], None] | None] = ContextVar("progress", default=None)
"""Receives the progress of the calls of this context, in whatever thread it comes about."""


def encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode()


Text = Annotated[str, AfterValidator(encodable)]
"""A string that UTF-8 can encode: an LLM may write a lone surrogate."""


class ToolInput(BaseModel):
    """Arguments of a tool, as LLMs write them: optional ones may be empty, lists and objects may be JSON strings."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        decoded = {name: _decoded(argument) for name, argument in data.items()}
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: one for name, one in decoded.items() if name not in optional or one not in _EMPTY}


_EMPTY: tuple[object, ...] = (None, "", [], {})


def _decoded(argument: object) -> object:
    """Return the list or object that a string holds as JSON; anything else as it is."""
    if not isinstance(argument, str) or argument.strip()[:1] not in ("[", "{"):
        return argument
    try:
        return json.loads(argument)
    except (ValueError, RecursionError):
        return argument


class FalconerTool(BaseTool):
    """A tool of one Falconer, on the corpora that an agent may ask about.

    Attributes:
        answer_type: The ``TypedDict`` of its answers.
        read_only: Whether a call changes nothing and costs nothing.
        falconer: The Falconer whose LLM, home and settings the tool uses.
        corpora: Files that may be asked about by name, beside the corpora of the workspace.
    """

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True
    handle_validation_error: Any = Field(default=lambda error: explain(error))
    args_schema: type[BaseModel]
    answer_type: ClassVar[type]
    read_only: ClassVar[bool] = False
    falconer: Falconer = Field(exclude=True, repr=False)
    corpora: Mapping[str, Path | Url] = Field(default_factory=dict)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def answer(self, request: Any) -> Mapping[str, object]:
        """Return the full answer to a call (an instance of ``args_schema``), before it is cut to :data:`MAX_TOKENS`."""
        raise NotImplementedError

    def _run(self, *, config: RunnableConfig = None, **arguments: Any) -> Result:  # type: ignore[assignment]
        """Answer a call; every error becomes a ``ToolException`` whose message an agent may read."""
        try:
            data = fit_tokens(self.answer(self.args_schema.model_validate(arguments)))
        except ToolException:
            raise
        except ValidationError as error:
            raise ToolException(explain(error)) from error
        except FalconerError as error:
            raise ToolException(" ".join(str(error).split())) from error
        except Exception as error:
            _log.exception("a tool failed")
            reason = " ".join(str(error).split())[:_MAX_REASON_CHARS]
            raise ToolException(f"the tool failed ({type(error).__name__}: {reason}); try other arguments") from error
        return json.dumps(data, ensure_ascii=False), data

    async def _arun(self, *, config: RunnableConfig = None, **arguments: Any) -> Result:  # type: ignore[assignment]
        return await run_in_thread(partial(self._run, config=config, **arguments))

    def find_corpus(self, name: str) -> Path | Url | StoredCorpus:
        """Return an allowed file, or a corpus of the workspace. Raises ``ToolException`` if there is none."""
        if name in self.corpora:
            return self.corpora[name]
        stored = {corpus.name: corpus for corpus in self.falconer.list_corpora()}
        if name not in stored:
            names = ", ".join(sorted({*self.corpora, *stored})) or "none yet; make one with add_documents"
            raise ToolException(f"there is no corpus '{name[:80]}'; use one of: {names}")
        return stored[name]


def fit_tokens(data: Mapping[str, object], limit: int = MAX_TOKENS) -> JsonObject:
    """Return JSON data whose longest lists and strings are cut until it takes at most ``limit`` tokens.

    Data that was cut holds ``"shortened": true``.
    """
    fitting: JsonObject = json.loads(json.dumps(data, ensure_ascii=False))
    while _count_tokens(fitting) > limit:
        fitting["shortened"] = True
        if not _shorten(fitting):
            break
    return fitting


def _count_tokens(data: Any) -> int:
    return estimate_tokens(json.dumps(data, ensure_ascii=False))


def _shorten(data: JsonObject) -> bool:
    """Cut the largest list or dictionary of values by a tenth, or else the longest string by half."""
    values = [(parent, key, parent[key]) for parent, key in _walk(data)]
    collections = [
        value
        for _, key, value in values
        if (isinstance(value, list) or (isinstance(value, dict) and key in _DATA_KEYS)) and len(value) > 1
    ]
    if collections:
        largest = max(collections, key=_count_tokens)
        for _ in range(max(1, len(largest) // 10)):
            largest.popitem() if isinstance(largest, dict) else largest.pop()
        return True
    strings = [entry for entry in values if isinstance(entry[2], str)]
    longest = max(strings, key=lambda entry: len(entry[2]), default=None)
    if longest is None or len(longest[2]) < _MIN_CUT_CHARS:
        return False
    parent, key, text = longest
    parent[key] = f"{text[: len(text) // 2]}…"
    return True


def _walk(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every value inside JSON data as its parent and its key or index."""
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in keys:
        yield data, key
        yield from _walk(data[key])


def report_progress(event: ProgressEvent) -> None:
    """Send a progress event to the listener of the call, and as a custom event inside a graph."""
    from langgraph.config import get_stream_writer

    if (listener := progress_listener.get()) is not None:
        listener(event)
    try:
        writer = get_stream_writer()
    except (RuntimeError, KeyError):
        return
    writer(event)


def explain(error: Exception) -> str:
    """Return the first fault of invalid arguments in one sentence."""
    if not isinstance(error, ValidationError):
        return " ".join(f"the arguments do not fit: {error}".split())
    field, reason = first_fault(error)
    message = " ".join(reason.split())
    return f"argument {field[:_MAX_REASON_CHARS]}: {message}" if field else message
