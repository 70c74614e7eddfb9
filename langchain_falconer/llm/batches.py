"""OpenAI's Batch API: many requests as one file, answered within a day at a lower price.

See https://platform.openai.com/docs/guides/batch. It needs the ``openai`` client that ``langchain-openai`` brings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_falconer.errors import LLMError, SettingsError
from langchain_falconer.llm.exchange import Request, read_reply
from langchain_falconer.llm.failures import diagnose
from langchain_falconer.llm.redaction import safe_cause
from langchain_falconer.llm.replies import Accepts, Reply, without_surrogates
from langchain_falconer.llm.usage import Usage, estimate_tokens
from langchain_falconer.records import JsonObject

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

    from langchain_falconer.llm.client import LLM

_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_KEY = "falconer"
"""Name of our key in a batch's metadata."""
_OVER = ("completed", "failed", "expired", "cancelled")
_MAX_LISTED = 500


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """The state of a batch.

    Attributes:
        id: Id of the batch at the provider.
        name: The provider's word, such as ``in_progress``, ``completed`` or ``expired``.
        done: Requests that were answered or failed.
        reason: Why the batch failed as a whole; ``None`` if it did not.
        files: Ids of the file of results and the file of errors, as far as there are any.
    """

    id: str
    name: str
    done: int
    reason: str | None
    files: tuple[str, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.name in _OVER


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The outcome of one request of a batch.

    Attributes:
        index: Position of the request.
        completion: The chat completion; ``None`` where there is none.
        reason: Why there is none.
    """

    index: int
    completion: Mapping[str, Any] | None
    reason: str = ""


class OpenAIBatches:
    """The batches of an LLM.

    Args:
        llm: An ``openai:`` model.

    Raises:
        SettingsError: The LLM is not one of OpenAI's.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        client = getattr(self._model, "root_client", None)
        if not llm.name.startswith("openai:") or client is None:
            message = f"batches need a model of OpenAI (--llm openai:…), and {llm.name} is none; leave --batch out"
            raise SettingsError(message, field="annotate.batch")
        self._client: OpenAI = client

    @property
    def _model(self) -> Any:
        """The chat model, without the parameters that it turned out to refuse."""
        return self._llm.capabilities.model

    def body(self, messages: list[tuple[str, str]], schema: Mapping[str, object]) -> JsonObject:
        """Return the body of a request for one JSON object that fits the schema."""
        shape = {key: value for key, value in schema.items() if key not in ("title", "description")}
        named = {"name": schema["title"], "description": schema.get("description", ""), "schema": shape, "strict": True}
        response_format: Any = {"type": "json_schema", "json_schema": named}
        prompt = [(role, without_surrogates(text)) for role, text in messages]
        body: JsonObject = {**self._model._get_request_payload(prompt), "response_format": response_format}
        if "messages" not in body:
            message = f"{self._llm.name} is set to the Responses API, which batches here do not use; unset it"
            raise SettingsError(message, field="annotate.batch")
        body.pop("stream", None)
        return body

    def estimate(self, bodies: Sequence[JsonObject]) -> Usage:
        """Return the most that requests may use, at the price of batches."""
        size = sum(estimate_tokens(json.dumps(body)) for body in bodies)
        most = self._llm.usage(size, len(bodies) * self._llm.capabilities.output_limit)
        return replace(self._discounted(most), calls=len(bodies))

    def submit(self, key: str, bodies: Sequence[JsonObject]) -> BatchStatus:
        """Submit requests as a batch under a key of ours, unless a batch has it already.

        A submission whose reply was lost is found by its key, and not repeated.

        Raises:
            LLMError: The provider did not take it.
        """
        for left in range(self._llm.settings.max_retries, -1, -1):
            try:
                if found := self._find(key):
                    return found
                uploaded = self._client.files.create(file=(f"{key}.jsonl", _lines(bodies)), purpose="batch")
                once = self._client.with_options(max_retries=0)
                batch = once.batches.create(
                    input_file_id=uploaded.id, endpoint=_ENDPOINT, completion_window="24h", metadata={_KEY: key}
                )
                return _status(batch)
            except Exception as error:
                if left == 0 or not diagnose(error).is_transient:
                    raise self._error(error) from safe_cause(error, self._model)
        raise AssertionError("the last attempt either returns or raises")

    def status(self, batch: str) -> BatchStatus:
        """Return the state of a batch. Raises ``LLMError`` if the provider does not say."""
        try:
            return _status(self._patient.batches.retrieve(batch))
        except Exception as error:
            raise self._error(error) from safe_cause(error, self._model)

    def results(self, status: BatchStatus) -> Iterator[BatchResult]:
        """Yield the results of a batch that is over, and its errors; a request that never ran has neither.

        Raises:
            LLMError: A file cannot be read.
        """
        for file in status.files:
            try:
                content = self._patient.files.content(file).text
            except Exception as error:
                raise self._error(error) from safe_cause(error, self._model)
            for line in content.splitlines():
                if result := _result(line):
                    yield result

    def read(
        self, completion: Mapping[str, Any], schema: Mapping[str, object], accepts: Accepts | None = None
    ) -> Reply:
        """Read a chat completion as :meth:`LLM.complete` does; its usage is at the price of batches."""
        message = self._model._create_chat_result(dict(completion)).generations[0].message
        reply = read_reply(self._llm, message, Request([], schema, accepts), Usage())
        return replace(reply, usage=self._discounted(reply.usage))

    @property
    def _patient(self) -> OpenAI:
        """The client, for requests that may be repeated."""
        return self._client.with_options(max_retries=self._llm.settings.max_retries)

    def _find(self, key: str) -> BatchStatus | None:
        for n, batch in enumerate(self._patient.batches.list(limit=100)):
            if (batch.metadata or {}).get(_KEY) == key:
                return _status(batch)
            if n + 1 >= _MAX_LISTED:
                break
        return None

    def _discounted(self, usage: Usage) -> Usage:
        price = self._llm.price()
        return usage if price is None or usage.usd is None else replace(usage, usd=price.batch * usage.usd)

    def _error(self, error: Exception) -> LLMError:
        return self._llm.error(diagnose(error), self._llm.settings.max_retries + 1)


def _lines(bodies: Sequence[JsonObject]) -> bytes:
    requests = [
        {"custom_id": str(i), "method": "POST", "url": _ENDPOINT, "body": body} for i, body in enumerate(bodies)
    ]
    return "".join(json.dumps(request) + "\n" for request in requests).encode()


def _status(batch: Batch) -> BatchStatus:
    counts = batch.request_counts
    faults = [fault.message or fault.code or "" for fault in (batch.errors.data or [])] if batch.errors else []
    reason = "; ".join(dict.fromkeys(filter(None, faults)))[:300] or "no reason was given"
    return BatchStatus(
        batch.id,
        batch.status,
        counts.completed + counts.failed if counts else 0,
        reason if batch.status == "failed" else None,
        tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
    )


def _result(line: str) -> BatchResult | None:
    """Read a line of a file of results or errors; None for one that is no result."""
    try:
        data = json.loads(line)
        index, response, fault = int(data["custom_id"]), data.get("response") or {}, data.get("error") or {}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    body: JsonObject = response.get("body") or {}
    if response.get("status_code") == 200 and body.get("choices"):
        return BatchResult(index, body)
    refusal: Any = body.get("error") or {}
    reason = fault.get("message") or refusal.get("message") or f"status {response.get('status_code')}"
    return BatchResult(index, None, " ".join(str(reason).split())[:300])
