"""Shards of a run: which of their texts the proxy answers, and its answers with failures isolated per text."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_falconer.corpus import BadRow, Document
from langchain_falconer.errors import RunError
from langchain_falconer.execute.answer_cache import AnswerCache, SharedAnswer
from langchain_falconer.execute.shard_store import InputDigest, ShardEntry, ShardStore, input_digest
from langchain_falconer.model import Proxy, confidence_of, text_groups

_MAX_SHARD_CHARS = 2**22
_MAX_GROUP_CHARS = 400_000
_PROGRAMMING_ERRORS = (AssertionError, AttributeError, KeyError, TypeError)

Rows = list[Document | BadRow]


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of a corpus, and the answers about their texts.

    Attributes:
        index: Number of the shard.
        rows: Input rows.
        digest: Digests of the input rows.
        entry: Entry in the shard store; None if the shard is to be written.
        n_reused: Rows whose result is reused from an earlier run.
        texts: Texts that the proxy is to answer.
        answers: Answers by text, including those computed for earlier rows.
    """

    index: int
    rows: Rows
    digest: InputDigest
    entry: ShardEntry | None
    n_reused: int
    texts: list[str]
    answers: dict[str, SharedAnswer]

    def store(self, answers: Iterable[dict[str, Any]]) -> None:
        """Store the proxy's answers about :attr:`texts`, in their order."""
        for text, answer in zip(self.texts, answers, strict=True):
            self.answers[text].store(answer)


def cut(rows: Iterable[Document | BadRow], size: int) -> Iterator[tuple[Rows, InputDigest]]:
    """Group rows in order, ``size`` at a time or fewer where their texts are long, each group with its digests."""
    chunk: Rows = []
    chars = 0
    for row in rows:
        length = len(row.text) if isinstance(row, Document) else 0
        if chunk and (len(chunk) == size or chars + length > _MAX_SHARD_CHARS):
            yield chunk, input_digest(chunk)
            chunk, chars = [], 0
        chunk.append(row)
        chars += length
    if chunk:
        yield chunk, input_digest(chunk)


def plan_shards(
    chunks: Iterable[tuple[Rows, InputDigest]], store: ShardStore, known: Container[str], *, retry_failed: bool
) -> Iterator[Shard]:
    """Yield the shards of a run, each with the texts that are still to be answered.

    Answers of finished shards enter the cache too, so that later shards compute the same texts however often a run
    was stopped. A shard whose ids or metadata have changed, but not its texts, is written again with the same answers.

    Args:
        chunks: Groups of rows with their digests, see :func:`cut`.
        store: Finished shards.
        known: Texts whose annotations stand in for the proxy's answers.
        retry_failed: Whether rows with an error in finished shards are computed again.
    """
    cache = AnswerCache()
    for index, (rows, digest) in enumerate(chunks):
        entry = store.entry(index)
        if entry and entry.digest.texts != digest.texts:  # the corpus has changed here
            entry = None
        lines: Sequence[str | None] = store.lines(index) if entry else [None] * len(rows)
        if entry and retry_failed and entry.statistics.failed:
            entry, lines = None, [None if line is None or "error" in json.loads(line) else line for line in lines]
        if entry and entry.digest.rows != digest.rows:
            entry = None
        texts: list[str] = []
        answers: dict[str, SharedAnswer] = {}
        for row, line in zip(rows, lines, strict=True):
            if isinstance(row, BadRow) or row.text in known or row.text in answers:
                continue
            answer = cache.get(row.text)
            if answer is None:
                answer = SharedAnswer(line)
                cache.put(row.text, answer)
                if line is None:
                    texts.append(row.text)
            answers[row.text] = answer
        n_reused = sum(line is not None for line in lines)
        yield Shard(index, rows, digest, entry, n_reused, texts, answers)


def answer(proxy: Proxy, texts: Sequence[str], stopped: Callable[[], bool] = bool) -> Iterator[dict[str, Any]]:
    """Yield the part of each text's result row that depends on the text, with ``confidence`` in [0, 1].

    A text that the proxy fails on yields ``{"error": reason}``.

    Raises:
        RunError: The proxy fails on every text of a group.
    """
    for group in text_groups(texts, _MAX_GROUP_CHARS):
        if stopped():
            return
        yield from _answer_group(proxy, group)


def _answer_group(proxy: Proxy, texts: Sequence[str]) -> list[dict[str, Any]]:
    try:
        return _row_parts(proxy, texts)
    except Exception as error:
        return [_failure(error)] if len(texts) == 1 else _answer_one_by_one(proxy, texts)


def _answer_one_by_one(proxy: Proxy, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Answer texts singly to isolate those that the proxy fails on."""
    parts: list[dict[str, Any]] = []
    errors: list[Exception] = []
    for text in texts:
        try:
            parts += _row_parts(proxy, [text])
        except Exception as error:
            errors.append(error)
            parts.append(_failure(error))
    if len(errors) == len(texts):
        if isinstance(errors[0], _PROGRAMMING_ERRORS):  # a bug, not a property of the texts
            raise errors[0]
        reason = parts[0]["error"]
        raise RunError(
            f"the proxy answers no text at all ({reason}); choose another backend or train again"
        ) from errors[0]
    return parts


def _row_parts(proxy: Proxy, texts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        proxy.record("", text, answers).to_dict() | {"confidence": confidence_of(answers)}
        for text, answers in zip(texts, proxy.answers(texts), strict=True)
    ]


def _failure(error: Exception) -> dict[str, Any]:
    reason = next(iter(str(error).splitlines()), "")[:200]
    return {"error": f"the proxy failed on this text: {reason or type(error).__name__}"}
