"""Tables of trained proxies for the terminal: a list of all, or the details of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import ProxyError
from langchain_falconer.evaluate import Proportion
from langchain_falconer.plan import to_pseudocode
from langchain_falconer.registry import Entry
from langchain_falconer.report import formatting as fmt
from langchain_falconer.report.terminal import framed, grid, plain, quality_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_entries(entries: Sequence[Entry], console: Console) -> None:
    """Print one line per proxy; for a broken one, the reason."""
    table = framed("Name", "Instruction", "Steps", "Annotated", "Agreement")
    table.columns[0].no_wrap = True  # so that it can be copied
    for entry in entries:
        instruction = plain(entry.plan.instruction) if entry.plan else plain(f"broken: {entry.broken}", "red")
        steps = plain(", ".join(step.id for step in entry.steps))
        annotations = fmt.count(_mapping(entry.manifest.get("data")).get("annotations"))
        agreement = fmt.percent(entry.quality.agreement.value if entry.quality else None)
        table.add_row(plain(entry.name), instruction, steps, annotations, agreement)
    console.print(table)


def print_entry(entry: Entry, console: Console) -> None:
    """Print plan, data, training, quality, throughput and path of a proxy. Raises ``ProxyError`` if it is broken."""
    from rich.syntax import Syntax

    if entry.plan is None:
        raise ProxyError(f"the proxy '{entry.name}' is broken ({entry.broken}); train it again")
    console.print(Syntax(to_pseudocode(entry.plan), "python", word_wrap=True, background_color="default"))
    console.print("", grid(_facts(entry), "bold", ""))
    if (measured := quality_table(entry.quality)) is not None:
        console.print("", measured)
    if backends := [_mapping(one) for one in _list(_mapping(entry.manifest.get("backend")).get("candidates"))]:
        console.print("", _backends(backends))


def _facts(entry: Entry) -> list[tuple[str, str]]:
    from rich.filesize import decimal

    manifest = entry.manifest
    data, training, backend, calibration = (
        _mapping(manifest.get(key)) for key in ("data", "training", "backend", "calibration")
    )
    losses = _list(training.get("loss")) or [fmt.DASH]
    facts = [
        ("Base", manifest["base"]),
        (
            "Data",
            f"{fmt.count(data.get('annotations'))} annotations, {fmt.count(data.get('examples'))} examples, "
            f"{fmt.count(data.get('unlabelled'))} texts without annotations",
        ),
        ("Data sha256", data.get("sha256")),
        ("Training", f"{fmt.duration(training.get('seconds'))}, {fmt.count(training.get('steps'))} steps"),
        ("Loss", f"{losses[0]} in the first epoch, {losses[-1]} in the last of {len(losses)}"),
        ("Settings", _settings_text(manifest["settings"])),
        ("Agreement", _estimate(entry.quality.agreement) if entry.quality else "not measured"),
        ("Temperatures", _settings_text(calibration.get("temperatures"))),
        ("Score scales", _settings_text(calibration.get("scales"))),
        ("Thresholds", _settings_text(calibration.get("thresholds"))),
        ("Backend", backend.get("name") or "not chosen yet"),
        ("Versions", _settings_text(manifest.get("versions"))),
        ("Created", f"{entry.created:%Y-%m-%d %H:%M} UTC"),
        ("Size", decimal(entry.size)),
        ("Path", entry.path),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _backends(candidates: Sequence[Mapping[str, Any]]) -> Table:
    table = framed("Backend", "Texts/s", "Like float32", "Refused")
    for one in candidates:
        throughput, agreement = fmt.count(one.get("texts_per_second")), fmt.percent(one.get("agreement"))
        table.add_row(plain(one.get("name")), throughput, agreement, plain(one.get("refused") or ""))
    return table


def _estimate(estimate: Proportion) -> str:
    low, high = fmt.percent(estimate.low), fmt.percent(estimate.high)
    return f"{fmt.percent(estimate.value)} ({low} to {high}, {fmt.count(estimate.n)} texts)"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _settings_text(value: Any) -> str:
    pairs = ((key, round(v, 3) if isinstance(v, float) and abs(v) > 0.1 else v) for key, v in _mapping(value).items())
    return ", ".join(f"{key} {v}" for key, v in pairs if v is not None)
