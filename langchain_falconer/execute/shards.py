"""A shard on its way: which of its texts are asked about, and how the proxy answers them."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_falconer.corpus import BadRow, Document
from langchain_falconer.errors import RunError
from langchain_falconer.execute.answer_cache import AnswerCache, SharedAnswer
from langchain_falconer.execute.shard_store import ShardEntry, ShardStore, input_digest
from langchain_falconer.model import Proxy, confidence_of, text_groups

_CHARS_A_SHARD = 2**22
_CHARS_AT_ONCE = 400_000

Rows = list[Document | BadRow]


@dataclass(frozen=True)
class Shard:
    """Rows in a row, and where the answers to their texts come.

    Attributes:
        index: its number.
        rows: what goes in.
        digest: of what goes in.
        entry: what is noted of it, where it is finished.
        kept: how many of its rows stay as they are.
        asked: the texts that the proxy is to answer.
        answers: by text, also those that earlier rows brought.
    """

    index: int
    rows: Rows
    digest: str
    entry: ShardEntry | None
    kept: int
    asked: list[str]
    answers: dict[str, SharedAnswer]

    def tell(self, parts: Iterable[dict[str, Any]]) -> None:
        """Keep what the proxy answers about the texts that were asked about, in their order."""
        for text, part in zip(self.asked, parts, strict=True):
            self.answers[text].tell(part)


def cut(rows: Iterable[Document | BadRow], size: int) -> Iterator[tuple[Rows, str]]:
    """Rows in order, ``size`` at a time, fewer where their texts are long, with their digest."""
    chunk: Rows = []
    chars = 0
    for row in rows:
        length = len(row.text) if isinstance(row, Document) else 0
        if chunk and (len(chunk) == size or chars + length > _CHARS_A_SHARD):
            yield chunk, input_digest(chunk)
            chunk, chars = [], 0
        chunk.append(row)
        chars += length
    if chunk:
        yield chunk, input_digest(chunk)


def plan_shards(
    cut_up: Iterable[tuple[Rows, str]], ledger: ShardStore, known: Container[str], *, retry_failed: bool
) -> Iterator[Shard]:
    """The shards of a run, each with what is still to be asked.

    Finished shards bring back the answers of their texts, so that later ones ask the same, however often a run was
    stopped before. ``retry_failed`` takes up finished shards again, for nothing but their rows with an error.
    """
    repeats = AnswerCache()
    for index, (rows, digest) in enumerate(cut_up):
        entry = ledger.entry(index)
        if entry and entry.digest != digest:  # the corpus has changed here
            entry = None
        lines: Sequence[str | None] = ledger.lines(index) if entry else [None] * len(rows)
        if entry and retry_failed and entry.statistics.failed:
            entry, lines = None, [None if line is None or "error" in json.loads(line) else line for line in lines]
        asked: list[str] = []
        answers: dict[str, SharedAnswer] = {}
        for row, line in zip(rows, lines, strict=True):
            if isinstance(row, BadRow) or row.text in known or row.text in answers:
                continue
            answer = repeats.find(row.text)
            if answer is None:
                answer = SharedAnswer(line)
                repeats.keep(row.text, answer)
                if line is None:
                    asked.append(row.text)
            answers[row.text] = answer
        kept = sum(line is not None for line in lines)
        yield Shard(index, rows, digest, entry, kept, asked, answers)


def answer(proxy: Proxy, texts: Sequence[str], stopped: Callable[[], bool] = bool) -> Iterator[dict[str, Any]]:
    """What a result row says of each text beside its id, and how ``sure`` the proxy is of it, in [0, 1].

    That is ``{"error": reason}`` for one that the proxy fails on.

    Raises:
        RunError: the proxy fails on every text.
    """
    for group in text_groups(texts, _CHARS_AT_ONCE):
        if stopped():
            return
        yield from _encoded(proxy, group)


def _encoded(proxy: Proxy, texts: Sequence[str]) -> list[dict[str, Any]]:
    try:
        return _parts(proxy, texts)
    except Exception as error:
        return [_failure(error)] if len(texts) == 1 else _one_by_one(proxy, texts)


def _one_by_one(proxy: Proxy, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Finds the texts that the proxy fails on, after it failed on them together."""
    parts: list[dict[str, Any]] = []
    for text in texts:
        try:
            parts += _parts(proxy, [text])
        except Exception as error:
            parts.append(_failure(error))
    if all("error" in part for part in parts):
        raise RunError(f"the proxy answers no text at all ({parts[0]['error']}); choose another backend or train again")
    return parts


def _parts(proxy: Proxy, texts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        proxy.record("", text, answers).to_dict() | {"confidence": confidence_of(answers)}
        for text, answers in zip(texts, proxy.answers(texts), strict=True)
    ]


def _failure(error: Exception) -> dict[str, Any]:
    reason = next(iter(str(error).splitlines()), "")[:200]
    return {"error": f"the proxy failed on this text: {reason or type(error).__name__}"}
