"""An HTTP server that answers typed questions, and its plan, from a proxy (extra ``serve``).

Concurrent requests share encoder passes: while one is computed the next ones gather, without waiting for more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from langchain_falconer.cancellation import run_in_thread
from langchain_falconer.errors import SettingsError, first_fault
from langchain_falconer.model import Proxy
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.records import JsonObject
from langchain_falconer.tools.decision_protocol import (
    Classification,
    ClassificationRequest,
    ClassificationResponse,
    DecisionRequest,
    DecisionResponse,
    ErrorDetail,
    ErrorResponse,
    RequestError,
    Usage,
    label_answer,
    span_answer,
    steps_of,
    text_of,
)
from langchain_falconer.urls import LOOPBACK

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

_MAX_BYTES = 8 * 2**20
"""Bytes of a request."""
_MAX_WAITING = 512
"""Jobs that wait for the encoder; more are turned away."""
_BATCH_TEXTS = 64
"""Texts of one job, and of one pass of several jobs."""
_Body = TypeVar("_Body", bound=BaseModel)
_Steps = tuple[LabelStep | SpanStep, ...]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """Texts that wait for answers to the same questions; without questions, to the plan."""

    steps: _Steps | None
    texts: Sequence[str]
    answers: asyncio.Future[list[Any]]


class MicroBatcher:
    """Gathers concurrent jobs with the same questions into one encoder pass.

    Args:
        proxy: The proxy.

    Attributes:
        passes: Number of passes so far.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._waiting: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._scorer = lru_cache(maxsize=64)(proxy.step_scorer)  # query heads of questions that come again
        self.passes = 0

    async def __call__(self, texts: Sequence[str], steps: _Steps | None = None) -> list[Any]:
        """Return the :class:`Scores` of the steps about each text; without steps, the :class:`Record` of each text.

        Raises:
            RequestError: Too many jobs wait.
        """
        if len(self._waiting) >= _MAX_WAITING:
            raise RequestError("the server is busy; send fewer requests at once", status=429)
        job = _Job(steps, texts, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await job.answers

    async def _work(self) -> None:
        while self._waiting:
            await self._answer(self._next())

    async def _answer(self, jobs: Sequence[_Job]) -> None:
        """Answer jobs in one pass; where it fails, each in its own, so that a text fails no other job."""
        steps, texts = jobs[0].steps, [text for job in jobs for text in job.texts]
        try:
            answers = iter(await run_in_thread(lambda: self._compute(steps, texts)))
        except Exception as error:
            if len(jobs) == 1 and not jobs[0].answers.done():
                jobs[0].answers.set_exception(error)
            for job in jobs if len(jobs) > 1 else ():
                await self._answer([job])
            return
        for job in jobs:
            own = [next(answers) for _ in job.texts]
            if not job.answers.done():  # its client may be gone
                job.answers.set_result(own)

    def _next(self) -> list[_Job]:
        """Take the jobs of the next pass: the first that waits, and those with the same questions."""
        first = self._waiting.popleft()
        jobs, left, size = [first], deque[_Job](), len(first.texts)
        for job in self._waiting:
            if job.answers.done():  # its client is gone
                continue
            if job.steps == first.steps and size + len(job.texts) <= _BATCH_TEXTS:
                jobs.append(job)
                size += len(job.texts)
            else:
                left.append(job)
        self._waiting = left
        return jobs

    def _compute(self, steps: _Steps | None, texts: list[str]) -> list[Any]:
        self.passes += 1
        return self._proxy.run(texts) if steps is None else self._scorer(steps)(texts)


class _Decisions:
    """The routes.

    Args:
        proxy: The proxy.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.model = proxy.path.name if proxy.path else proxy.fingerprint
        self._proxy = proxy
        self.batcher = MicroBatcher(proxy)

    async def systemone(self, request: Request) -> Response:
        """Answer typed questions about a state."""
        asked = await _read(request, DecisionRequest)
        steps, text = steps_of(asked, self._proxy.plan), text_of(asked.state)
        (scores,) = await self.batcher([text], steps)
        answers = {
            name: label_answer(question, step, scores.labels[step.id])
            if isinstance(step, LabelStep)
            else span_answer(text, scores.spans[step.id])
            for (name, question), step in zip(asked.questions.items(), steps, strict=True)
        }
        usage = Usage(input_tokens=round(scores.n_tokens))
        return _json(DecisionResponse(model=self.model, answers=answers, usage=usage))

    async def classifications(self, request: Request) -> Response:
        """Answer the plan about texts."""
        from starlette.responses import StreamingResponse

        asked = await _read(request, ClassificationRequest)
        results = self._classified([asked.input] if isinstance(asked.input, str) else asked.input)
        if asked.stream:
            lines = (f"{result.model_dump_json()}\n" async for result in results)
            return StreamingResponse(lines, media_type="application/jsonl")
        return _json(ClassificationResponse(model=self.model, data=[result async for result in results]))

    async def _classified(self, texts: Sequence[str]) -> AsyncIterator[Classification]:
        for first in range(0, len(texts), _BATCH_TEXTS):
            for i, record in enumerate(await self.batcher(texts[first : first + _BATCH_TEXTS]), start=first):
                row = record.to_dict()
                yield Classification(index=i, labels=row["labels"], spans=row["spans"], match=row["match"])

    async def models(self, request: Request) -> Response:
        """Name the proxy, with its plan."""
        from starlette.responses import JSONResponse

        model = {"id": self.model, "object": "model", "created": 0, "owned_by": "langchain-falconer"}
        return JSONResponse({"object": "list", "data": [model | {"plan": self._proxy.plan.to_dict()}]})

    async def openapi(self, request: Request) -> Response:
        """Describe the routes."""
        from starlette.responses import JSONResponse

        return JSONResponse(openapi())


class _LocalOnly:
    """Refuses requests that name another host, or come from a page of another origin (DNS rebinding)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            origin = headers.get(b"origin", "")
            places = [headers.get(b"host", ""), *([origin.partition("://")[2]] if origin else [])]
            if any(_host_of(place) not in LOOPBACK for place in places):
                error = RequestError(f"the server answers requests to {LOOPBACK[0]} only", status=403)
                await _refused(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_of(address: str) -> str:
    """Return the host of ``host:port``; IPv6 addresses stand in brackets."""
    return address[1:].partition("]")[0] if address.startswith("[") else address.partition(":")[0]


def create_decision_app(proxy: Proxy, *, allow_remote: bool = False) -> Starlette:
    """Create the ASGI application.

    Args:
        proxy: The proxy.
        allow_remote: Answer whatever host a request names; it has no authentication.

    Raises:
        SettingsError: The extra is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.routing import Route
    except ImportError as error:
        raise _no_extra() from error
    routes = _Decisions(proxy)
    return Starlette(
        routes=[
            Route("/v1/systemone", _guarded(routes.systemone), methods=["POST"]),
            Route("/v1/classifications", _guarded(routes.classifications), methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/openapi.json", routes.openapi),
        ],
        middleware=[] if allow_remote else [Middleware(_LocalOnly)],
        exception_handlers={404: _no_route, 405: _no_route},
    )


def serve_decisions(proxy: Proxy, *, host: str = "127.0.0.1", port: int = 8100, allow_remote: bool = False) -> None:
    """Serve a proxy over HTTP until the process is stopped.

    Args:
        proxy: The proxy.
        host: Address to listen on.
        port: Port to listen on.
        allow_remote: Allow a host that others can reach, without authentication.

    Raises:
        SettingsError: The host is not of the loopback interface, or the extra is not installed.
    """
    if host not in LOOPBACK and not allow_remote:
        raise SettingsError(
            f"on '{host}' others could reach the server, which asks for no password; use 127.0.0.1, or allow it with "
            "--allow-remote",
            field="host",
        )
    app = create_decision_app(proxy, allow_remote=allow_remote)
    try:
        import uvicorn
    except ImportError as error:
        raise _no_extra() from error
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)


def openapi() -> JsonObject:
    """Return the OpenAPI document of the server."""
    models = (DecisionRequest, DecisionResponse, ClassificationRequest, ClassificationResponse, Classification)
    _, schemas = models_json_schema(
        [(model, "validation") for model in (*models, ErrorResponse)], ref_template="#/components/schemas/{model}"
    )

    def content(model: type[BaseModel], media: str = "application/json") -> JsonObject:
        return {media: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}

    def route(summary: str, asked: type[BaseModel], answered: JsonObject) -> JsonObject:
        refused: JsonObject = {"description": "Refused.", "content": content(ErrorResponse)}
        body: JsonObject = {"required": True, "content": content(asked)}
        found: JsonObject = {"200": {"description": "The answers.", "content": answered}}
        found |= dict.fromkeys(("413", "422", "429"), refused)
        return {"post": {"summary": summary, "requestBody": body, "responses": found}}

    lines = content(ClassificationResponse) | content(Classification, "application/jsonl")
    return {
        "openapi": "3.1.0",
        "info": {"title": "falconer serve", "version": version("langchain-falconer")},
        "paths": {
            "/v1/systemone": route("Typed questions about a state", DecisionRequest, content(DecisionResponse)),
            "/v1/classifications": route("The plan of the proxy about texts", ClassificationRequest, lines),
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer errors of a handler as JSON, in one sentence."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return _refused(error)
        except Exception as error:
            _log.error("a request failed: %s", type(error).__name__)  # its message may quote a text
            return _refused(RequestError(f"the proxy failed ({type(error).__name__}); send another text", status=500))

    return handle


async def _read(request: Request, model: type[_Body]) -> _Body:
    """Read the body of a request. Raises ``RequestError`` where it is too large, or not of this shape."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise RequestError(f"the request has more than {_MAX_BYTES:,} bytes; send fewer texts at once", status=413)
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        field, reason = first_fault(error)
        raise RequestError(f"{field}: {reason}" if field else reason, param=field or None) from error


def _json(answer: BaseModel) -> Response:
    from starlette.responses import Response

    return Response(answer.model_dump_json(), media_type="application/json")


def _refused(error: RequestError) -> Response:
    from starlette.responses import JSONResponse

    kind: Any = "server_error" if error.status >= 500 else "invalid_request_error"
    detail = ErrorDetail(message=" ".join(str(error).split()), type=kind, param=error.param)
    headers = {"retry-after": "1"} if error.status == 429 else None
    return JSONResponse(ErrorResponse(error=detail).model_dump(), error.status, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _refused(RequestError("there is no such route; GET /openapi.json names them", status=status))


def _no_extra() -> SettingsError:
    return SettingsError("serving needs its extra; run: pip install 'langchain-falconer[serve]'")
