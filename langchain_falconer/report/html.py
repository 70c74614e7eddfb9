"""The HTML report: one file without external resources; text of a corpus or an LLM is data, never markup.

What was measured is in the page itself. Rows, comparisons and quotes are JSON in it, which ``workbench.js`` shows; a
content security policy allows that script and ``style.css``, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import RunError
from langchain_falconer.evaluate import Estimate
from langchain_falconer.execute import most_frequent
from langchain_falconer.files import replacing
from langchain_falconer.plan import SpanStep, condition_text, to_pseudocode
from langchain_falconer.records import JsonObject
from langchain_falconer.report import formatting as fmt
from langchain_falconer.report.corrected_counts import Grouping
from langchain_falconer.report.evidence import NO_EVIDENCE, Evidence
from langchain_falconer.report.headlines import CERTIFICATE_COLUMNS, certificate_rows, headlines, interval
from langchain_falconer.report.learning_curve import CURVE_COLUMNS, curve_notes, curve_plot, curve_rows
from langchain_falconer.report.plan_tree import plan_tree
from langchain_falconer.report.row_selection import RowSelection, chips, colours_of, pieces, relations
from langchain_falconer.report.summary import RunSummary

_MAX_GROUPED = 200  # lines of a table by group
_MAX_COMPARED_BYTES = 800_000
_MAX_UNPLACED = 300
_IN_BRIEF = 8  # answers of a step
_FOLDER = Path(__file__).parent

if TYPE_CHECKING:
    from jinja2 import Environment


def render_html(
    summary: RunSummary,
    rows: Iterable[Mapping[str, Any]],
    out: Path,
    max_rows: int = 40,
    *,
    evidence: Evidence = NO_EVIDENCE,
) -> None:
    """Write the report of a run as one HTML file that needs nothing else, of at most 5 MB.

    Args:
        summary: The summary of the run.
        rows: Its result rows, of which the first million are considered and a sample is shown.
        out: The file to write, atomically.
        max_rows: Number of rows that are in the page without its script, besides up to 100 failed ones.
        evidence: What the run knows of single texts beside its rows.

    Raises:
        RunError: ``out`` cannot be written, or a row's span lies outside its text.
    """
    html = page(summary, rows, max_rows, evidence=evidence)
    try:
        with replacing(Path(out)) as partial:
            partial.write_bytes(html)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"the report cannot be written to {out} ({reason}); name a file in a writable folder") from error


def page(
    summary: RunSummary,
    rows: Iterable[Mapping[str, Any]],
    max_rows: int = 40,
    *,
    evidence: Evidence = NO_EVIDENCE,
    corrections: Iterable[JsonObject] | None = None,
) -> bytes:
    """Return the report as :func:`render_html` writes it.

    Args:
        summary: The summary of the run.
        rows: Its result rows.
        max_rows: As of :func:`render_html`.
        evidence: As of :func:`render_html`.
        corrections: Earlier corrections, of a page that is served: it sends further ones to its server.
    """
    is_served = corrections is not None
    values = {(step, text) for step, spans in summary.rows.spans.items() for text, _ in spans.top[:12]}
    selection = RowSelection.of(rows, max_rows, values)
    colours = colours_of(step.id for step in summary.plan.steps if isinstance(step, SpanStep))
    data = _data(summary, selection, evidence)
    css, script = ((_FOLDER / name).read_text("utf-8") for name in ("style.css", "workbench.js"))
    shared = _without_folders(summary)
    html = (
        _environment()
        .get_template("template.html.j2")
        .render(
            s=shared,
            css=css,
            script=script,
            css_hash=_hash(css),
            script_hash=_hash(script),
            data=_as_script(
                data | {"colours": dict(colours), "corrections": list(corrections or ()), "served": is_served}
            ),
            is_served=is_served,
            headlines=headlines(shared),
            certificates=certificate_rows(summary.guarantee),
            certificate_columns=CERTIFICATE_COLUMNS,
            pseudocode=to_pseudocode(summary.plan),
            tree=plan_tree(summary.plan, summary.rows, selection.answered, selection.read),
            examples=selection,
            colours=colours,
        )
    )
    return html.encode("utf-8", "replace")  # UTF-8 cannot encode a lone surrogate


def notebook_html(summary: RunSummary, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a result in brief, as HTML without a script: figures, the most frequent answers, and three matches.

    Args:
        summary: The summary of the run.
        rows: Its result rows, of which the first 1,000 are considered.
    """
    shared = _without_folders(summary)
    answers = [(step, most_frequent(Counter(counts), _IN_BRIEF)) for step, counts in summary.rows.labels.items()]
    answers += [(step, list(spans.top[:_IN_BRIEF])) for step, spans in summary.rows.spans.items()]
    return (
        _environment()
        .get_template("notebook.html.j2")
        .render(
            s=shared,
            headlines=headlines(shared),
            answers=[(step, values) for step, values in answers if values],
            examples=list(islice((row for row in islice(rows, 1_000) if row.get("match")), 3)),
        )
    )


