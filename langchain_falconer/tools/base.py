"""What the tools share: a Falconer and its corpora, errors that say what to do next, answers within a token budget."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from langchain_falconer.corpus import Url
from langchain_falconer.errors import FalconerError, RunError
from langchain_falconer.falconer import Falconer
from langchain_falconer.llm import estimate_tokens

MAX_TEXTS = 1_000
"""Most texts or documents in one call."""
MAX_TOKENS = 1_500
"""Most tokens of an answer, at a careful three UTF-8 bytes a token."""
_LONGEST = 200
Result = tuple[str, dict[str, Any]]
_log = logging.getLogger(__name__)
_stopped: ContextVar[threading.Event | None] = ContextVar("falconer_stopped", default=None)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


Text = Annotated[str, AfterValidator(_clean)]
"""A string that UTF-8 can hold: a model may write a lone surrogate."""


class FalconerTool(BaseTool):
    """A tool on one Falconer and the corpora that an agent may ask about."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True
    handle_validation_error: Any = Field(default=lambda error: explain(error))
    falconer: Any = Field(exclude=True, repr=False)
    """The :class:`Falconer` whose LLM, home and settings the tool uses."""
    corpora: Mapping[str, Path | Url] = Field(default_factory=dict)
    """Files that may be asked about by name, beside the corpora of the workspace."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def answer(self, *args: Any, **arguments: Any) -> dict[str, Any]:
        """What the tool has to say, as JSON data of any size."""
        raise NotImplementedError

    def _run(self, *, config: RunnableConfig = None, **arguments: Any) -> Result:  # type: ignore[assignment]
        with _told():
            facts = fitted(self.answer(**arguments))
        return json.dumps(facts, ensure_ascii=False), facts

    async def _arun(self, *, config: RunnableConfig = None, **arguments: Any) -> Result:  # type: ignore[assignment]
        stopped = threading.Event()
        _stopped.set(stopped)
        try:
            return await asyncio.to_thread(self._run, config=config, **arguments)
        except asyncio.CancelledError:
            stopped.set()  # the thread ends at its next progress; what it did is kept
            raise

    @property
    def mine(self) -> Falconer:
        """The Falconer, typed."""
        falconer: Falconer = self.falconer
        return falconer

    def find(self, name: str) -> Any:
        """The corpus of this name: a path that was allowed, or a corpus of the workspace."""
        if name in self.corpora:
            return self.corpora[name]
        stored = {corpus.name: corpus for corpus in self.mine.list_corpora()}
        if name not in stored:
            known = ", ".join(sorted({*self.corpora, *stored})) or "none yet; make one with add_documents"
            raise ToolException(f"there is no corpus '{name[:80]}'; use one of: {known}")
        return stored[name]


def fitted(facts: dict[str, Any], tokens: int = MAX_TOKENS) -> dict[str, Any]:
    """The facts, their longest lists and texts cut until they take at most so many tokens; ``shortened`` says so."""
    facts = json.loads(json.dumps(facts, ensure_ascii=False))
    while _tokens(facts) > tokens:
        facts["shortened"] = True
        if not _cut(facts):
            break
    return facts


def _tokens(data: Any) -> int:
    return estimate_tokens(json.dumps(data, ensure_ascii=False))


def _cut(facts: dict[str, Any]) -> bool:
    """Shorten the largest list or dictionary of values by a tenth, or else the longest string by half."""
    boxes = [box for box in _boxes(facts) if len(box[0]) > 1]
    if boxes:
        box, _ = max(boxes, key=lambda pair: pair[1])
        for _ in range(max(1, len(box) // 10)):
            box.popitem() if isinstance(box, dict) else box.pop()
        return True
    strings: list[tuple[Any, Any]] = list(_strings(facts))
    place, key = max(strings, key=lambda found: len(found[0][found[1]]), default=(None, None))
    if place is None or len(place[key]) < 40:
        return False
    place[key] = f"{place[key][: len(place[key]) // 2]}…"
    return True


def _boxes(data: Any) -> Iterator[tuple[Any, int]]:
    """Lists, and dictionaries whose keys are data rather than names, each with its size."""
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, dict) and key in ("sources", "counts"):
                yield value, _tokens(value)
            yield from _boxes(value)
    elif isinstance(data, list):
        yield data, _tokens(data)
        for value in data:
            yield from _boxes(value)


def _strings(data: Any) -> Iterator[tuple[Any, Any]]:
    places = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in places:
        if isinstance(value, str):
            yield data, key
        else:
            yield from _strings(value)


def progress(event: dict[str, Any]) -> None:
    """Progress as a custom event, where the tool runs inside a graph; ends the work of a call that was cancelled."""
    if (stopped := _stopped.get()) is not None and stopped.is_set():
        raise RunError("the call was cancelled; the same call again goes on from here")
    from langgraph.config import get_stream_writer

    try:
        writer = get_stream_writer()
    except (RuntimeError, KeyError):
        return
    writer({"falconer": event})


@contextmanager
def _told() -> Iterator[None]:
    """Turns what goes wrong into what a tool may say to an agent."""
    try:
        yield
    except ToolException:
        raise
    except ValidationError as error:
        raise ToolException(explain(error)) from None
    except FalconerError as error:
        raise ToolException(" ".join(str(error).split())) from None
    except Exception as error:
        _log.exception("a tool failed")
        said = " ".join(str(error).split())[:_LONGEST]
        raise ToolException(f"the tool failed ({type(error).__name__}: {said}); try other arguments") from None


def explain(error: Any) -> str:
    """The first fault of arguments that do not fit, in one sentence."""
    if not isinstance(error, ValidationError):
        return " ".join(f"the arguments do not fit: {error}".split())
    fault = error.errors(include_url=False)[0]
    field = ".".join(map(str, fault["loc"]))[:_LONGEST]
    said = " ".join(str(fault["msg"]).removeprefix("Value error, ").split())
    return f"argument {field}: {said}" if field else said
