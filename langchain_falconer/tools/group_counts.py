"""Counts and shares of result rows by group, each with its interval and the arguments that give its rows."""

# ruff: noqa: S608 (values are bound; a step's column is named by the plan, never by the model)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_falconer.evaluate import Estimate
from langchain_falconer.execute import label_names
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.report import CountEstimates, Estimates, Grouping, RunSummary, excerpt
from langchain_falconer.tools.brief_estimates import COMBINED, brief, brief_share
from langchain_falconer.tools.row_filters import RowFilter, Rows, Sql, as_text, column_of, find_step, label_of, row_of

GroupOrder = Literal["count", "value", "share"]
_MAX_VALUE_CHARS = 200
_MAX_QUOTES, _QUOTE_CHARS = 3, 100
_IN_ORDER = r"^\d{4}-\d{2}$|^-?\d+$"  # months and numbers are listed in their order
_ORDERS: Mapping[GroupOrder, str] = {
    "count": "n DESC, value",
    "value": "try_cast(value AS DOUBLE), value",
    "share": "n / total DESC, value",
}


@dataclass(frozen=True)
class GroupCounter:
    """Counts rows by group.

    By a column the share of a group is taken of its own rows: how many of them pass the filter by answers. By a step
    it is taken of all rows that pass the filter.

    Attributes:
        rows: The rows.
        summary: How they came about.
        chosen: The filter.
    """

    rows: Rows
    summary: RunSummary
    chosen: RowFilter

    def count(self, by: str, *, order: GroupOrder | None, offset: int, limit: int) -> Mapping[str, object]:
        """Return a page of the groups by a step, a column, ``month`` or ``source``.

        Args:
            by: What the rows are grouped by.
            order: ``count``, ``value`` or ``share``; by default months and numbers by value, others by count.
            offset: Groups to skip.
            limit: Groups to return.
        """
        step = next((one for one in self.summary.plan.top_level if one.id == by), None)
        table = self._by_step(step) if step else self._by_column(by)
        if order is None:
            is_ordered = self._run(table, "SELECT bool_and(regexp_matches(value, ?)) FROM groups", _IN_ORDER)[0][0]
            order = "value" if is_ordered and not step else "count"
        page = f"SELECT * FROM groups ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
        found = self._run(table, page, limit, offset)
        distinct: int = self._run(table, "SELECT count(*) FROM groups")[0][0]
        quotes = self._quotes([example for *_, example in found if example is not None][:_MAX_QUOTES])
        values = [
            {
                **(self._of_step(step, value, n, total) if step else self._of_column(by, value, n, total)),
                **quotes.get(example, {}),
            }
            for value, n, total, example in found
        ]
        return {
            "count_by": by if step else self.rows.resolve(by),
            "distinct": distinct,
            "values": values,
            **({} if step else self._detectable(by)),
            **_note(values),
            **({"next_offset": offset + len(values)} if offset + len(values) < distinct else {}),
        }

    def _run(self, table: Sql, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.rows.query(f", groups AS ({table.text}) {sql}", [*table.values, *values])

    def _quotes(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        """Return a quote of each of these rows."""
        found = self.rows.query("SELECT to_json(rows) FROM rows WHERE list_contains(?, id)", [list(ids)])
        shown = [excerpt(row_of(data)) for (data,) in found]
        return {one.id: {"example": {"id": one.id, "quote": one.quote[:_QUOTE_CHARS]}} for one in shown}

    # ---- by the answers of a step

    def _by_step(self, step: LabelStep | SpanStep) -> Sql:
        column, condition = column_of(step), self.rows.condition(self.chosen)
        answers = f"{column}.value::VARCHAR"
        if isinstance(step, SpanStep):
            answers = f"unnest([one.text for one in {column}])"
        elif step.kind == "multi":
            answers = f"unnest({column}.value)"
        table = f"SELECT {answers} AS value, id, file_row_number FROM rows WHERE {condition.text}"
        total = f"(SELECT count(*) FROM rows WHERE {condition.text})"
        counted = (
            f"SELECT value, count(*) AS n, {total} AS total, min_by(id, file_row_number) FROM ({table}) "
            "WHERE value IS NOT NULL GROUP BY value"
        )
        return Sql(counted, condition.values * 2)

    def _of_step(self, step: LabelStep | SpanStep, value: str, n: int, total: int) -> Mapping[str, object]:
        counts = self._restricted()
        estimate = _of_value(counts, step, value) if counts and not self.chosen.is_measure else None
        group: dict[str, object] = {"value": value[:_MAX_VALUE_CHARS], "count": n}
        if isinstance(step, LabelStep):
            rows = counts.rows if counts else 0
            group |= {"rows": total, "share": _share(n, total, estimate, rows)}
        if estimate and estimate.estimate is not None:
            group["estimate"] = brief(estimate)
        if not self.chosen.is_measure:  # a filter has room for one step
            group["read"] = {**self._arguments(), "step": step.id, "value": value[:_MAX_VALUE_CHARS]}
        return group

    # ---- by a column

    def _by_column(self, name: str) -> Sql:
        group, measure = self.rows.group(name), self.rows.measure(self.chosen)
        restriction = self.rows.restriction(self.chosen)
        table = (
            f"SELECT {group.text} AS value, coalesce({measure.text}, false) AS counted, id, file_row_number FROM rows "
            f"WHERE error IS NULL AND {restriction.text}"
        )
        counted = (
            f"SELECT value, count(*) FILTER (counted) AS n, count(*) AS total, "
            f"min_by(id, file_row_number) FILTER (counted) FROM ({table}) "
            "WHERE value IS NOT NULL GROUP BY value"
        )
        return Sql(counted, (*group.values, *measure.values, *restriction.values))

    def _of_column(self, name: str, value: str, n: int, total: int) -> Mapping[str, object]:
        column = self.rows.resolve(name)
        where = {**self.chosen.where, column: value[:_MAX_VALUE_CHARS]}
        group: dict[str, object] = {"value": value[:_MAX_VALUE_CHARS], "count": n}
        if self.chosen.is_measure:
            is_whole = not (self.chosen.contains or self.chosen.source or self.chosen.where)
            counts = group_of(self.summary.estimates, column, value) if is_whole else None
            estimate = self._measured(counts) if counts else None
            group |= {"rows": total, "share": _share(n, total, estimate, counts.rows if counts else 0)}
        return {**group, "read": {**self._arguments(), "where": where}}

    def _detectable(self, name: str) -> Mapping[str, object]:
        grouping = _grouping(self.summary.estimates, self.rows.resolve(name))
        if grouping is None or grouping.detectable is None or not self.chosen.is_measure:
            return {}
        least = grouping.detectable
        step = find_step(self.summary.plan, self.chosen.step) if self.chosen.step else None
        difference = least.matched
        if isinstance(step, LabelStep) and self.chosen.value is not None:
            difference = least.labels.get(step.id, {}).get(_name(step, self.chosen.value))
        elif step is not None:
            difference = None
        return {} if difference is None else {"detectable": round(difference, 3)}

    # ---- estimates

    def estimate(self) -> Estimate | None:
        """Return the corrected number of the rows that pass the filter; None where none belongs to it."""
        counts = self._restricted()
        return self._measured(counts) if counts else None

    def _restricted(self) -> CountEstimates | None:
        """Return the estimates of the rows that the filter by columns leaves."""
        if self.chosen.contains or self.chosen.source or len(self.chosen.where) > 1:
            return None
        for name, value in self.chosen.where.items():
            return group_of(self.summary.estimates, self.rows.resolve(name), as_text(value))
        return self.summary.estimates

    def _measured(self, counts: CountEstimates) -> Estimate | None:
        if self.chosen.step is None:
            return counts.matched if self.chosen.only_matches else None
        if self.chosen.only_matches:
            return None
        step = find_step(self.summary.plan, self.chosen.step)
        if isinstance(step, SpanStep):
            return counts.spans[step.id].texts if self.chosen.value is None and step.id in counts.spans else None
        return _of_value(counts, step, _name(step, self.chosen.value)) if self.chosen.value is not None else None

    def _arguments(self) -> dict[str, object]:
        return self.chosen.model_dump(exclude_defaults=True, include=set(RowFilter.model_fields))


def group_of(estimates: Estimates | None, column: str, value: str) -> CountEstimates | None:
    """Return the estimates of the rows with a value, or month, of a column."""
    grouping = _grouping(estimates, column)
    return grouping.groups.get(value) if grouping else None


def _grouping(estimates: Estimates | None, column: str) -> Grouping | None:
    groups = estimates.groups if estimates else {}
    names = [f"{column} (column)", column, *(["url"] if column == "source" else [])]
    return next((groups[name] for name in names if name in groups and groups[name].kind == "column"), None)


def _name(step: LabelStep, value: bool | str) -> str:
    return label_names(label_of(step, value))[0]


def _of_value(counts: CountEstimates, step: LabelStep | SpanStep, value: str) -> Estimate | None:
    if isinstance(step, SpanStep):
        return counts.spans[step.id].top.get(value) if step.id in counts.spans else None
    return counts.labels.get(step.id, {}).get(value)


def _note(groups: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    """Return why shares have no interval, which would be said of each of them."""
    shares = [group["share"] for group in groups if "share" in group]
    reasons = [share.pop("reason") for share in shares if isinstance(share, dict) and "reason" in share]
    return {"note": f"{len(reasons)} without an interval: {reasons[0]}"} if reasons else {}


def _share(n: int, total: int, estimate: Estimate | None, rows: int) -> Mapping[str, object]:
    if estimate is None or estimate.estimate is None or not rows:
        reason = estimate.reason if estimate and estimate.reason else COMBINED
        return {"counted": round(n / total, 3) if total else None, "estimate": None, "reason": reason}
    return brief_share(estimate.per(rows))
