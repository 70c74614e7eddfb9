"""``read_results``: the rows of an answer, paged, filtered, and counted by DuckDB; the model writes no SQL."""

# ruff: noqa: S608 (values are bound; a step's column is named by the plan, never by the model)
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.report import excerpt
from langchain_falconer.tools.base import FalconerTool, Text

_SOURCE = "coalesce(metadata->>'$.source', metadata->>'$.url', '')"
_MOST = 50


class ReadResultsInput(BaseModel):
    """Arguments of ``read_results``."""

    result: Text = Field(description="The result id that mine_corpus, get_label or get_span gave.")
    only_matches: bool = Field(default=False, description="Only rows that match what was asked for.")
    step: Text | None = Field(
        default=None, description="Only rows that this step answered; a step id as named under 'steps' of the answer."
    )
    value: bool | Text | None = Field(
        default=None, description="With step: only rows with this label, or with this extracted text."
    )
    contains: Text | None = Field(default=None, description="Only rows whose text contains these words.")
    source: Text | None = Field(default=None, description="Only rows whose source or URL contains this.")
    count_by: Text | None = Field(
        default=None, description="Count instead of listing: a step id (by label or extracted text), or 'source'."
    )
    row: Text | None = Field(default=None, description="The id of one row, to read its whole text.")
    offset: int = Field(default=0, description="How many rows to skip.", ge=0, le=10**9)
    limit: int = Field(default=10, description="How many rows to return, at most 50.", ge=1, le=_MOST)


class ReadResultsTool(FalconerTool):
    """Pages through the rows of an answer, filters them, and counts them by label, extracted text or source."""

    name: str = "read_results"
    description: str = (
        "Read the rows behind an answer of mine_corpus, get_label or get_span: page through them, filter them "
        "(only_matches, step and value, contains, source), count them (count_by), or read one whole (row)."
    )
    args_schema: Any = ReadResultsInput

    def answer(self, **arguments: Any) -> dict[str, Any]:
        """See the description."""
        asked = ReadResultsInput.model_validate(arguments)
        results = self.mine.home.results
        plan = results.summary(asked.result).plan
        where = _filters(asked, plan)
        with _rows(results.rows(asked.result)) as rows:
            if asked.row is not None:
                return {"result": asked.result, "row": _whole(rows, asked.row)}
            total = rows(f"SELECT count(*) FROM rows WHERE {where.sql}", where.values)[0][0]
            told = {"result": asked.result, "rows": total, "offset": asked.offset}
            if asked.count_by is not None:
                return {**told, **_counted(rows, asked, plan, where)}
            page = _page(rows, plan, where, asked)
        more = {"next_offset": asked.offset + len(page)} if asked.offset + len(page) < total else {}
        return {**told, "page": page, **more}


@dataclass
class _Where:
    """Conditions, and the values that are bound to them."""

    conditions: list[str] = field(default_factory=lambda: ["true"])
    values: list[Any] = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        self.conditions.append(condition)
        self.values += values

    @property
    def sql(self) -> str:
        return " AND ".join(f"({condition})" for condition in self.conditions)


def _filters(asked: ReadResultsInput, plan: Plan) -> _Where:
    where = _Where()
    if asked.only_matches:
        where.add("match")
    if asked.contains:
        where.add("contains(lower(text), lower(?))", asked.contains)
    if asked.source:
        where.add(f"contains(lower({_SOURCE}), lower(?))", asked.source)
    if asked.step is None and asked.value is not None:
        raise ToolException(f"value needs a step; name one of: {_ids(plan)}")
    if asked.step is not None:
        _add_step(where, _step(plan, asked.step), asked.value)
    return where


def _add_step(where: _Where, step: LabelStep | SpanStep, value: bool | str | None) -> None:
    column = _column(step)
    if isinstance(step, SpanStep):
        if value is None:
            where.add(f"len({column}) > 0")
        else:
            where.add(f"list_contains([lower(one.text) for one in {column}], lower(?))", str(value))
    elif value is None:
        where.add(f"{column}.value IS NOT NULL")
    elif step.kind == "multi":
        where.add(f"list_contains({column}.value, ?)", _label(step, value))
    else:
        where.add(f"{column}.value = ?", _label(step, value))


def _label(step: LabelStep, value: bool | str) -> bool | str:
    """The value as the step gives it. Raises ``ToolException`` if it never does."""
    if not step.names:
        said = {"true": True, "yes": True, "false": False, "no": False}.get(str(value).strip().lower())
        if said is None:
            raise ToolException(f"step '{step.id}' answers true or false, not '{str(value)[:80]}'")
        return said
    by_lower = {name.lower(): name for name in reversed(step.names)}
    if (known := by_lower.get(str(value).lower())) is None:
        raise ToolException(
            f"step '{step.id}' never answers '{str(value)[:80]}'; it answers {', '.join(step.names[:20])}"
        )
    return known


