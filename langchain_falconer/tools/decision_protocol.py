"""The wire format of the decision server: typed questions about a state, answered with probabilities.

Questions and answers of the types ``noul``, ``choice`` and ``score`` are those of ``POST /v1/systemone``, which
TypeSafe introduced and local servers copy; ``multi`` and ``span`` are Falconer's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from langchain_falconer.errors import FalconerError, first_fault
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import JsonObject, LabelData, SpanData

MAX_TEXTS = 1_000
"""Texts of one request."""
_MAX_QUESTIONS = 100
_MAX_OPTIONS = 255
_MAX_LEVELS = 10
_DIGITS = 6
_DEFAULT_INSTRUCTIONS = "Which of these fits best?"


class RequestError(FalconerError):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status.
        param: The field that is at fault; ``None`` for the whole.
    """

    def __init__(self, message: str, *, status: int = 422, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class NoulQuestion(_Wire):
    """A yes/no question, or a statement; answered with the probability of yes."""

    type: Literal["noul"]
    instructions: str | None = None
    criteria: dict[Literal["true", "false"], str] | None = None


class ChoiceQuestion(_Wire):
    """A question with one answer of several; ``criteria`` are the options, with a description or null."""

    type: Literal["choice"]
    instructions: str | None = None
    criteria: dict[str, str | None] | None = Field(default=None, min_length=2, max_length=_MAX_OPTIONS)


class MultiQuestion(_Wire):
    """A question with any subset of the options as answer."""

    type: Literal["multi"]
    instructions: str | None = None
    criteria: dict[str, str | None] | None = Field(default=None, min_length=2, max_length=_MAX_OPTIONS)


class ScoreQuestion(_Wire):
    """A question with ordered levels, the lowest first."""

    type: Literal["score"]
    instructions: str | None = None
    criteria: list[str] = Field(min_length=2, max_length=_MAX_LEVELS)


class SpanQuestion(_Wire):
    """What to extract: every piece that fits."""

    type: Literal["span"]
    instructions: str | None = None


TypedQuestion = Annotated[
    NoulQuestion | ChoiceQuestion | MultiQuestion | ScoreQuestion | SpanQuestion, Field(discriminator="type")
]


class DecisionRequest(_Wire):
    """A state (a text, or JSON data) and typed questions about it.

    A question without instructions and criteria, whose name is that of a step of the proxy's plan, is that step.
    """

    state: str | list[JsonValue] | dict[str, JsonValue]
    questions: dict[str, TypedQuestion] = Field(min_length=1, max_length=_MAX_QUESTIONS)
    model: str | None = None


class ClassificationRequest(_Wire):
    """Texts for the proxy's whole plan; with ``stream`` each result is a line of JSON."""

    input: str | Annotated[list[str], Field(max_length=MAX_TEXTS)]
    stream: bool = False
    model: str | None = None


class Usage(_Wire):
    """Tokens that were read; none are written."""

    input_tokens: int
    output_tokens: int = 0


class DecisionResponse(_Wire):
    """The answers, by the names of the questions."""

    model: str
    answers: dict[str, JsonObject]
    usage: Usage


class Classification(_Wire):
    """The answers of the plan about one text; steps whose ``where`` is false are absent."""

    object: Literal["classification"] = "classification"
    index: int
    labels: Mapping[str, LabelData]
    spans: Mapping[str, list[SpanData]]
    match: bool


class ClassificationResponse(_Wire):
    """The answers about all texts, in their order."""

    object: Literal["list"] = "list"
    model: str
    data: list[Classification]


class ErrorDetail(_Wire):
    """Why a request was refused, in one sentence."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = None


class ErrorResponse(_Wire):
    """A refused request."""

    error: ErrorDetail


def text_of(state: JsonValue) -> str:
    """Return a state as the text that the encoder reads: strings as they are, of JSON data a line for each entry."""
    if isinstance(state, str):
        return state
    if isinstance(state, list):
        return "\n".join(map(text_of, state))
    if isinstance(state, dict):
        if len(state) == 1:
            return text_of(next(iter(state.values())))
        return "\n".join(f"{name}: {text_of(value)}" for name, value in state.items())
    return json.dumps(state)


def steps_of(request: DecisionRequest, plan: Plan) -> tuple[LabelStep | SpanStep, ...]:
    """Return the questions of a request as steps, in their order, whose ids are numbered.

    Raises:
        RequestError: A question cannot be asked.
    """
    return tuple(
        _step_of(name, question, plan).model_copy(update={"id": f"q{i}", "where": None})
        for i, (name, question) in enumerate(request.questions.items())
    )


def _step_of(name: str, question: TypedQuestion, plan: Plan) -> LabelStep | SpanStep:
    own = next((step for step in plan.top_level if step.id == name), None)
    if own and question.instructions is None and getattr(question, "criteria", None) is None:
        kind = (
            {"yes_no": "noul", "choice": "choice", "multi": "multi"}[own.kind] if isinstance(own, LabelStep) else "span"
        )
        if question.type != kind:
            raise RequestError(f"step '{name}' of the plan has the type '{kind}'", param=f"questions.{name}.type")
        return own
    instructions = question.instructions
    if instructions is None:
        if not isinstance(question, ChoiceQuestion | MultiQuestion | ScoreQuestion) or not question.criteria:
            raise RequestError(
                f"question '{name}' has no instructions; say what to ask, or name it as a step of the plan",
                param=f"questions.{name}.instructions",
            )
        instructions = _DEFAULT_INSTRUCTIONS
    try:
        if isinstance(question, SpanQuestion):
            return SpanStep(id="q", instruction=instructions)
        if isinstance(question, NoulQuestion):
            meanings = {"true": "yes", "false": "no"}
            notes = "; ".join(f"{meanings[key]}: {text}" for key, text in (question.criteria or {}).items())
            return LabelStep(id="q", instruction=f"{instructions} ({notes})" if notes else instructions)
        criteria = question.criteria
        if not criteria:
            raise RequestError(
                f"question '{name}' has no criteria; list its options", param=f"questions.{name}.criteria"
            )
        options = (
            [{"name": option, "description": description} for option, description in criteria.items()]
            if isinstance(criteria, dict)
            else criteria
        )
        data = {"id": "q", "instruction": instructions, "labels": options, "multi_label": question.type == "multi"}
        return LabelStep.model_validate(data)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise RequestError(f"question '{name}' cannot be asked: {field} {reason}", param=f"questions.{name}") from error


def label_answer(question: TypedQuestion, step: LabelStep, probabilities: np.ndarray) -> JsonObject:
    """Return the answer to a label question.

    Args:
        question: The question.
        step: Its step.
        probabilities: P(yes), or one probability an option.
    """
    rounded = [round(float(p), _DIGITS) for p in probabilities]
    if question.type == "noul":
        return {"type": "noul", "noul": rounded[0]}
    if question.type == "score":
        return {
            "type": "score",
            "score": round(float(np.arange(len(probabilities)) @ probabilities), _DIGITS),
            "legend": {str(i): level for i, level in enumerate(step.names)},
            "probabilities": {str(i): p for i, p in enumerate(rounded)},
            "confidence": round(score_confidence(probabilities), _DIGITS),
        }
    by_name: JsonObject = dict(zip(step.names, rounded, strict=True))
    if question.type == "multi":
        chosen: list[JsonValue] = [name for name, p in zip(step.names, probabilities, strict=True) if p >= 0.5]
        return {"type": "multi", "choices": chosen, "probabilities": by_name}
    return {
        "type": "choice",
        "choice": step.names[int(np.argmax(probabilities))],
        "probabilities": by_name,
        "confidence": round(choice_confidence(probabilities), _DIGITS),
    }


def span_answer(text: str, spans: Sequence[tuple[int, int, float]]) -> JsonObject:
    """Return the answer to a span question: exact offsets in the text of the state."""
    found: list[JsonValue] = [
        {"start": start, "end": end, "text": text[start:end], "score": round(score, _DIGITS)}
        for start, end, score in spans
    ]
    return {"type": "span", "spans": found}


def choice_confidence(probabilities: np.ndarray) -> float:
    """Return how far the highest of several probabilities lies above an even split, in [0, 1]."""
    n = len(probabilities)
    return float(np.clip((n * probabilities.max() - 1) / (n - 1), 0, 1))


def score_confidence(probabilities: np.ndarray) -> float:
    """Return how concentrated probabilities of ordered levels are around the likeliest, in [0, 1].

    That is 1 less the mean distance from it, as a share of that of an even split from the middle.
    """
    levels = np.arange(len(probabilities))
    spread = float(probabilities @ abs(levels - probabilities.argmax()))
    even = float(abs(levels - levels.mean()).mean())
    return max(0.0, 1.0 - spread / even)
