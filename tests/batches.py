"""OpenAI's /v1/files and /v1/batches on 127.0.0.1, for as long as a test needs them; chat completions are refused.

    with BatchServer(teacher) as server:
        llm_at(server)

A batch is answered by `reply` once it was polled `polls` times. `spoil(batch)` may change it before that.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from loopback import completion


class BatchServer:
    """Serves while used as a context manager; `batches` holds every batch, `uploads` the number of files."""

    def __init__(self, reply: Callable[[dict[str, Any]], Any], polls: int = 1) -> None:
        self.reply = reply
        self.polls = polls
        self.spoil: Callable[[dict[str, Any]], None] = lambda batch: None
        self.before_reply: Callable[[], None] = lambda: None
        self.batches: list[dict[str, Any]] = []
        self.files: dict[str, str] = {}
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests in all batches."""
        lines = (line for batch in self.batches for line in self.files[batch["input_file_id"]].splitlines())
        return [json.loads(line)["body"] for line in lines]

    def __enter__(self) -> BatchServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _create(self, data: dict[str, Any]) -> dict[str, Any]:
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "created_at": 0,
            "status": "in_progress",
            "polled": 0,
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            **data,
        }
        n = len(self.files[data["input_file_id"]].splitlines())
        batch["request_counts"] = {"total": n, "completed": 0, "failed": 0}
        self.batches.append(batch)
        return batch

    def _poll(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["polled"] += 1
        self.spoil(batch)
        if batch["status"] == "in_progress" and batch["polled"] > self.polls:
            self.finish(batch)
        return batch

    def finish(self, batch: dict[str, Any], status: str = "completed", n: int | None = None) -> None:
        """Answer the first `n` requests of a batch, or all; the others are in the file of errors."""
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        results, errors = [], []
        for i, line in enumerate(lines):
            out = {"id": f"r{i}", "custom_id": line["custom_id"], "response": None, "error": None}
            answer = self.reply(line["body"]) if n is None or i < n else None
            if answer is None:
                errors.append({**out, "error": {"code": f"batch_{status}", "message": "never ran"}})
            elif isinstance(answer, tuple):
                body = {"error": {"message": answer[1]}}
                errors.append({**out, "response": {"status_code": answer[0], "request_id": "x", "body": body}})
            else:
                body = completion(line["body"], {"content": answer} if isinstance(answer, str) else answer)
                results.append({**out, "response": {"status_code": 200, "request_id": "x", "body": body}})
        for name, rows in (("output", results), ("error", errors)):
            if rows:
                file = f"{name}_of_{batch['id']}"
                self.files[file] = "".join(json.dumps(row) + "\n" for row in reversed(rows))  # in no order
                batch[f"{name}_file_id"] = file
        batch["status"] = status
        batch["request_counts"] |= {"completed": len(results), "failed": len(errors)}

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        with self._lock:
            self.seen.append((method, path))
            if (method, path) == ("POST", "/v1/files"):
                content = re.search(rb'name="file"[^\r]*\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n--', body, re.DOTALL)
                file = f"file_{len(self.files)}"
                self.files[file] = content[1].decode()
                return 200, {
                    "id": file,
                    "object": "file",
                    "bytes": 1,
                    "created_at": 0,
                    "filename": "f",
                    "purpose": "batch",
                }
            if (method, path) == ("POST", "/v1/batches"):
                return 200, self._create(json.loads(body))
            if method == "GET" and path == "/v1/batches":
                return 200, {"object": "list", "data": self.batches[::-1], "has_more": False}
            if found := re.fullmatch(r"/v1/batches/(batch_\d+)", path):
                batch = next((one for one in self.batches if one["id"] == found[1]), None)
                return (200, self._poll(batch)) if batch else (404, {"error": {"message": "no such batch"}})
            if found := re.fullmatch(r"/v1/files/(\w+)/content", path):
                return 200, self.files[found[1]]
            return 400, {"error": {"message": f"no {path} here"}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self._respond("POST", self.rfile.read(int(self.headers["content-length"])))

            def do_GET(self) -> None:
                self._respond("GET", b"")

            def _respond(self, method: str, body: bytes) -> None:
                status, answer = outer._answer(method, self.path.partition("?")[0], body)
                outer.before_reply()
                payload = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "text/plain" if isinstance(answer, str) else "application/json")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