def _data(summary: RunSummary, selection: RowSelection, evidence: Evidence) -> dict[str, object]:
    """Return what the script of the page works on."""
    rows, n_uniform = selection.embedded()
    compared: list[JsonObject] = []
    size = 0
    for one in evidence.comparisons:
        size += len(one.text.encode("utf-8", "replace"))
        if size <= _MAX_COMPARED_BYTES:
            compared.append(one.model_dump(mode="json"))
    steps = [
        {**step.model_dump(mode="json", by_alias=True), "condition": condition_text(step.where) if step.where else ""}
        for step in summary.plan.ordered
    ]
    doubts: dict[str, list[str]] = {}
    for suspect in summary.annotations.likely_errors:
        doubts.setdefault(suspect.text, []).append(f"{suspect.step}: {suspect.reason}")
    return {
        "run": summary.run_id,
        "annotator": summary.annotations.source or "annotator",
        "steps": steps,
        "rows": rows,
        "uniform": n_uniform,
        "read": selection.read,
        "total": summary.rows.total,
        "comparisons": [{**one, "why": doubts.get(str(one["text"]), [])} for one in compared],
        "unplaced": [quote.model_dump(mode="json") for quote in evidence.unplaced[:_MAX_UNPLACED]],
    }


def _as_script(data: Mapping[str, object]) -> str:
    """Return JSON that is safe inside a script element, and exact for text that UTF-8 cannot encode."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = re.sub("[\ud800-\udfff]", lambda lone: f"\\u{ord(lone[0]):04x}", text)
    return text.replace("<", "\\u003c")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _without_folders(summary: RunSummary) -> RunSummary:
    """Return the summary with file names in place of absolute paths: a report is made to be shared."""
    files = [summary.output, summary.proxy, summary.report, summary.annotations.review, *summary.corpus.sources]
    names = {file: Path(file).name for file in files if file and Path(file).is_absolute()}
    folders = {str(Path.home()): "~"}
    if summary.report:
        folders[str(Path(summary.report).parent.parent.parent)] = "HOME"  # of HOME/runs/ID/report.html

    def shown(text: str) -> str:
        for path, name in sorted((names | folders).items(), key=lambda pair: -len(pair[0])):
            text = text.replace(path, name) if len(path) > 1 else text
        return text

    return summary.model_copy(
        update={
            "output": shown(summary.output),
            "proxy": shown(summary.proxy) if summary.proxy else None,
            "messages": tuple(map(shown, summary.messages)),
            "corpus": summary.corpus.model_copy(update={"sources": tuple(map(shown, summary.corpus.sources))}),
        }
    )


def _grouped(grouping: Grouping) -> list[tuple[str, Estimate]]:
    """Return the counts of the groups, those of one kind beside each other."""
    named = [(f"{name}, {group}", one) for group, counts in grouping.groups.items() for name, one in counts.named(4)]
    kinds = list(dict.fromkeys(name.rpartition(", ")[0] for name, _ in named))
    shown = sorted(named, key=lambda pair: kinds.index(pair[0].rpartition(", ")[0]))
    return shown[:_MAX_GROUPED]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(_FOLDER)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(count=fmt.count, percent=fmt.percent, duration=fmt.duration, usd=fmt.usd)
    environment.globals.update(curve_columns=CURVE_COLUMNS, curve_rows=curve_rows)
    environment.globals.update(curve_plot=curve_plot, curve_notes=curve_notes)
    environment.filters.update(capitalize_first=lambda text: text[:1].upper() + text[1:])
    environment.globals.update(grouped=_grouped, interval=interval, pieces=pieces, chips=chips, relations=relations)
    return environment