def _step(plan: Plan, name: str) -> LabelStep | SpanStep:
    found = next((step for step in plan.top_level if step.id == name), None)
    if found is None:
        raise ToolException(f"the result has no step '{name[:80]}'; it has: {_ids(plan)}")
    return found


def _ids(plan: Plan) -> str:
    return ", ".join(step.id for step in plan.top_level)


def _column(step: LabelStep | SpanStep) -> str:
    """The column of a step that the plan has: its id is one of ours, quoted all the same."""
    name = step.id.replace('"', '""')
    return f'{"labels" if isinstance(step, LabelStep) else "spans"}."{name}"'


def _counted(rows: Any, asked: ReadResultsInput, plan: Plan, where: _Where) -> dict[str, Any]:
    values = _SOURCE if asked.count_by == "source" else _values(_step_or_source(plan, str(asked.count_by)))
    table = f"SELECT {values} AS value FROM rows WHERE {where.sql}"
    counts = f"SELECT value, count(*) AS n FROM ({table}) WHERE value IS NOT NULL GROUP BY value"
    page = f"{counts} ORDER BY n DESC, value LIMIT ? OFFSET ?"
    found = rows(page, [*where.values, asked.limit, asked.offset])
    distinct = rows(f"SELECT count(*) FROM ({counts})", where.values)[0][0]
    told = [{"value": str(value)[:200], "count": n} for value, n in found]
    more = {"next_offset": asked.offset + len(told)} if asked.offset + len(told) < distinct else {}
    return {"count_by": asked.count_by, "distinct": distinct, "values": told, **more}


def _step_or_source(plan: Plan, name: str) -> LabelStep | SpanStep:
    try:
        return _step(plan, name)
    except ToolException:
        raise ToolException(f"rows cannot be counted by '{name[:80]}'; use 'source' or one of: {_ids(plan)}") from None


def _values(step: LabelStep | SpanStep) -> str:
    if isinstance(step, SpanStep):
        return f"unnest([one.text for one in {_column(step)}])"
    return f"unnest({_column(step)}.value)" if step.kind == "multi" else f"{_column(step)}.value::VARCHAR"


def _page(rows: Any, plan: Plan, where: _Where, asked: ReadResultsInput) -> list[dict[str, Any]]:
    order = f"WHERE {where.sql} ORDER BY file_row_number LIMIT ? OFFSET ?"
    found = rows(f"SELECT to_json(rows) FROM rows {order}", [*where.values, asked.limit, asked.offset])
    return [_row(json.loads(data)) for (data,) in found]


def _whole(rows: Any, row: str) -> dict[str, Any]:
    found = rows("SELECT to_json(rows) FROM rows WHERE id = ?", [row])
    if not found:
        raise ToolException(f"the result has no row '{row[:80]}'; use an id that an answer or a page gave")
    data = _read(json.loads(found[0][0]))
    return {**_answers(data), "text": data.get("text"), "metadata": data.get("metadata")}


def _read(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it was before Parquet: metadata as data, and nothing where there is nothing."""
    metadata = row.get("metadata")
    kept = {k: v for k, v in row.items() if v is not None}
    return {**kept, "metadata": json.loads(metadata) if isinstance(metadata, str) else metadata or {}}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    data = _read(row)
    if "error" in data:
        return {"id": data["id"], "error": str(data["error"])[:200]}
    spans = {step: [s for s in found if s] for step, found in (data.get("spans") or {}).items() if found}
    return {**excerpt({**data, "spans": spans}).model_dump(exclude_defaults=True), **_answers(data)}


def _answers(data: dict[str, Any]) -> dict[str, Any]:
    labels = {step: label["value"] for step, label in (data.get("labels") or {}).items() if label}
    spans = {step: [s["text"][:200] for s in found] for step, found in (data.get("spans") or {}).items() if found}
    return {"id": data["id"]} | ({"labels": labels} if labels else {}) | ({"spans": spans} if spans else {})


@contextmanager
def _rows(path: Path) -> Iterator[Any]:
    """Queries over the rows, in a DuckDB that can read this one file and nothing else."""
    try:
        import duckdb
    except ImportError:
        raise ToolException("reading results needs DuckDB; run: pip install 'langchain-falconer[duckdb]'") from None
    with duckdb.connect(":memory:") as db:
        db.execute("SET threads = 1")
        db.execute("SET allowed_paths = [?]", [str(path)])
        db.execute("SET enable_external_access = false")
        db.execute("SET lock_configuration = true")

        def ask(query: str, values: list[Any]) -> Any:
            table = "WITH rows AS (SELECT * FROM read_parquet(?, file_row_number = true)) "
            return db.execute(table + query, [str(path), *values]).fetchall()

        yield ask
