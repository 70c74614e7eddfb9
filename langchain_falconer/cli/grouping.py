"""Commands whose options come in groups: each group is a dataclass, and one argument of the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from langchain_falconer.cli.config import Config


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for Typer in which each argument that is a dataclass is replaced by the options of its fields.

    A field is annotated as a Typer option would be, with the option's name; its default is the option's. A field may be
    a group itself. The command also takes ``--config``.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        parameters += _options(name, hints[name], parameter.default)

    parameters.append(Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=Config))

    def run(**values: Any) -> None:
        command(**{name: _argument(name, hint, values) for name, hint in hints.items() if name != "return"})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options(name: str, hint: Any, default: object) -> Iterator[Parameter]:
    """Yield the parameter of an option, or those of the fields of a group, whose names start with the group's."""
    if not is_dataclass(hint):
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        return
    hints = get_type_hints(hint, include_extras=True)
    for field in fields(hint):
        default = Parameter.empty if field.default is MISSING else field.default
        yield from _options(f"{name}_{field.name}", hints[field.name], default)


def _argument(name: str, hint: Any, values: dict[str, Any]) -> Any:
    if not is_dataclass(hint):
        return values[name]
    hints = get_type_hints(hint, include_extras=True)
    return hint(**{field.name: _argument(f"{name}_{field.name}", hints[field.name], values) for field in fields(hint)})  # type: ignore[operator]
