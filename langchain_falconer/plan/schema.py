"""The plan: a typed pipeline of two primitives, as data."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import NotRequired, TypedDict

from langchain_falconer.errors import PlanError, PlanIssue
from langchain_falconer.plan.conditions import Atom, Condition, Exists, In, atoms, depth
from langchain_falconer.records import JsonObject

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

StepId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Instruction = Annotated[str, Field(min_length=1, max_length=4_000)]
MAX_LABELS = 1_000
MAX_STEPS = 100
MAX_DEPTH = 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Any) -> Any:
        """Drop defaults, and put id and op first."""
        data = handler(self)
        first = {key: data[key] for key in ("id", "op") if key in data}
        return first | {k: v for k, v in data.items() if v not in (None, False)}


class LabelOption(_Part):
    """A label of a ``get_label`` step.

    Attributes:
        name: Name of the label.
        description: Description for LLM and proxy.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Any) -> Any:
        return handler(self) if self.description is not None else self.name


class _Step(_Part):
    id: StepId
    instruction: Instruction
    where: Condition | None = None
    of: StepId | None = None

    @field_validator("instruction")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank; say what to ask of each text")
        return value

    @property
    def fingerprint(self) -> str:
        """Identity of the *question*, independent of the step's id and ``where`` (16 hex digits).

        Annotations, proxies and caches use it as their key.
        """
        question = self.model_dump(mode="json", by_alias=True, exclude={"id", "where", "of"})
        return _digest({**question, "of": self.of is not None})


