"""The summary of a run on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_falconer.evaluate import Quality
from langchain_falconer.execute import SpanCounts
from langchain_falconer.report import formatting as fmt
from langchain_falconer.report.headlines import CERTIFICATE_COLUMNS, certificate_rows, headlines
from langchain_falconer.report.summary import RunSummary

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

_TOP_SPANS = 5
_BAR_WIDTH = 16


def print_summary(summary: RunSummary, console: Console) -> None:
    """Print the results, quality, cost and files of a run."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    measured = (quality_table(summary.quality), _certificates(summary))
    spans = (_top_spans(step, counts) for step, counts in summary.rows.spans.items())
    parts: list[RenderableType] = [_headlines(summary)]
    for section in (*measured, *spans, _files(summary), _messages(summary)):
        if section is not None:
            parts += ["", section]
    title = Text(f" {fmt.printable(summary.instruction)} ", style="bold", overflow="ellipsis")
    console.print(Panel(Group(*parts), title=title, title_align="left", border_style="cyan", padding=(1, 2)))


def _headlines(summary: RunSummary) -> Table:
    table = grid("bold", "bold cyan", "dim")
    for headline in headlines(summary):
        table.add_row(*map(plain, headline))
    return table


def quality_table(quality: Quality | None) -> Table | None:
    """Return the measured quality of each step; None if nothing was measured."""
    from rich import box
    from rich.table import Table

    if quality is None or not quality.steps:
        return None
    table = Table(
        "Step", "Texts", "Score", "95% interval", "Same answer", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for step_id, step in quality.steps.items():
        table.add_row(
            plain(step_id),
            fmt.count(step.n),
            f"{step.metric} {fmt.percent(step.score.value)}",
            f"{fmt.percent(step.score.low)} to {fmt.percent(step.score.high)}",
            fmt.percent(step.agreement.value),
        )
    if quality.unmeasured:
        table.caption = plain(f"not measured, without test answers: {', '.join(quality.unmeasured)}", "dim")
    return table


def _certificates(summary: RunSummary) -> Table | None:
    from rich import box
    from rich.table import Table

    if summary.guarantee is None:
        return None
    table = Table(*CERTIFICATE_COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in certificate_rows(summary.guarantee):
        table.add_row(*map(plain, row))
    table.caption = plain(" ".join(summary.guarantee.statements), "dim")
    return table


def _top_spans(step_id: str, counts: SpanCounts) -> Group:
    from rich.console import Group

    top = counts.top[:_TOP_SPANS]
    heading = f"{step_id}: {fmt.count(counts.spans)} spans in {fmt.count(counts.texts)} texts"
    highest = max((n for _, n in top), default=1) or 1
    table = grid("", "cyan", "")
    for text, n in top:
        table.add_row(plain(text, limit=48), "━" * max(round(_BAR_WIDTH * n / highest), 1), fmt.count(n))
    return Group(plain(heading, "bold"), table)


def _files(summary: RunSummary) -> Table:
    files = (("Rows", summary.output), ("Report", summary.report), ("Proxy", summary.proxy))
    table = grid("bold", "")
    for name, path in files:
        if path:
            table.add_row(name, plain(path))
    return table


def _messages(summary: RunSummary) -> Table | None:
    table = grid("yellow", "")
    for message in summary.messages:
        table.add_row("!", plain(message))
    return table if summary.messages else None


def grid(*styles: str) -> Table:
    """Return a table without lines, one column per style."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for style in styles:
        table.add_column(style=style, overflow="fold")
    return table


def plain(value: Any, style: str = "", limit: int | None = None) -> Text:
    """Return data as plain text without markup or control characters."""
    from rich.text import Text

    text = Text(fmt.printable(value), style=style)
    if limit:
        text.truncate(limit, overflow="ellipsis")
    return text
