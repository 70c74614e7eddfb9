"""``falconer init``."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from langchain_falconer.cli.config import FILE, OWN_TABLE, SETTINGS, options_of
from langchain_falconer.cli.console import print_outcome
from langchain_falconer.cli.options import AsJson
from langchain_falconer.errors import RunError
from langchain_falconer.settings import MineSettings

PLAN_FILE = "plan.json"
_COMMANDS = ("mine", "predict", "train")
_WIDTH = 100
_HEAD = f"""\
{FILE}: options of the falconer commands, found in the working directory or named with --config.
Take the '#' away from what you want to change. What stands here holds for every command that has the option; under
[mine], [predict] or [train], below, for that command alone; and the command line overrides it. API keys do not belong
here: set them in the environment, such as OPENAI_API_KEY."""
# What to write for an option that has no value by default.
_EXAMPLES: dict[str, Any] = {
    "annotations": "labels.jsonl",
    "certify": 300,
    "confidence": 0.95,
    "corrections": "corrections.jsonl",
    "delimiter": ";",
    "encoding": "cp1252",
    "epochs": 10.0,
    "escalate": 0.1,
    "frozen_layers": 2,
    "home": "falconer-home",
    "id-column": "id",
    "layers": 3,
    "llm": "openai:gpt-4.1-mini",
    "max-llm-calls": 500,
    "max-rounds": 4,
    "max-tokens": 1_000_000,
    "max-usd": 1.0,
    "metric": ["positive=recall:0.95"],
    "output": "rows.csv",
    "plan": PLAN_FILE,
    "price": [0.4, 1.6],
    "rate": 5.0,
    "report": "report.html",
    "target-agreement": 0.95,
    "target-precision": 0.9,
    "target-recall": 0.9,
    "target-spans": 0.9,
    "text-column": "text",
    "train.output": "my.proxy",
    "unlabelled": ["reviews.jsonl"],
    "workers": 8,
}
_PLAN = {
    "instruction": "Extract all laptop prices from positive reviews",
    "steps": [
        {"id": "positive", "op": "get_label", "instruction": "Is this a positive review of a laptop?"},
        {
            "id": "topics",
            "op": "get_label",
            "instruction": "What does the review talk about?",
            "labels": ["screen", "battery", {"name": "service", "description": "delivery, repairs and refunds"}],
            "multi_label": True,
        },
        {
            "id": "price",
            "op": "get_span",
            "instruction": "Extract the laptop's price",
            "where": {"step": "positive", "equals": True},
        },
    ],
}


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of the two files.", show_default="here")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a commented falconer.toml with every option, and an example of a plan (plan.json)."""
    texts = {
        folder / FILE: config_text(context.find_root().command),
        folder / PLAN_FILE: json.dumps(_PLAN, indent=2) + "\n",
    }
    if taken := next((path for path in texts if path.exists()), None):
        raise RunError(f"{taken} is there already; remove it, or name another folder", path=taken)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise RunError(f"cannot write to {folder} ({error.strerror}); name another folder", path=folder) from error
    names = [str(path) for path in texts]
    print_outcome(
        {"files": names}, f"wrote {' and '.join(names)}; take the '#' away from what you want", as_json=as_json
    )


def config_text(root: Any) -> str:
    """Return a configuration file in which every option of mine, predict and train stands commented out."""
    options: dict[str, Any] = {}
    for command in _COMMANDS:
        options = {**options_of(root.commands[command]), **options}
    panels: dict[str, list[str]] = {}
    for name, option in options.items():
        if name in OWN_TABLE:
            continue
        lines = panels.setdefault(option.rich_help_panel or "Files and output", [])
        users = [command for command in _COMMANDS if name in options_of(root.commands[command])]
        only = "" if len(users) == len(_COMMANDS) else f" ({', '.join(users)})"
        shown = option.show_default if isinstance(option.show_default, str) else ""
        default = f" Default: {shown}." if shown else ""
        lines += _entry(name, _value_of(name, option.default), f"{option.help or ''}{default}{only}")
    parts = [textwrap.indent(_HEAD, "# ")]
    parts += [f"# ---- {panel}\n\n" + "\n".join(lines) for panel, lines in panels.items()]
    for command in _COMMANDS:
        own = [(name, option) for name, option in options_of(root.commands[command]).items() if name in OWN_TABLE]
        lines = [
            line for name, option in own for line in _entry(name, _value_of(name, option.default, command), option.help)
        ]
        parts.append("\n".join([f"[{command}]", *lines]))
    parts += ["\n".join(_settings(MineSettings(), SETTINGS, _with_options(options)))]
    return "\n\n".join(parts) + "\n"


def _entry(name: str, value: Any, comment: str) -> list[str]:
    about = textwrap.wrap(" ".join(comment.split()), _WIDTH)
    return [*(f"## {line}" for line in about), f"# {name} = {json.dumps(value, ensure_ascii=False)}"]


def _value_of(name: str, default: Any, command: str = "") -> Any:
    is_absent = default is None or default == "" or not _is_plain(default)
    return _EXAMPLES.get(f"{command}.{name}", _EXAMPLES[name]) if is_absent else default


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


# Settings that options make, but for those of corpus and run, which are called as their options.
_MADE = {"annotations", "max_rounds", "round_annotations", "seed", "base", "metrics", "budget", "targets"}
_MADE |= {"annotate.batch", "annotate.texts_per_call", "corpus.on_bad_row"}
_MADE |= {f"train.{name}" for name in ("seed", "max_minutes", "layers", "device")}


def _with_options(options: Mapping[str, Any]) -> set[str]:
    """Return the names of settings that have an option."""
    return _MADE | {f"{part}.{name.replace('-', '_')}" for part in ("corpus", "run") for name in options}


def _settings(settings: BaseModel, path: str, known: set[str]) -> Iterator[str]:
    """Yield the lines of the table of those settings that have no option."""
    title = "settings that have no option" if path == SETTINGS else type(settings).__name__
    yield f"# ---- {title}\n\n[{path}]"
    about = dict(
        re.findall(r"^    (\w+): ((?:.+\n?(?:        .*\n?)*))", inspect.getdoc(type(settings)) or "", re.MULTILINE)
    )
    inner: list[tuple[str, BaseModel]] = []
    for name, value in settings:
        field = f"{path}.{name}".removeprefix(f"{SETTINGS}.")
        if field in known or name.endswith("prompts"):
            continue
        if isinstance(value, BaseModel):
            inner.append((name, value))
        else:
            comment = about.get(name, "").replace("``", "")
            yield from _entry(name, _EXAMPLES.get(name) if value is None else value, comment)
    for name, value in inner:
        yield ""
        yield from _settings(value, f"{path}.{name}", known)
