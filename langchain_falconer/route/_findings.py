"""What an answer says in brief: the most frequent values, where they come from, and a few quotes to cite."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_falconer.execute import read_rows
from langchain_falconer.plan import Plan

_TOP = 10
_SOURCES = 3
_EXAMPLES = 5
_QUOTE = 160
_MOST_VALUES = 100_000


def findings(plan: Plan, rows: Path) -> dict[str, Any]:
    """Per step the top values, with how often and from which sources; and matching rows, quoted, with their ids."""
    return _findings(plan, read_rows(rows))


def _findings(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    counts: dict[str, Counter[str]] = {step.id: Counter() for step in plan.top_level}
    sources: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    examples: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in rows:
        if "error" in row:
            continue
        source = source_of(row)
        for step, value in _values(row):
            known = counts[step]
            if value in known or len(known) < _MOST_VALUES:
                known[value] += 1
                if source:
                    sources[step, value][source] += 1
        if row.get("match") and len(examples) < _EXAMPLES and (source not in seen or not source):
            seen.add(source)
            examples.append(quoted(row))
    top = {step: [_value(step, v, n, sources) for v, n in _most(known, _TOP)] for step, known in counts.items()}
    return {"top": top, "examples": examples}


def source_of(row: Mapping[str, Any]) -> str:
    """Where a row's text comes from, in one word; empty where nothing is known."""
    metadata = row.get("metadata") or {}
    return str(metadata.get("source") or metadata.get("url") or "")


def quoted(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as evidence: its id, its source, its title, and the words around its first span (or its beginning)."""
    text: str = row["text"]
    spans = [span for found in (row.get("spans") or {}).values() for span in found]
    middle = (spans[0]["start"] + spans[0]["end"]) // 2 if spans else 0
    begin = max(0, min(middle - _QUOTE // 2, len(text) - _QUOTE))
    quote = " ".join(text[begin : begin + _QUOTE].split())
    shown = f"{'…' if begin else ''}{quote}{'…' if begin + _QUOTE < len(text) else ''}"
    title = (row.get("metadata") or {}).get("title")
    known = {"source": source_of(row)[:120], "title": str(title)[:80] if title else None}
    return {"id": row["id"], "quote": shown} | {k: v for k, v in known.items() if v}


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for step, label in (row.get("labels") or {}).items():
        value = label["value"]
        for name in value if isinstance(value, list) else [value]:
            yield step, str(name).lower() if isinstance(name, bool) else name
    for step, spans in (row.get("spans") or {}).items():
        for span in spans:
            yield step, span["text"]


def _value(step: str, value: str, n: int, sources: Mapping[tuple[str, str], Counter[str]]) -> dict[str, Any]:
    known = sources.get((step, value))
    shown = {source[:120]: times for source, times in _most(known, _SOURCES)} if known else None
    return {"value": value[:120], "count": n} | ({"sources": shown} if shown else {})


def _most(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
