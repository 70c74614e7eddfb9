"""The tool ``read_results``: rows of a result, paged, filtered and counted by DuckDB; the LLM writes no SQL."""

# ruff: noqa: S608 (values are bound; a step's column is named by the plan, never by the model)
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.execute import label_names
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.report import RunSummary, excerpt
from langchain_falconer.tools import brief_estimates
from langchain_falconer.tools.answers import RowsAnswer
from langchain_falconer.tools.base import FalconerTool, Text, ToolInput

_SOURCE = "coalesce(nullif(metadata->>'$.source', ''), metadata->>'$.url', '')"
_MAX_ROWS = 50
_MAX_COLUMNS = 30
Query = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Run a query with bound values over the table ``rows``."""


class ReadResultsInput(ToolInput):
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
    limit: int = Field(default=10, description="How many rows to return, at most 50.", ge=1, le=_MAX_ROWS)


class ReadResultsTool(FalconerTool):
    """Page through the rows of a result, filter them, and count them by label, extracted text or source."""

    name: str = "read_results"
    description: str = (
        "Read the rows behind an answer of mine_corpus, get_label or get_span: page through them, filter them "
        "(only_matches, step and value, contains, source), count them (count_by), or read one whole (row)."
    )
    args_schema: type[BaseModel] = ReadResultsInput
    answer_type: ClassVar[type] = RowsAnswer
    read_only: ClassVar[bool] = True

    def answer(self, request: ReadResultsInput) -> Mapping[str, object]:
        """Return one whole row, a page of rows, or counts."""
        results = self.falconer.home.results
        summary = results.summary(request.result)
        plan = summary.plan
        conditions = _conditions(request, plan)
        where = " AND ".join(["true", *conditions])
        values = [value for value in conditions.values() if value is not None]
        with _open_rows(results.rows(request.result)) as query:
            if request.row is not None:
                whole = query("SELECT to_json(rows) FROM rows WHERE id = ?", [request.row])
                if not whole:
                    raise ToolException(
                        f"the result has no row '{request.row[:80]}'; use the id of an example or of a row in a page"
                    )
                row = _from_columns(whole[0][0])
                return {
                    "result": request.result,
                    "row": {**_answers(row), "text": row.get("text"), "metadata": _brief_columns(row["metadata"])},
                }
            header = {
                "result": request.result,
                "rows": query(f"SELECT count(*) FROM rows WHERE {where}", values)[0][0],
                **_estimate(request, summary),
                "offset": request.offset,
            }
            if request.count_by is not None:
                counts = _counts(query, request, plan, where, values)
                return {**header, **(counts if conditions else _with_estimates(counts, request, summary))}
            order = f"WHERE {where} ORDER BY file_row_number LIMIT ? OFFSET ?"
            rows = query(f"SELECT to_json(rows) FROM rows {order}", [*values, request.limit, request.offset])
        page = [_brief_row(_from_columns(data)) for (data,) in rows]
        return {**header, "page": page, **_next_page(request, len(page), header["rows"])}


def _estimate(request: ReadResultsInput, summary: RunSummary) -> Mapping[str, object]:
    """Return the corrected number of the rows that the filter leaves."""
    step = _step(summary.plan, request.step) if request.step is not None else None
    value = None if request.value is None else str(request.value)
    if isinstance(step, LabelStep) and request.value is not None:
        value = label_names(_label(step, request.value))[0]
    other = bool(request.contains or request.source)
    return brief_estimates.of_filter(summary.estimates, step, value, only_matches=request.only_matches, other=other)


def _with_estimates(counts: dict[str, object], request: ReadResultsInput, summary: RunSummary) -> Mapping[str, object]:
    """Return counts of a step's values over all rows, each with its corrected count where there is one."""
    if request.count_by == "source":
        return counts
    pairs = cast("list[dict[str, object]]", counts["values"])
    step = _step(summary.plan, str(request.count_by))
    estimates = brief_estimates.of_values(summary.estimates, step, [str(pair["value"]) for pair in pairs])
    values = [{**pair, **_named(estimates.get(str(pair["value"])))} for pair in pairs]
    return {**counts, "values": values}


def _named(estimate: Mapping[str, object] | None) -> dict[str, object]:
    return {"estimate": estimate} if estimate else {}


def _next_page(request: ReadResultsInput, n: int, total: int) -> dict[str, int]:
    return {"next_offset": request.offset + n} if request.offset + n < total else {}


def _conditions(request: ReadResultsInput, plan: Plan) -> dict[str, bool | str | None]:
    """Return the conditions of a query, each with the value to bind; None where it binds none."""
    conditions: dict[str, bool | str | None] = {}
    if request.only_matches:
        conditions["match"] = None
    if request.contains:
        conditions["contains(lower(text), lower(?))"] = request.contains
    if request.source:
        conditions[f"contains(lower({_SOURCE}), lower(?))"] = request.source
    if request.step is not None:
        conditions |= [_step_condition(_step(plan, request.step), request.value)]
    elif request.value is not None:
        raise ToolException(f"value needs a step; name one of: {_step_ids(plan)}")
    return conditions