class LabelStep(_Step):
    """A ``get_label`` step: yes/no without ``labels``, else one label, or any subset with ``multi_label``.

    Attributes:
        id: Name of the step: a letter, then at most 63 letters, digits or underscores.
        instruction: The question about each text.
        where: Condition on earlier steps under which the step runs; always by default.
        of: Id of a span step whose spans the step is about; by default the text as a whole.
        labels: 2 to 1,000 labels; none for yes/no.
        multi_label: Whether the answer is any subset of the labels, the empty set included.
    """

    op: Literal["get_label"] = "get_label"
    labels: Annotated[tuple[LabelOption, ...], Field(min_length=2, max_length=MAX_LABELS)] | None = None
    multi_label: bool = False

    @model_validator(mode="after")
    def _labels_are_consistent(self) -> LabelStep:
        if self.multi_label and self.labels is None:
            raise ValueError(f"step '{self.id}': multi_label needs labels; list them or drop multi_label")
        names = [option.name for option in self.labels or ()]
        if duplicates := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"step '{self.id}': label '{duplicates[0]}' is listed twice; keep one")
        return self

    @property
    def kind(self) -> Literal["yes_no", "choice", "multi"]:
        """Kind of the answer: a truth value, one label, or any subset of the labels."""
        if self.labels is None:
            return "yes_no"
        return "multi" if self.multi_label else "choice"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels; empty for yes/no."""
        return tuple(option.name for option in self.labels or ())

    def accepts(self, value: object) -> bool:
        """Return whether ``value`` is a possible answer of this step."""
        if self.labels is None:
            return isinstance(value, bool)
        if not self.multi_label:
            return isinstance(value, str) and value in self.names
        is_set = isinstance(value, list | tuple) and len(set(map(str, value))) == len(value)
        return is_set and set(value) <= set(self.names)  # type: ignore[call-overload]


class SpanStep(_Step):
    """A ``get_span`` step: every span that fits, as exact character offsets.

    Attributes:
        id: As of :class:`LabelStep`; so are ``where`` and ``of``.
        instruction: The description of the spans.
    """

    op: Literal["get_span"] = "get_span"


def _op(data: Any) -> str:
    return str(data.get("op") if isinstance(data, Mapping) else getattr(data, "op", None))


Step = Annotated[
    Annotated[LabelStep, Tag("get_label")] | Annotated[SpanStep, Tag("get_span")],
    Discriminator(_op, custom_error_type="op", custom_error_message='needs an "op" that is "get_label" or "get_span"'),
]


class OptionData(TypedDict):
    """A label with its description, as JSON data."""

    name: str
    description: str


class StepData(TypedDict):
    """A step as JSON data, without defaults."""

    id: str
    op: Literal["get_label", "get_span"]
    instruction: str
    labels: NotRequired[list[str | OptionData]]
    multi_label: NotRequired[bool]
    where: NotRequired[JsonObject]
    of: NotRequired[str]


class PlanData(TypedDict):
    """A plan as JSON data, without defaults."""

    instruction: str
    steps: list[StepData]


class Plan(_Part):
    """A pipeline of ``get_label`` and ``get_span`` steps over one text; the steps form a DAG.

    :meth:`parse` raises :class:`PlanError`, direct construction pydantic's ``ValidationError``.

    Attributes:
        instruction: The instruction that the plan carries out.
        steps: 1 to 100 steps, in any order.
    """

    instruction: Instruction
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_STEPS)]

    @classmethod
    def parse(cls, data: str | bytes | Mapping[str, object] | Plan) -> Plan:
        """Read a plan from JSON text or a mapping.

        Raises:
            PlanError: The plan is not valid; ``issues`` lists every fault with its step and field.
        """
        if isinstance(data, Plan):
            return data
        try:
            if isinstance(data, str | bytes):
                data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"the plan is not JSON: {error}") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            issues = _issues(error, data)
            more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
            raise PlanError(f"{issues[0].message}{more}", issues) from error
        except RecursionError as error:
            raise PlanError("the plan nests conditions too deeply; flatten its where") from error

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Plan:
        """Return a validated copy, so that nothing derived from the old steps remains."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}  # without cached properties
        return type(self).model_validate({**fields, **(update or {})})

    @model_validator(mode="after")
    def _is_consistent(self) -> Plan:
        counts = Counter(step.id for step in self.steps)
        issues = [
            PlanIssue(f"two steps are called '{name}'; give each its own id", name, "id")
            for name, n in counts.items()
            if n > 1
        ]
        if issues := [*issues, *self._reference_issues()]:
            raise _InconsistencyError(issues)
        try:
            self._order()
        except CycleError as error:
            cycle = " → ".join(reversed(error.args[1]))
            message = f"steps wait for each other ({cycle}); remove one of these where or of"
            raise _InconsistencyError([PlanIssue(message, error.args[1][0], "where")]) from error
        return self

    def _reference_issues(self) -> Iterator[PlanIssue]:
        by_id = {step.id: step for step in self.steps}
        for step in self.steps:
            field, names = ("of" if step.of else "where"), self._references(step)
            unknown = [name for name in names if name not in by_id]
            for name in unknown:
                hint = _suggest(name, list(by_id))
                yield PlanIssue(f"step '{step.id}' refers to step '{name}', which the plan lacks{hint}", step.id, field)
            if step.id in names:
                yield PlanIssue(f"step '{step.id}' refers to itself; let it refer to an earlier step", step.id, field)
            elif unknown:
                continue
            elif step.of and not isinstance(by_id[step.of], SpanStep):
                message = f"step '{step.id}' is of '{step.of}', which is not a get_span step; name one that finds spans"
                yield PlanIssue(message, step.id, "of")
            elif step.where and depth(step.where) > MAX_DEPTH:
                message = f"step '{step.id}': its where nests more than {MAX_DEPTH} conditions; flatten it"
                yield PlanIssue(message, step.id, "where")
            else:
                faults = (_atom_fault(step, atom, by_id[atom.step]) for atom in _atoms(step))
                yield from (PlanIssue(f"step '{step.id}': {fault}", step.id, "where") for fault in faults if fault)

    @staticmethod
    def _references(step: LabelStep | SpanStep) -> list[str]:
        return [*(atom.step for atom in _atoms(step)), *([step.of] if step.of else [])]

    def _order(self) -> list[str]:
        sorter = TopologicalSorter({step.id: self._references(step) for step in self.steps})
        return list(sorter.static_order())

    @cached_property
    def ordered(self) -> tuple[LabelStep | SpanStep, ...]:
        """The steps, each after those that it depends on."""
        return tuple(self[i] for i in self._order())

    @cached_property
    def top_level(self) -> tuple[LabelStep | SpanStep, ...]:
        """The ordered steps about the text as a whole."""
        return tuple(s for s in self.ordered if s.of is None)

    def children(self, step_id: str) -> tuple[LabelStep | SpanStep, ...]:
        """Return the ordered steps about each span of ``step_id``."""
        return tuple(s for s in self.ordered if s.of == step_id)

    @property
    def outputs(self) -> tuple[LabelStep | SpanStep, ...]:
        """The steps that no other step refers to: the results of the plan."""
        referenced = {name for step in self.steps for name in self._references(step)}
        return tuple(step for step in self.steps if step.id not in referenced)

    @property
    def is_filter(self) -> bool:
        """Whether a text can fail to match: no output step always has an answer, as an unconditional choice has."""
        return not any(
            isinstance(step, LabelStep) and step.kind == "choice" and step.where is None and step.of is None
            for step in self.outputs
        )

    def __getitem__(self, step_id: str) -> LabelStep | SpanStep:
        return {step.id: step for step in self.steps}[step_id]

    def to_dict(self) -> PlanData:
        """Return the plan as JSON data, without defaults."""
        return cast("PlanData", self.model_dump(mode="json", by_alias=True))

    def to_json(self) -> str:
        """Return the plan as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """Identity of the plan, independent of key order and explicit defaults (16 hex digits)."""
        return _digest(self.to_dict())


def _digest(data: Any) -> str:
    canonical = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _suggest(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; it has {', '.join(map(repr, candidates))}"


class _InconsistencyError(ValueError):
    """All faults of steps that are valid by themselves."""

    def __init__(self, issues: list[PlanIssue]) -> None:
        super().__init__(issues[0].message)
        self.issues = issues


def _atoms(step: LabelStep | SpanStep) -> list[Atom]:
    return list(atoms(step.where)) if step.where else []


def _atom_fault(step: LabelStep | SpanStep, atom: Atom, tested: LabelStep | SpanStep) -> str | None:
    """Return the fault of a comparison with the answer of another step; None if there is none."""
    if step.of and tested.of not in (None, step.of):
        return (
            f"its where names '{tested.id}', which is asked about spans of '{tested.of}', not of '{step.of}'; "
            "let it name a step about the text or about the same spans"
        )
    if isinstance(atom, Exists):
        if isinstance(tested, SpanStep):
            return None
        return f"exists is for get_span steps; compare '{tested.id}' with equals or in"
    if isinstance(tested, SpanStep):
        return f"'{tested.id}' finds spans; test it with \"exists\": true"
    values: tuple[bool | str, ...] = atom.in_ if isinstance(atom, In) else (atom.equals,)
    possible: tuple[bool | str, ...] = tested.names or (True, False)
    for value in values:
        if not any(value is p if isinstance(p, bool) else value == p for p in possible):
            answers = " or ".join(json.dumps(p) for p in possible[:8])
            return f"'{tested.id}' never answers {json.dumps(value)}; it answers {answers}"
    return None


def _issues(error: ValidationError, data: Any) -> list[PlanIssue]:
    """Return all faults of pydantic, or those that an :class:`_InconsistencyError` lists."""
    issues: list[PlanIssue] = []
    for fault in error.errors(include_url=False):
        if issues and fault["type"] == "too_short":
            continue  # pydantic counts only the valid steps
        cause = fault.get("ctx", {}).get("error")
        issues += cause.issues if isinstance(cause, _InconsistencyError) else [_issue(fault, data)]
    return issues


def _issue(fault: ErrorDetails, data: Any) -> PlanIssue:
    """Return a fault of pydantic with its step and field."""
    loc = [part for part in fault["loc"] if part not in ("get_label", "get_span")]
    step: str | None = None
    where = ""
    if len(loc) >= 2 and loc[0] == "steps" and isinstance(loc[1], int):
        entry = data["steps"][loc[1]]
        name = entry.get("id") if isinstance(entry, Mapping) else None
        step = name if isinstance(name, str) else str(loc[1] + 1)
        where, loc = (f"step '{name}': " if isinstance(name, str) else f"step {step}: "), loc[2:]
    field = ".".join(str(part) for part in loc if not (isinstance(part, str) and part[:1].isupper()))
    return PlanIssue(_sentence(fault, loc, where, field), step, field.partition(".")[0] or None)


def _sentence(fault: ErrorDetails, loc: list[Any], where: str, field: str) -> str:
    """Describe a fault in one sentence that names step and field."""
    if fault["type"] == "recursion_loop" or len(loc) > MAX_DEPTH:
        return f"{where}its where nests more than {MAX_DEPTH} conditions; flatten it"
    if fault["type"] == "extra_forbidden":
        step_fields = ["id", "op", "instruction", "labels", "multi_label", "where", "of"]
        hint = _suggest(str(loc[-1]), step_fields if where else ["instruction", "steps"])
        return f"{where}unknown field '{field}'{hint}"
    if fault["type"] == "missing":
        return f"{where}the field '{field}' is missing"
    message = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
    if message.startswith("step '"):
        return message
    if not loc and not where:
        return f'a plan is a JSON object with "instruction" and "steps": {message[:1].lower()}{message[1:]}'
    return f"{where}{field + ': ' if field else ''}{message[:1].lower()}{message[1:]}"
