"""A real OpenAI-compatible chat server on 127.0.0.1, answered by a Python function.

    with ChatServer(lambda request: '{"ok": true}') as server:
        ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback")

`reply` gets the request's JSON and returns the answer's text; a dict with any of `content`, `usage` (prompt and
completion tokens), `tool_calls`, `finish_reason`, `refusal`, `message` (the message as it is, where a tool is forced
too); `(status, body, headers)` for an error; or `DROPPED`, for a connection that is lost in the middle of the body. It
is called from several threads at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_openai import ChatOpenAI

from langchain_falconer.llm import LLM
from langchain_falconer.settings import LLMSettings


def llm_at(server: ChatServer, **settings: Any) -> LLM:
    """The server as Falconer's LLM; it does not ask again unless the settings say so."""
    model = ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback", max_retries=0)
    return LLM(model, LLMSettings(**{"max_retries": 0, **settings}))


Answer = str | dict[str, Any] | tuple[int, Any, Mapping[str, str]]
DROPPED: Answer = (0, '{"choices": [{"message": {"content": ', {})


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    json: dict[str, Any]

    @property
    def way(self) -> str:
        """How the answer was asked for: json_schema, function_calling or text."""
        if "response_format" in self.json:
            return "json_schema"
        return "function_calling" if "tools" in self.json else "text"


class ChatServer:
    """Serves while used as a context manager; `requests` holds every request in order of arrival."""

    def __init__(self, reply: Callable[[dict[str, Any]], Answer]) -> None:
        self.reply = reply
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def calls(self) -> int:
        return len(self.requests)

    def __enter__(self) -> ChatServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: Request) -> tuple[int, Any, Mapping[str, str]]:
        with self._lock:
            self.requests.append(request)
        answer = self.reply(request.json)
        if isinstance(answer, tuple):
            return answer
        return 200, completion(request.json, {"content": answer} if isinstance(answer, str) else answer), {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, answer, headers = outer._answer(
                    Request(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body))
                )
                payload = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                is_dropped = status == DROPPED[0]
                try:
                    self.send_response(200 if is_dropped else status)
                    for name, value in {"content-type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(payload) + 1_000 * is_dropped))
                    self.end_headers()
                    self.wfile.write(payload)
                    self.close_connection = self.close_connection or is_dropped
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client gave up, as a timeout test wants

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def completion(request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion; a request that forces a tool is answered by a call of that tool."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.get("content")}
    if "message" in answer:
        message |= answer["message"]
    elif "tool_calls" in answer:
        message["tool_calls"] = answer["tool_calls"]
    elif "tools" in request and answer.get("content") is not None:
        call = {"name": request["tools"][0]["function"]["name"], "arguments": answer["content"]}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    if "refusal" in answer:
        message["refusal"] = answer["refusal"]
    usage = answer.get("usage", {"prompt_tokens": 10, "completion_tokens": 5})
    body: dict[str, Any] = {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 0,
        "model": request.get("model", "loopback"),
        "choices": [{"index": 0, "message": message, "finish_reason": answer.get("finish_reason", "stop")}],
    }
    if usage is not None:
        body["usage"] = usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}
    return body
