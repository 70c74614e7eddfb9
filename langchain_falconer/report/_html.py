"""One self-contained HTML file: no script, no outside resource; what a corpus or an LLM wrote shows as text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer._files import replacing
from langchain_falconer.errors import RunError
from langchain_falconer.plan import Plan, SpanStep, to_mermaid, to_pseudocode
from langchain_falconer.report import _format as fmt
from langchain_falconer.report._charts import draw_plan, loss_curve, reliability_dots
from langchain_falconer.report._facts import PROMISE_COLUMNS, facts, interval, promises
from langchain_falconer.report._rows import Palette, chips, choose, pieces, relations

if TYPE_CHECKING:
    from jinja2 import Environment


def render_html(summary: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], out: Path, max_rows: int = 200) -> None:
    """Write the report of a run as one HTML file that needs nothing else.

    Args:
        summary: the run's summary; any part may be missing or null, and what is there is shown.
        rows: the run's result rows, of which the first 100,000 are looked at. Matches are shown first.
        out: the file to write, replaced whole or not at all.
        max_rows: how many rows to show, failed ones (up to 100) aside.

    Raises:
        RunError: if ``out`` cannot be written, or a row's span lies outside its text.
        PlanError: if the summary's plan is none.
    """
    plan = Plan.parse(summary["plan"]) if summary.get("plan") else None
    page = _environment().get_template("template.html.j2")
    palette = Palette(step.id for step in plan.steps if isinstance(step, SpanStep)) if plan else Palette()
    css = Path(__file__).with_name("style.css").read_text("utf-8")
    html = page.render(
        s=summary,
        css=css,
        css_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode(),
        facts=facts(summary),
        promises=promises(summary),
        promise_columns=PROMISE_COLUMNS,
        plan=plan and {"drawing": draw_plan(plan), "code": to_pseudocode(plan), "mermaid": to_mermaid(plan)},
        curve=loss_curve((summary.get("training") or {}).get("loss")),
        examples=choose(rows, max_rows),
        palette=palette,
    )
    _write_whole(Path(out), html)


@cache
def _environment() -> Environment:
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,  # any part of a summary may be missing
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=fmt.count, percent=fmt.percent, duration=fmt.duration, usd=fmt.usd)
    environment.globals.update(
        interval=interval, pieces=pieces, chips=chips, relations=relations, reliability_dots=reliability_dots
    )
    return environment


def _write_whole(out: Path, html: str) -> None:
    try:
        with replacing(out) as partial:
            partial.write_bytes(html.encode("utf-8", "replace"))  # a lone surrogate is no Unicode text
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"the report cannot be written to {out} ({reason}); name a file in a folder you may write to"
        ) from None
