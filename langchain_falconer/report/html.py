"""The HTML report: one file without scripts or external resources; text of a corpus or an LLM is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import RunError
from langchain_falconer.evaluate import Estimate
from langchain_falconer.files import replacing
from langchain_falconer.plan import SpanStep, to_pseudocode
from langchain_falconer.report import formatting as fmt
from langchain_falconer.report.corrected_counts import Grouping
from langchain_falconer.report.headlines import CERTIFICATE_COLUMNS, certificate_rows, headlines, interval
from langchain_falconer.report.learning_curve import CURVE_COLUMNS, curve_notes, curve_plot, curve_rows
from langchain_falconer.report.row_selection import chips, colours_of, pieces, relations, select_rows
from langchain_falconer.report.summary import RunSummary

_MAX_GROUPED = 200  # lines of a table by group

if TYPE_CHECKING:
    from jinja2 import Environment


def render_html(summary: RunSummary, rows: Iterable[Mapping[str, Any]], out: Path, max_rows: int = 200) -> None:
    """Write the report of a run as one HTML file that needs nothing else.

    Args:
        summary: The summary of the run.
        rows: Its result rows, of which the first 100,000 are considered. Matches are shown first.
        out: The file to write, atomically.
        max_rows: Maximum number of rows to show, besides up to 100 failed ones.

    Raises:
        RunError: ``out`` cannot be written, or a row's span lies outside its text.
    """
    page = _environment().get_template("template.html.j2")
    css = Path(__file__).with_name("style.css").read_text("utf-8")
    html = page.render(
        s=summary,
        css=css,
        css_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode(),
        headlines=headlines(summary),
        certificates=certificate_rows(summary.guarantee),
        certificate_columns=CERTIFICATE_COLUMNS,
        pseudocode=to_pseudocode(summary.plan),
        examples=select_rows(rows, max_rows),
        colours=colours_of(step.id for step in summary.plan.steps if isinstance(step, SpanStep)),
    )
    try:
        with replacing(Path(out)) as partial:
            partial.write_bytes(html.encode("utf-8", "replace"))  # UTF-8 cannot encode a lone surrogate
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"the report cannot be written to {out} ({reason}); name a file in a writable folder") from error


def _grouped(grouping: Grouping) -> list[tuple[str, Estimate]]:
    """Return the counts of the groups, those of one kind beside each other."""
    named = [(f"{name}, {group}", one) for group, counts in grouping.groups.items() for name, one in counts.named(4)]
    kinds = list(dict.fromkeys(name.rpartition(", ")[0] for name, _ in named))
    shown = sorted(named, key=lambda pair: kinds.index(pair[0].rpartition(", ")[0]))
    return shown[:_MAX_GROUPED]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(count=fmt.count, percent=fmt.percent, duration=fmt.duration, usd=fmt.usd)
    environment.globals.update(curve_columns=CURVE_COLUMNS, curve_rows=curve_rows)
    environment.globals.update(curve_plot=curve_plot, curve_notes=curve_notes)
    environment.filters.update(capitalize_first=lambda text: text[:1].upper() + text[1:])
    environment.globals.update(grouped=_grouped, interval=interval, pieces=pieces, chips=chips, relations=relations)
    return environment
