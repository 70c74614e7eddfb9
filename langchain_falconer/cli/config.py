"""``falconer.toml``: options in a file, which those of the command line override, and settings without an option."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from langchain_falconer.cli.console import stderr
from langchain_falconer.errors import SettingsError, first_fault
from langchain_falconer.settings import MineSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "falconer.toml"
SETTINGS = "settings"
OWN_TABLE = ("output", "yes")
"""Options that mean something else for each command, so that they stand in its table."""
_SHARING = ("mine", "predict", "train", "plan", "check", "mcp")
_NO_OPTIONS = ("help", "version", "config", "install-completion", "show-completion")
_SECRET_NAME = re.compile(r"(^|[-_])(key|token|secret|password|credentials?)$")
_SECRET_VALUE = re.compile(r"\b(sk|pk|hf|ghp|gho|xox[abp])[-_][\w-]{12,}|\bAKIA\w{12,}|://[^/\s]*:[^/\s]*@")
_settings: ContextVar[Mapping[str, Any]] = ContextVar("settings")


def settings_of_file() -> Mapping[str, Any]:
    """Return the table ``settings`` of the configuration file, as the tree of ``MineSettings``."""
    return _settings.get({})


def use_file(context: typer.Context, path: Path | None) -> None:
    """Take the defaults of all commands from a file, ``falconer.toml`` of the working directory if none is named.

    Raises:
        SettingsError: It cannot be read, or has an unknown name or a secret.
    """
    if context.resilient_parsing:  # the completion of a shell
        return
    file = path or (Path(FILE) if Path(FILE).is_file() else None)
    _settings.set({})
    if file is None:
        return
    data = _read(file)
    context.default_map = _defaults(context.command, data, file)
    _settings.set(_checked_settings(data.get(SETTINGS, {}), file))
    stderr.print(f"with the options of {file}", markup=False, highlight=False, soft_wrap=True)


def _use_named_file(context: typer.Context, path: Path | None) -> Path | None:
    if path and not context.resilient_parsing:
        root, names = context.find_root(), context.command_path.split()[1:]
        use_file(root, path)  # type: ignore[arg-type]
        defaults: Any = root.default_map or {}
        context.default_map = defaults.get(names[-1], {})
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="File of options (see falconer init).",
        show_default=f"./{FILE}",
        is_eager=True,
        callback=_use_named_file,
    ),
]
"""The option of every command that takes its defaults from a file."""


def options_of(command: Any) -> Mapping[str, Any]:
    """Return the options of a command by their long names without dashes."""
    named = {
        max(one.opts, key=len).removeprefix("--"): one
        for one in command.params
        if any(o.startswith("--") for o in one.opts)
    }
    return {name: option for name, option in named.items() if name not in _NO_OPTIONS}


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with its path below the root."""
    if path:
        yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {file} ({error.strerror}); name a file that exists with --config") from error
    except ValueError as error:
        raise SettingsError(f"{file} is not TOML ({error}); 'falconer init' writes an example") from error


def _defaults(root: Any, data: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return Click's map of defaults: those at the top, then those of the table of each command.

    What stands at the top holds for the commands that work on a corpus, and the home for all.
    """
    commands = dict(_commands(root))
    tables = {path[0] for path in commands}
    everywhere = {name for command in commands.values() for name in options_of(command)}
    shared = {name: v for name, v in data.items() if name != SETTINGS and not (name in tables and isinstance(v, dict))}
    if wrong := next((name for name in shared if name in tables - everywhere), None):
        raise SettingsError(f"{file}: {wrong} is a command; write its options in a table [{wrong}]", field=wrong)
    if wrong := next((name for name in shared if name in OWN_TABLE), None):
        message = f"{file}: '{wrong}' means something else for each command; write it in a table, such as [mine]"
        raise SettingsError(message, field=wrong)
    _check_names(shared, everywhere | tables, file, "")
    defaults: dict[str, Any] = {}
    for path, command in commands.items():
        options, own = options_of(command), data.get(path[0]) if len(path) == 1 else None
        own = own if isinstance(own, dict) else {}
        _check_names(own, options, file, f"[{path[0]}] ")
        values = {_dashed(name): v for name, v in shared.items() if path[0] in _SHARING or name == "home"}
        values |= {_dashed(name): v for name, v in own.items()}
        target = defaults
        for name in path:
            target = target.setdefault(name, {})
        target |= {options[name].name: _value(options[name], v) for name, v in values.items() if name in options}
    return defaults


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _value(option: Any, value: Any) -> Any:
    """Return a value as the command line would have it: a list of an option that stands once has commas."""
    if isinstance(value, list) and not option.multiple:
        return ",".join(map(str, value))
    return [value] if option.multiple and not isinstance(value, list) else value


def _check_names(values: Mapping[str, Any], known: Collection[str], file: Path, where: str) -> None:
    for name, value in values.items():
        is_known = _dashed(name) in known
        if _SECRET_VALUE.search(str(value)) or (not is_known and _SECRET_NAME.search(name.lower())):
            fault = f"{name} is a secret, which does not belong into a file; set it in the environment"
            raise SettingsError(f"{file}: {where}{fault}, such as OPENAI_API_KEY", field=name)
        if not is_known:
            fault = f"there is no option '{name}'{_nearest(_dashed(name), known)}"
            raise SettingsError(f"{file}: {where}{fault}", field=name)


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else "; 'falconer init' writes a file with all of them"


def _checked_settings(settings: Any, file: Path) -> Mapping[str, Any]:
    """Return the settings. Raises ``SettingsError`` for an unknown one, which names the nearest."""
    if _SECRET_VALUE.search(str(settings)):
        raise SettingsError(f"{file}: a secret does not belong into a file; set it in the environment")
    try:
        MineSettings.model_validate(settings)
    except ValidationError as error:
        field, reason = first_fault(error)
        fault = error.errors(include_url=False)[0]
        if fault["type"] == "extra_forbidden":
            *parents, name = map(str, fault["loc"])
            model: type[BaseModel] = MineSettings
            for parent in parents:
                inner = model.model_fields[parent].default
                model = type(inner) if isinstance(inner, BaseModel) else model
            reason = f"there is no such setting{_nearest(name, list(model.model_fields))}"
        raise SettingsError(f"{file}: settings.{field}: {reason}", field=field) from error
    return dict(settings)


def with_file(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that options make, with those of the file that have no option.

    Raises:
        SettingsError: One of the file has an option of its own.
    """
    return _merged(fields, settings_of_file(), ())


def _merged(fields: Mapping[str, Any], more: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(fields)
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value, (*path, name))
        elif name in merged:
            field = ".".join((*path, name))
            message = f"settings.{field} of the file has an option of its own; write that at the top of the file"
            raise SettingsError(f"{message} (falconer init shows all)", field=field)
        else:
            merged[name] = value
    return merged
