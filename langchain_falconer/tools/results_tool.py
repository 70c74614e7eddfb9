"""The tool ``read_results``: rows of a result, paged, filtered, counted and compared by DuckDB."""

# ruff: noqa: S608 (values are bound; a step's column is named by the plan, never by the model)
from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.plan import LabelStep
from langchain_falconer.records import ResultRow
from langchain_falconer.report import excerpt
from langchain_falconer.tools import brief_estimates
from langchain_falconer.tools.answers import RowsAnswer
from langchain_falconer.tools.base import FalconerTool, Text
from langchain_falconer.tools.group_counts import GroupCounter, GroupOrder
from langchain_falconer.tools.row_filters import RowFilter, Rows, Sql, column_of, find_step, open_rows, row_of

_MAX_ROWS = 50
_ROWS, _GROUPS = 10, 24
_MAX_COLUMNS = 30


class ReadResultsInput(RowFilter):
    """Arguments of ``read_results``."""

    result: Text = Field(description="The result id that mine_corpus, get_label or get_span gave.")
    count_by: Text | None = Field(
        default=None,
        description="Count and compare groups instead of listing rows: by a step id (its labels or extracted texts), "
        "'source', 'month', or a column such as 'stars'. With only_matches, or step and value: their share by group.",
    )
    order_by: Text | None = Field(
        default=None,
        description="Order of groups: 'count', 'value' or 'share'. Order of rows: 'score' (with step, the least "
        "certain first) or a column, the largest first.",
    )
    row: Text | None = Field(default=None, description="The id of one row, to read its whole text.")
    offset: int = Field(default=0, description="How many rows or groups to skip.", ge=0, le=10**9)
    limit: int | None = Field(
        default=None, description="How many to return, at most 50; by default 10 rows, 24 groups.", ge=1, le=_MAX_ROWS
    )


class ReadResultsTool(FalconerTool):
    """Page through the rows of a result, filter them, and count them by label, extracted text or source."""

    name: str = "read_results"
    description: str = (
        "Read the rows behind an answer of mine_corpus, get_label or get_span: page through them, filter them "
        "(only_matches, step and value, contains, source, where), count and compare groups of them (count_by), with "
        "shares and 95% intervals, or read one whole (row)."
    )
    args_schema: type[BaseModel] = ReadResultsInput
    answer_type: ClassVar[type] = RowsAnswer
    read_only: ClassVar[bool] = True

    def answer(self, request: ReadResultsInput) -> Mapping[str, object]:
        """Return one whole row, a page of rows, or counts by group."""
        results = self.falconer.home.results
        summary = results.summary(request.result)
        with open_rows(results.rows(request.result), summary.plan) as rows:
            if request.row is not None:
                return {"result": request.result, "row": _whole_row(rows, request.row)}
            counter, condition = GroupCounter(rows, summary, request), rows.condition(request)
            total = rows.query(f"SELECT count(*) FROM rows WHERE {condition.text}", condition.values)[0][0]
            estimate = brief_estimates.of_filter(summary.estimates, counter.estimate()) if request.is_measure else {}
            header = {"result": request.result, "rows": total, **estimate, "offset": request.offset}
            if request.count_by is not None:
                order = _group_order(request.order_by)
                limit = request.limit or _GROUPS
                return {**header, **counter.count(request.count_by, order=order, offset=request.offset, limit=limit)}
            page = _page(rows, request, condition)
        following = request.offset + len(page)
        return {**header, "page": page, **({"next_offset": following} if following < total else {})}


def _group_order(name: str | None) -> GroupOrder | None:
    if name is None or name in ("count", "value", "share"):
        return name  # type: ignore[return-value]
    raise ToolException(f"groups cannot be ordered by '{name[:80]}'; use count, value or share")


def _whole_row(rows: Rows, row_id: str) -> Mapping[str, object]:
    whole = rows.query("SELECT to_json(rows) FROM rows WHERE id = ?", [row_id])
    if not whole:
        raise ToolException(f"the result has no row '{row_id[:80]}'; use the id of an example or of a row in a page")
    row = row_of(whole[0][0])
    return {**_answers(row), "text": row.get("text"), "metadata": _brief_columns(row["metadata"])}


def _page(rows: Rows, request: ReadResultsInput, condition: Sql) -> list[Mapping[str, object]]:
    order = _row_order(rows, request)
    select = f"SELECT to_json(rows) FROM rows WHERE {condition.text} ORDER BY {order.text} LIMIT ? OFFSET ?"
    values = [*condition.values, *order.values, request.limit or _ROWS, request.offset]
    return [_brief_row(row_of(data)) for (data,) in rows.query(select, values)]


def _row_order(rows: Rows, request: ReadResultsInput) -> Sql:
    if request.order_by is None:
        return Sql("file_row_number")
    if request.order_by != "score":
        cell = rows.cell(request.order_by)
        order = f"try_cast({cell.text} AS DOUBLE) DESC NULLS LAST, {cell.text} DESC NULLS LAST, file_row_number"
        return Sql(order, cell.values * 2)
    if request.step is None:
        raise ToolException("the order by score needs a step; give its id as step")
    step = find_step(rows.plan, request.step)
    column = column_of(step)
    score = f"{column}.score" if isinstance(step, LabelStep) else f"list_min([one.score for one in {column}])"
    return Sql(f"{score} NULLS LAST, file_row_number")


def _brief_row(row: ResultRow) -> Mapping[str, object]:
    if "error" in row:
        return {"id": row["id"], "error": str(row["error"])[:200]}
    return {**excerpt(row).model_dump(exclude_defaults=True), **_answers(row)}


def _brief_columns(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return the first columns, long values as the beginning of their text, and the number of columns left out."""
    brief = {
        name: str(cell)[:200] if isinstance(cell, str | list | dict) else cell
        for name, cell in list(metadata.items())[:_MAX_COLUMNS]
    }
    left_out = len(metadata) - len(brief)
    return {**brief, "…": f"{left_out} more columns"} if left_out else brief


def _answers(data: ResultRow) -> Mapping[str, object]:
    labels = {step: label["value"] for step, label in (data.get("labels") or {}).items() if label}
    spans = {step: [s["text"][:200] for s in spans] for step, spans in (data.get("spans") or {}).items() if spans}
    return {"id": data["id"]} | ({"labels": labels} if labels else {}) | ({"spans": spans} if spans else {})
