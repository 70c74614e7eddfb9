"""The summary of a run on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from langchain_falconer.evaluate import Quality
from langchain_falconer.execute import SpanCounts
from langchain_falconer.report import formatting as fmt
from langchain_falconer.report.corrected_counts import Estimates
from langchain_falconer.report.headlines import CERTIFICATE_COLUMNS, certificate_rows, headlines
from langchain_falconer.report.learning_curve import CURVE_COLUMNS, curve_notes, curve_rows
from langchain_falconer.report.summary import RunSummary

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

_TOP_SPANS = 5
_TOP_LABELS = 4
_MAX_ESTIMATES = 12
_BAR_WIDTH = 16


def print_summary(summary: RunSummary, console: Console) -> None:
    """Print the results, quality, cost and files of a run."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    guessed = ", ".join(f"'{column}'" for column in summary.corpus.guessed_columns)
    text = guessed and f"column {guessed}, by its name; --text-column names another"
    files = (("Text", text), ("Rows", summary.output), ("Report", summary.report), ("Proxy", summary.proxy))
    sections = (
        grid(headlines(summary), "bold", "bold cyan", "dim"),
        _estimates(summary.estimates),
        quality_table(summary.quality),
        _learning_curve(summary),
        _certificates(summary),
        *(_top_spans(step, counts) for step, counts in summary.rows.spans.items()),
        grid([(name, path) for name, path in files if path], "bold", ""),
        grid([("!", message) for message in summary.messages], "yellow", "") if summary.messages else None,
    )
    parts: list[RenderableType] = [part for section in sections if section is not None for part in ("", section)]
    title = Text(f" {fmt.printable(summary.instruction)} ", style="bold", overflow="ellipsis")
    console.print(Panel(Group(*parts[1:]), title=title, title_align="left", border_style="cyan", padding=(1, 2)))


def quality_table(quality: Quality | None) -> Table | None:
    """Return the measured quality of each step; None if nothing was measured."""
    if quality is None or not quality.steps:
        return None
    table = framed("Step", "Texts", "Score", "95% interval", "Same answer")
    for step_id, step in quality.steps.items():
        table.add_row(
            plain(step_id),
            fmt.count(step.n),
            f"{step.metric} {fmt.percent(step.score.value)}",
            f"{fmt.percent(step.score.low)} to {fmt.percent(step.score.high)}",
            fmt.percent(step.agreement.value),
        )
    if notes := _quality_notes(quality):
        table.caption = plain("; ".join(notes), "dim")
        table.caption_justify = "left"
    return table


def _quality_notes(quality: Quality) -> list[str]:
    """Return what could not be measured, and where the proxy is worse."""
    notes = [f"{step_id}: {remark}" for step_id, step in quality.steps.items() for remark in step.remarks]
    notes += [
        f"{step_id} is worse where {one.by} is {one.value} ({fmt.percent(one.agreement.value)} the same answer)"
        for step_id, step in quality.steps.items()
        for one in step.slices
        if one.is_worse
    ]
    if quality.unmeasured:
        notes.append(f"not measured, without test answers: {', '.join(quality.unmeasured)}")
    return notes


def _estimates(estimates: Estimates | None) -> RenderableType | None:
    """Return the corrected counts in all; those by group are in the report and in ``--json``."""
    if estimates is None:
        return None
    if estimates.reason:
        return plain(f"Counts are not corrected: {estimates.reason}", "dim")
    table = framed("Count", "Counted", "Estimate", "95% interval")
    for name, one in list(estimates.named(_TOP_LABELS))[:_MAX_ESTIMATES]:
        if one.low is None or one.high is None:
            table.add_row(plain(name), fmt.count(one.counted), fmt.DASH, plain(one.reason or "", "dim"))
        else:
            interval = f"{fmt.count(round(one.low))} to {fmt.count(round(one.high))}"
            table.add_row(plain(name), fmt.count(one.counted), fmt.count(round(one.estimate or 0)), interval)
    table.caption = plain(estimates.basis, "dim")
    return table


def _learning_curve(summary: RunSummary) -> Table | None:
    if not summary.learning_curve.points:
        return None
    table = framed(*CURVE_COLUMNS)
    for row in curve_rows(summary.learning_curve):
        table.add_row(*map(plain, row))
    table.caption = plain(" ".join(curve_notes(summary.learning_curve)), "dim")
    return table


def _certificates(summary: RunSummary) -> Table | None:
    if summary.guarantee is None:
        return None
    table = framed(*CERTIFICATE_COLUMNS)
    for row in certificate_rows(summary.guarantee):
        table.add_row(*map(plain, row))
    table.caption = plain(" ".join(summary.guarantee.statements), "dim")
    return table


def _top_spans(step_id: str, counts: SpanCounts) -> Group:
    from rich.console import Group
    from rich.table import Table

    top = counts.top[:_TOP_SPANS]
    heading = f"{step_id}: {fmt.count(counts.spans)} spans in {fmt.count(counts.texts)} texts"
    highest = max((n for _, n in top), default=1) or 1
    table = Table.grid(padding=(0, 2))
    for text, n in top:
        bar = "━" * max(round(_BAR_WIDTH * n / highest), 1)
        table.add_row(plain(text, limit=48), plain(bar, "cyan"), fmt.count(n))
    return Group(plain(heading, "bold"), table)


def grid(rows: Iterable[Iterable[object]], *styles: str) -> Table:
    """Return a table of plain text without lines, one column per style."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for style in styles:
        table.add_column(style=style, overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def framed(*columns: str) -> Table:
    """Return an empty table with these headings."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(plain(column), overflow="fold", min_width=len(column) if len(column) < 12 else None)
    return table


def plain(value: object, style: str = "", limit: int | None = None) -> Text:
    """Return data as plain text without markup or control characters."""
    from rich.text import Text

    text = Text(fmt.printable(value), style=style)
    if limit:
        text.truncate(limit, overflow="ellipsis")
    return text
