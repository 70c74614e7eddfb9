"""Conditions of steps on the answers of earlier steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, Tag, model_serializer

Value = StrictBool | str

_FORMS = (
    '{"step": ID, "equals": V}, {"step": ID, "in": [..]}, {"step": ID, "exists": true}, '
    '{"all": [..]}, {"any": [..]} or {"not": ..}'
)


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_serializer(mode="wrap")
    def _by_alias(self, handler: Any) -> dict[str, Any]:
        """Serialize under the names of the JSON form; ``in`` and ``not`` are reserved words in Python."""
        return {name.rstrip("_"): value for name, value in handler(self).items()}


class Equals(_Form):
    """A condition that a label step answered this value, or that a multi-label step's answer contains it.

    Attributes:
        step: Id of the label step.
        equals: Truth value or name of a label.
    """

    step: str
    equals: Value


class In(_Form):
    """A condition that a label step answered one of several values.

    Attributes:
        step: Id of the label step.
        in_: Truth values or names of labels; ``in`` in JSON.
    """

    step: str
    in_: Annotated[tuple[Value, ...], Field(alias="in", min_length=1)]


class Exists(_Form):
    """A condition that a span step has at least one span.

    Attributes:
        step: Id of the span step.
        exists: Always True.
    """

    step: str
    exists: Literal[True]


class All(_Form):
    """The conjunction of conditions."""

    all: Annotated[tuple[Condition, ...], Field(min_length=1)]


class Any_(_Form):  # noqa: N801 (Any is typing's)
    """The disjunction of conditions."""

    any: Annotated[tuple[Condition, ...], Field(min_length=1)]


class Not(_Form):
    """The negation of a condition."""

    not_: Annotated[Condition, Field(alias="not")]


def _form(data: Any) -> str | None:
    if isinstance(data, _Form):
        return type(data).__name__
    forms = {"equals": "Equals", "in": "In", "exists": "Exists", "all": "All", "any": "Any_", "not": "Not"}
    matching = [name for key, name in forms.items() if isinstance(data, dict) and key in data]
    return matching[0] if len(matching) == 1 else None


Condition = Annotated[
    Annotated[Equals, Tag("Equals")]
    | Annotated[In, Tag("In")]
    | Annotated[Exists, Tag("Exists")]
    | Annotated[All, Tag("All")]
    | Annotated[Any_, Tag("Any_")]
    | Annotated[Not, Tag("Not")],
    Discriminator(
        _form, custom_error_type="condition", custom_error_message=f"is not a condition; write one of {_FORMS}"
    ),
]
"""One condition of ``where``: compare, exists, all, any, not."""

Atom = Equals | In | Exists

for _model in (All, Any_, Not):
    _model.model_rebuild()


def atoms(condition: Condition) -> Iterator[Atom]:
    """Yield the comparisons inside a condition, from left to right."""
    match condition:
        case All(all=parts) | Any_(any=parts):
            for part in parts:
                yield from atoms(part)
        case Not(not_=part):
            yield from atoms(part)
        case atom:
            yield atom


def depth(condition: Condition) -> int:
    """Return the nesting depth of a condition; that of a comparison is 1."""
    match condition:
        case All(all=parts) | Any_(any=parts):
            return 1 + max(depth(part) for part in parts)
        case Not(not_=part):
            return 1 + depth(part)
        case _:
            return 1
