"""Filters of result rows as SQL for DuckDB, which reads one file and nothing else; an LLM writes no SQL."""

# ruff: noqa: S608 (values are bound; a step's column is named by the plan, never by the model)
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.tools import ToolException
from pydantic import Field

from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import ResultRow
from langchain_falconer.tools.base import Text, ToolInput

_SOURCE = "coalesce(nullif(metadata->>'$.source', ''), metadata->>'$.url', '')"
_MONTH = r"^(\d{4}-(?:0[1-9]|1[0-2]))(?:-\d{2})?(?:[T ].*)?$"
_PEEKED = 1_000  # rows that are looked at for the columns of a result
Query = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Run a query with bound values over the table ``rows``."""


class Sql(NamedTuple):
    """An expression, and the values to bind in it."""

    text: str
    values: tuple[object, ...] = ()


class RowFilter(ToolInput):
    """The arguments that select rows; together they give the rows behind a number."""

    only_matches: bool = Field(default=False, description="Only rows that match what was asked for.")
    step: Text | None = Field(
        default=None, description="Only rows that this step answered; a step id as named under 'steps' of the answer."
    )
    value: bool | Text | None = Field(
        default=None, description="With step: only rows with this label, or with this extracted text."
    )
    contains: Text | None = Field(default=None, description="Only rows whose text contains these words.")
    source: Text | None = Field(default=None, description="Only rows whose source or URL contains this.")
    where: dict[Text, bool | float | Text] = Field(
        default_factory=dict,
        description="Only rows whose columns have these values, e.g. {'stars': 5} or {'month': '2026-01'}.",
    )

    @property
    def is_measure(self) -> bool:
        """Whether answers are filtered by, so that a share of rows can be taken."""
        return self.only_matches or self.step is not None


class Rows:
    """The rows of a result.

    Args:
        query: Runs queries over them.
        plan: The plan that made them.
    """

    def __init__(self, query: Query, plan: Plan) -> None:
        self.query = query
        self.plan = plan
        keys = f"SELECT json_keys(metadata) AS keys FROM rows WHERE metadata IS NOT NULL LIMIT {_PEEKED}"
        self.columns = list(dict.fromkeys(key for (keys_of,) in query(keys, []) for key in keys_of))

    # ---- conditions

    def measure(self, chosen: RowFilter) -> Sql:
        """Return the condition on answers."""
        conditions = [Sql("match")] if chosen.only_matches else []
        if chosen.step is not None:
            conditions.append(_answered(find_step(self.plan, chosen.step), chosen.value))
        elif chosen.value is not None:
            raise ToolException(f"value needs a step; name one of: {step_ids(self.plan)}")
        return _all(conditions)

    def restriction(self, chosen: RowFilter) -> Sql:
        """Return the condition on texts and columns."""
        conditions = []
        if chosen.contains:
            conditions.append(Sql("contains(lower(text), lower(?))", (chosen.contains,)))
        if chosen.source:
            conditions.append(Sql(f"contains(lower({_SOURCE}), lower(?))", (chosen.source,)))
        for name, wanted in chosen.where.items():
            group, cell = self.group(name), self.cell(name)
            text = f"coalesce({group.text} = ? OR {cell.text} = ?, false)"
            conditions.append(Sql(text, (*group.values, as_text(wanted), *cell.values, as_text(wanted))))
        return _all(conditions)

    def condition(self, chosen: RowFilter) -> Sql:
        """Return the whole condition."""
        return _all([self.measure(chosen), self.restriction(chosen)])

    # ---- columns

    def resolve(self, name: str) -> str:
        """Return the column that a name stands for: ``month`` is the first column of dates.

        Raises ``ToolException``, which lists the columns, if there is none.
        """
        if name == "source" or name in self.columns:
            return name
        if name == "month" and (dates := next(filter(self._is_date, self._by_name()), None)):
            return dates
        listed = ", ".join(dict.fromkeys(["source", *self.columns[:20]]))
        raise ToolException(f"the rows have no column '{name[:80]}'; use a step ({step_ids(self.plan)}) or: {listed}")

    def group(self, name: str) -> Sql:
        """Return the group of a row by a column: its value, of a date the month."""
        cell = self.cell(name)
        month = f"coalesce(nullif(regexp_extract({cell.text}, '{_MONTH}', 1), ''), {cell.text})"
        return Sql(f"regexp_replace({month}, '^(-?[0-9]+)[.]0$', '\\1')", cell.values * 2)

    def cell(self, name: str) -> Sql:
        """Return the value of a column as a string."""
        column = self.resolve(name)
        if column == "source":
            return Sql(_SOURCE)
        pointer = "/" + column.replace("~", "~0").replace("/", "~1")
        return Sql("json_extract_string(metadata, ?)", (pointer,))

    def _by_name(self) -> list[str]:
        return sorted(self.columns, key=lambda name: not any(word in name.lower() for word in ("date", "time")))

    def _is_date(self, column: str) -> bool:
        cell = self.cell(column)
        cells = f"SELECT {cell.text} AS cell FROM rows LIMIT {_PEEKED}"
        dates = f"SELECT bool_and(regexp_matches(cell, '{_MONTH}')) FROM ({cells}) WHERE cell <> ''"
        return bool(self.query(dates, cell.values)[0][0])


def as_text(value: bool | float | str) -> str:
    """Return a value of a column as its group is called."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _all(conditions: Sequence[Sql]) -> Sql:
    parts = [one for one in conditions if one.text != "true"]
    return Sql(" AND ".join(one.text for one in parts) or "true", tuple(v for one in parts for v in one.values))


def _answered(step: LabelStep | SpanStep, value: bool | str | None) -> Sql:
    column = column_of(step)
    if isinstance(step, SpanStep):
        if value is None:
            return Sql(f"len({column}) > 0")
        return Sql(f"list_contains([lower(one.text) for one in {column}], lower(?))", (str(value),))
    if value is None:
        return Sql(f"{column}.value IS NOT NULL")
    text = f"list_contains({column}.value, ?)" if step.kind == "multi" else f"{column}.value = ?"
    return Sql(text, (label_of(step, value),))


def label_of(step: LabelStep, value: bool | str) -> bool | str:
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


def find_step(plan: Plan, name: str) -> LabelStep | SpanStep:
    """Return a top-level step. Raises ``ToolException``, which lists them, if there is none of this id."""
    step = next((step for step in plan.top_level if step.id == name), None)
    if step is None:
        raise ToolException(f"the result has no step '{name[:80]}'; it has: {step_ids(plan)}")
    return step


def step_ids(plan: Plan) -> str:
    """Return the ids of the top-level steps in words."""
    return ", ".join(step.id for step in plan.top_level)


def column_of(step: LabelStep | SpanStep) -> str:
    """Return the column of a step of the plan, quoted although plans restrict ids."""
    name = step.id.replace('"', '""')
    return f'{"labels" if isinstance(step, LabelStep) else "spans"}."{name}"'


def row_of(data: str) -> ResultRow:
    """Return a row of a file, selected as JSON, without the nulls of Parquet, its metadata parsed."""
    row: ResultRow = {key: value for key, value in json.loads(data).items() if value is not None}  # type: ignore[assignment]
    metadata: Any = row.get("metadata")
    row["metadata"] = json.loads(metadata) if isinstance(metadata, str) else metadata or {}
    row["spans"] = {step: [s for s in spans if s] for step, spans in row.get("spans", {}).items() if spans}
    return row


@contextmanager
def open_rows(path: Path, plan: Plan) -> Iterator[Rows]:
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

        yield Rows(query, plan)
