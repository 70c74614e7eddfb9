"""A server on the loopback interface for the page in which a person corrects a run.

Whatever else runs in the same browser must not reach it: the address holds a random token, the name of the host has to
be the loopback's (no other name that resolves to it), and a request that changes anything has to come from the page.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_falconer.errors import FalconerError
from langchain_falconer.records import JsonObject

_MAX_BODY = 20_000_000
Emit = Callable[[Mapping[str, object]], None]
"""Receives progress events."""


class ReviewServer:
    """Serves a page, saves what it sends, and trains again when it is told to.

    Args:
        page: Returns the page as it is now.
        save: Receives corrections and texts whose corrections are taken back; returns the number of corrected texts.
        retrain: Trains again; receives a callback for progress, and returns what came of it in a sentence.
        port: The port; 0 for any that is free.

    Attributes:
        url: The address of the page.
    """

    def __init__(
        self,
        page: Callable[[], bytes],
        save: Callable[[list[JsonObject], list[str]], int],
        retrain: Callable[[Emit], str],
        port: int = 0,
    ) -> None:
        self._page, self._save, self._retrain = page, save, retrain
        self._token = secrets.token_urlsafe(32)
        self._saving = threading.Lock()
        self._training: threading.Thread | None = None
        self._status: dict[str, Any] = {"state": "idle", "message": "nothing was trained yet"}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.url = f"http://{self.hosts[0]}/{self._token}/"

    def serve(self) -> None:
        """Serve until :meth:`close` is called in another thread."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop serving; a training that runs is waited for."""
        self._server.shutdown()
        self._server.server_close()
        if self._training:
            self._training.join()

    # ---- what requests do

    def _answer(self, method: str, path: str, body: bytes) -> tuple[HTTPStatus, bytes, str]:
        """Return status, content and its type."""
        token, _, name = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return _json(HTTPStatus.NOT_FOUND, {"error": "there is no such page; open the address that was printed"})
        match method, name:
            case "GET", "":
                return HTTPStatus.OK, self._page(), "text/html; charset=utf-8"
            case "GET", "status":
                return _json(HTTPStatus.OK, self._status)
            case "POST", "corrections":
                return self._corrections(body)
            case "POST", "retrain":
                return self._start_training()
        return _json(HTTPStatus.NOT_FOUND, {"error": f"there is no {name[:40]!r} here"})

    def _corrections(self, body: bytes) -> tuple[HTTPStatus, bytes, str]:
        try:
            data = json.loads(body)
            rows, removed = list(data["rows"]), list(data["removed"])
            if not all(isinstance(row, dict) for row in rows) or not all(isinstance(text, str) for text in removed):
                raise TypeError("rows are objects, removed are texts")
        except (ValueError, TypeError, KeyError) as error:
            return _json(HTTPStatus.BAD_REQUEST, {"error": f"that is not what the page sends ({error})"})
        with self._saving:
            return _json(HTTPStatus.OK, {"texts": self._save(rows, removed)})

    def _start_training(self) -> tuple[HTTPStatus, bytes, str]:
        with self._saving:
            if self._training and self._training.is_alive():
                return _json(HTTPStatus.CONFLICT, {"error": "it is training already"})
            self._status = {"state": "running", "stage": "starting"}
            self._training = threading.Thread(target=self._train, name="retrain")
            self._training.start()
        return _json(HTTPStatus.OK, self._status)

    def _train(self) -> None:
        def emit(event: Mapping[str, object]) -> None:
            known = {key: event[key] for key in ("stage", "done", "total") if key in event}
            self._status = {"state": "running", **known}

        try:
            self._status = {"state": "done", "message": self._retrain(emit)}
        except FalconerError as error:
            self._status = {"state": "failed", "message": str(error)}
        except Exception as error:
            self._status = {"state": "failed", "message": f"{type(error).__name__}: {error}"}
            raise

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                self._reply(b"")

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                if self.headers.get("origin") not in {f"http://{host}" for host in server.hosts}:
                    self._send(*_json(HTTPStatus.FORBIDDEN, {"error": "another page may not send anything here"}))
                elif self.headers.get_content_type() != "application/json" or not 0 <= size <= _MAX_BODY:
                    self._send(*_json(HTTPStatus.BAD_REQUEST, {"error": "send JSON, of at most 20 MB"}))
                else:
                    self._reply(self.rfile.read(size))

            def _reply(self, body: bytes) -> None:
                if self.headers.get("host") not in server.hosts:
                    self._send(*_json(HTTPStatus.FORBIDDEN, {"error": "this server has another name"}))
                    return
                try:
                    self._send(*server._answer(self.command, self.path, body))
                except FalconerError as error:
                    self._send(*_json(HTTPStatus.BAD_REQUEST, {"error": str(error)}))

            def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": str(len(content)),
                    "Cache-Control": "no-store",
                    "Content-Security-Policy": "frame-ancestors 'none'",
                    "Cross-Origin-Resource-Policy": "same-origin",
                    "Referrer-Policy": "no-referrer",
                    "X-Content-Type-Options": "nosniff",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing: addresses hold the token."""

        return Handler


def _json(status: HTTPStatus, data: Mapping[str, object]) -> tuple[HTTPStatus, bytes, str]:
    return status, json.dumps(data).encode(), "application/json"
