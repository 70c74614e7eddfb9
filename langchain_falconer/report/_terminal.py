"""The summary of a run on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_falconer.report import _format as fmt
from langchain_falconer.report._facts import PROMISE_COLUMNS, facts, promises

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

_MOST_SPANS = 5
_BAR = 16


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print what a run found, how far to trust it, what it cost and where it lies.

    Args:
        summary: the run's summary, as for :func:`render_html`; any part may be missing or null. ``report`` may name
            the HTML file.
        console: where to print.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    measured = (quality_table(summary), _promises(summary))
    sections = (_headlines(summary), *measured, *_spans(summary), _files(summary), _messages(summary))
    parts: list[RenderableType] = []
    for section in sections:
        if section is not None:
            parts += ["", section] if parts else [section]
    parts = parts or ["This run has nothing to show yet."]
    title = Text(f" {fmt.printable(summary.get('instruction') or 'Falconer')} ", style="bold", overflow="ellipsis")
    console.print(Panel(Group(*parts), title=title, title_align="left", border_style="cyan", padding=(1, 2)))


def _headlines(summary: Mapping[str, Any]) -> Table | None:
    found = facts(summary)
    table = grid("bold", "bold cyan", "dim")
    for fact in found:
        table.add_row(*map(plain, fact))
    return table if found else None


def quality_table(summary: Mapping[str, Any]) -> Table | None:
    """How well each step was measured to do; None if nothing was."""
    from rich import box
    from rich.table import Table

    quality = summary.get("quality") or {}
    steps: Mapping[str, Any] = quality.get("steps") or {}
    if not steps:
        return None
    table = Table(
        "Step", "Texts", "Score", "95% interval", "Same answer", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for step_id, step in steps.items():
        score = step["score"]
        table.add_row(
            plain(step_id),
            fmt.count(step["n"]),
            f"{step['metric']} {fmt.percent(score['value'])}",
            f"{fmt.percent(score['low'])} to {fmt.percent(score['high'])}",
            fmt.percent(step["agreement"]["value"]),
        )
    if unmeasured := quality.get("unmeasured"):
        table.caption = plain(f"no held-out answers, so not measured: {', '.join(unmeasured)}", "dim")
    return table


def _promises(summary: Mapping[str, Any]) -> Table | None:
    from rich import box
    from rich.table import Table

    if not (found := promises(summary)):
        return None
    table = Table(*PROMISE_COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for promise in found:
        table.add_row(*map(plain, promise))
    said = " ".join(map(str, summary["guarantee"].get("said") or []))
    table.caption = plain(said, "dim")
    return table


def _spans(summary: Mapping[str, Any]) -> list[Group]:
    spans: Mapping[str, Any] = (summary.get("rows") or {}).get("spans") or {}
    return [_top(step_id, found) for step_id, found in spans.items()]


def _top(step_id: str, found: Mapping[str, Any]) -> Group:
    from rich.console import Group

    top = (found.get("top") or [])[:_MOST_SPANS]
    heading = f"{step_id}: {fmt.count(found.get('spans'))} spans in {fmt.count(found.get('texts'))} texts"
    most = max((n for _, n in top), default=1) or 1
    table = grid("", "cyan", "")
    for text, n in top:
        table.add_row(plain(text, limit=48), "━" * max(round(_BAR * n / most), 1), fmt.count(n))
    return Group(plain(heading, "bold"), table)


def _files(summary: Mapping[str, Any]) -> Table | None:
    named = [
        (name, summary[key])
        for name, key in (("Rows", "output"), ("Report", "report"), ("Proxy", "proxy"))
        if summary.get(key)
    ]
    table = grid("bold", "")
    for name, path in named:
        table.add_row(name, plain(path))
    return table if named else None


def _messages(summary: Mapping[str, Any]) -> Table | None:
    messages = summary.get("messages") or []
    table = grid("yellow", "")
    for message in messages:
        table.add_row("!", plain(message))
    return table if messages else None


def grid(*styles: str) -> Table:
    """Columns of these styles, with nothing drawn around them."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for style in styles:
        table.add_column(style=style, overflow="fold")
    return table


def plain(value: Any, style: str = "", limit: int | None = None) -> Text:
    """Data as plain text: no markup, no control characters."""
    from rich.text import Text

    text = Text(fmt.printable(value), style=style)
    if limit:
        text.truncate(limit, overflow="ellipsis")
    return text