def _step_condition(step: LabelStep | SpanStep, value: bool | str | None) -> tuple[str, bool | str | None]:
    column = _column(step)
    if isinstance(step, SpanStep):
        if value is None:
            return f"len({column}) > 0", None
        return f"list_contains([lower(one.text) for one in {column}], lower(?))", str(value)
    if value is None:
        return f"{column}.value IS NOT NULL", None
    condition = f"list_contains({column}.value, ?)" if step.kind == "multi" else f"{column}.value = ?"
    return condition, _label(step, value)


def _label(step: LabelStep, value: bool | str) -> bool | str:
    """Return a value in the spelling of the step. Raises ``ToolException`` if the step never gives it."""
    if not step.names:
        truth = {"true": True, "yes": True, "false": False, "no": False}.get(str(value).strip().lower())
        if truth is None:
            raise ToolException(f"step '{step.id}' answers true or false, not '{str(value)[:80]}'")
        return truth
    by_lower = {name.lower(): name for name in reversed(step.names)}
    if (label := by_lower.get(str(value).lower())) is None:
        raise ToolException(
            f"step '{step.id}' never answers '{str(value)[:80]}'; it answers {', '.join(step.names[:20])}"
        )
    return label


def _step(plan: Plan, name: str) -> LabelStep | SpanStep:
    step = next((step for step in plan.top_level if step.id == name), None)
    if step is None:
        raise ToolException(f"the result has no step '{name[:80]}'; it has: {_step_ids(plan)}")
    return step


def _step_ids(plan: Plan) -> str:
    return ", ".join(step.id for step in plan.top_level)


def _column(step: LabelStep | SpanStep) -> str:
    """Return the column of a step of the plan, quoted although plans restrict ids."""
    name = step.id.replace('"', '""')
    return f'{"labels" if isinstance(step, LabelStep) else "spans"}."{name}"'


def _counts(
    query: Query, request: ReadResultsInput, plan: Plan, where: str, values: list[bool | str]
) -> dict[str, object]:
    counted = _SOURCE if request.count_by == "source" else _counted(plan, str(request.count_by))
    table = f"SELECT {counted} AS value FROM rows WHERE {where}"
    counts = f"SELECT value, count(*) AS n FROM ({table}) WHERE value IS NOT NULL GROUP BY value"
    page = f"{counts} ORDER BY n DESC, value LIMIT ? OFFSET ?"
    pairs = query(page, [*values, request.limit, request.offset])
    distinct = query(f"SELECT count(*) FROM ({counts})", values)[0][0]
    return {
        "count_by": request.count_by,
        "distinct": distinct,
        "values": [{"value": str(value)[:200], "count": n} for value, n in pairs],
        **_next_page(request, len(pairs), distinct),
    }


def _counted(plan: Plan, name: str) -> str:
    """Return the SQL of the values that a step gives a row."""
    try:
        step = _step(plan, name)
    except ToolException as error:
        message = f"rows cannot be counted by '{name[:80]}'; use 'source' or one of: {_step_ids(plan)}"
        raise ToolException(message) from error
    column = _column(step)
    if isinstance(step, SpanStep):
        return f"unnest([one.text for one in {column}])"
    return f"unnest({column}.value)" if step.kind == "multi" else f"{column}.value::VARCHAR"


def _from_columns(data: str) -> dict[str, Any]:
    """Return a row of a file without the nulls of Parquet, its metadata parsed."""
    row = {key: value for key, value in json.loads(data).items() if value is not None}
    metadata = row.get("metadata")
    return {**row, "metadata": json.loads(metadata) if isinstance(metadata, str) else metadata or {}}


def _brief_row(row: dict[str, Any]) -> Mapping[str, object]:
    if "error" in row:
        return {"id": row["id"], "error": str(row["error"])[:200]}
    spans = {step: [s for s in spans if s] for step, spans in (row.get("spans") or {}).items() if spans}
    return {**excerpt({**row, "spans": spans}).model_dump(exclude_defaults=True), **_answers(row)}


def _brief_columns(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return the first columns, long values as the beginning of their text, and the number of columns left out."""
    brief = {
        name: str(cell)[:200] if isinstance(cell, str | list | dict) else cell
        for name, cell in list(metadata.items())[:_MAX_COLUMNS]
    }
    left_out = len(metadata) - len(brief)
    return {**brief, "…": f"{left_out} more columns"} if left_out else brief


def _answers(data: dict[str, Any]) -> Mapping[str, object]:
    labels = {step: label["value"] for step, label in (data.get("labels") or {}).items() if label}
    spans = {step: [s["text"][:200] for s in spans] for step, spans in (data.get("spans") or {}).items() if spans}
    return {"id": data["id"]} | ({"labels": labels} if labels else {}) | ({"spans": spans} if spans else {})


@contextmanager
def _open_rows(path: Path) -> Iterator[Query]:
    """Open a file of rows in a DuckDB that can read this one file and nothing else."""
    try:
        import duckdb
    except ImportError as error:
        raise ToolException("reading results needs DuckDB; run: pip install 'langchain-falconer[duckdb]'") from error
    with duckdb.connect(":memory:") as db:
        db.execute("SET threads = 1")
        db.execute("SET allowed_paths = [?]", [str(path)])
        db.execute("SET enable_external_access = false")
        db.execute("SET lock_configuration = true")

        def query(sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
            table = "WITH rows AS (SELECT * FROM read_parquet(?, file_row_number = true)) "
            rows: list[tuple[Any, ...]] = db.execute(table + sql, [str(path), *values]).fetchall()
            return rows

        yield query
