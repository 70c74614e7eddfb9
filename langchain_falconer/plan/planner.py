"""The planner: an LLM turns an instruction into a flat draft, which is compiled to a plan and validated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import PlanError, PlannerError, RefusedError
from langchain_falconer.plan.prompts import (
    EXAMPLES,
    LEFT_OUT,
    REWRITE_EXAMPLE,
    REWRITE_SCHEMA,
    REWRITE_SYSTEM,
    SCHEMA,
    SYSTEM,
    TEXT,
)
from langchain_falconer.plan.schema import LabelStep, Plan, SpanStep

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM, Meter

_MAX_REWRITTEN = 600
"""Characters of a rewritten question: the annotator reads it with every text."""
_MAX_SHOWN = 500
"""Characters of a text, or of an answer about it, that the planner is shown to word a question again."""
_MAX_SEEN = 300
"""Characters of a text that it sees before it plans."""
_MAX_COLUMNS, _MAX_COLUMN = 20, 60
"""Columns that the planner is shown, and characters of their names."""
_QUOTED_WORDS = 6
"""Words in a row that are a quotation of a text."""
_YES_NO = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Clarification:
    """What an author said about a plan.

    Attributes:
        question: What the planner had asked; empty where it had asked nothing.
        reply: The author's words.
    """

    question: str
    reply: str


@dataclass(frozen=True, slots=True)
class Background:
    """What a planner sees beside the instruction, all of it quoted data.

    Attributes:
        texts: A few texts of the corpus.
        columns: Names of its other columns.
        clarifications: What the author said about earlier plans.
    """

    texts: tuple[str, ...] = field(default=(), repr=False)
    columns: tuple[str, ...] = ()
    clarifications: tuple[Clarification, ...] = ()

    def quotes(self, words: str, instruction: str) -> bool:
        """Return whether words are copied from a text, and not from the instruction or the author's replies."""
        own = " ".join([instruction, *(c.reply for c in self.clarifications)])
        return bool((_runs(words) - _runs(own)) & {run for text in self.texts for run in _runs(text)})


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """A plan, and what its author should be asked before it is run.

    Attributes:
        plan: The plan.
        questions: What is ambiguous in the instruction, and what was left out of the plan and why.
    """

    plan: Plan
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A text about which two answers to a question differ.

    Attributes:
        text: The text.
        first: One answer, in words.
        second: The other.
    """

    text: str
    first: str
    second: str


class Planner:
    """A planner, for small LLMs too.

    The LLM fills in a flat draft (closed objects, no optional fields), which is compiled to a :class:`Plan` and
    validated; an invalid draft is returned to the LLM once, with the reason.

    Args:
        llm: LLM that writes the draft.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    def plan(
        self,
        instruction: str,
        meter: Meter | None = None,
        background: Background = Background(),
    ) -> PlanDraft:
        """Write the plan for an instruction, which the LLM receives as quoted data.

        Args:
            instruction: Task for every text, in any words.
            meter: Account of every attempt.
            background: What the LLM sees beside it. No run of six words of its texts gets into the plan.

        Raises:
            RefusedError: Labels and spans of single texts cannot answer it, or it does not say what to find.
            PlannerError: The instruction is blank, or the LLM gave no usable plan, even after one repair round.
            LLMError: The LLM did not answer.
            BudgetError: The meter refused an attempt.
        """
        instruction = instruction.strip()
        if not instruction:
            raise PlannerError("the instruction is blank; write what to find in the texts")
        if self._llm.is_decider:
            raise PlannerError(
                f"{self._llm.name} answers typed questions and writes no plan; pass a plan (--plan FILE)"
            )
        messages = [("system", SYSTEM)]
        for example, draft in EXAMPLES:
            messages += [("user", _quoted(example)), ("assistant", json.dumps(draft, ensure_ascii=False))]
        messages.append(("user", _request(instruction, background)))
        fault = PlanError("there is no plan")
        for _ in ("first draft", "repaired draft"):
            reply = self._llm.complete(messages, SCHEMA, meter)
            try:
                if reply.data is None:
                    raise PlanError(reply.error or "the reply holds no plan")
                return _read(reply.data, instruction, background)
            except RefusedError:
                raise
            except PlanError as error:
                fault = error
                request = f"That plan cannot be used: {error}. Write the whole plan again with this corrected."
                messages += [("assistant", reply.text), ("user", request)]
        raise PlannerError(
            f"{self._llm.name} gave no usable plan, even after one repair round ({fault}); "
            "put the instruction in simpler words, name a larger model, or write the plan yourself",
            fault.issues,
        ) from fault

    def rewrite(
        self, step: LabelStep | SpanStep, disagreements: Sequence[Disagreement], meter: Meter | None = None
    ) -> str | None:
        """Write a step's question again, so that it says what counts and what does not.

        The LLM receives the texts as quoted data. It may change nothing but the question.

        Args:
            step: The step.
            disagreements: Texts about which two annotators differed.
            meter: Account of every attempt.

        Returns:
            The new question; None where the LLM wrote none that can be used.

        Raises:
            LLMError: The LLM did not answer.
            BudgetError: The meter refused an attempt.
        """
        messages = [("system", REWRITE_SYSTEM)]
        for request, reply in (REWRITE_EXAMPLE,):
            messages += [("user", json.dumps(request, ensure_ascii=False)), ("assistant", json.dumps(reply))]
        shown = [
            {"text": d.text[:_MAX_SHOWN], "first": d.first[:_MAX_SHOWN], "second": d.second[:_MAX_SHOWN]}
            for d in disagreements
        ]
        task: dict[str, object] = {"task": step.instruction, "disagreements": shown}
        if isinstance(step, LabelStep) and step.names:
            task["labels"] = list(step.names)
        messages.append(("user", json.dumps(task, ensure_ascii=False)))
        data = self._llm.complete(messages, REWRITE_SCHEMA, meter).data
        question = str(data["task"]).strip() if data else ""
        # A question that lost its subject or quotes the texts at length is another question.
        is_usable = 0 < len(question) <= _MAX_REWRITTEN and _words(step.instruction) & _words(question)
        return question if is_usable and question != step.instruction.strip() else None


def _words(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"\w{4,}", text.casefold())}


def _quoted(instruction: str) -> str:
    return f"Instruction: {json.dumps(instruction.strip(), ensure_ascii=False)}"


def _request(instruction: str, background: Background) -> str:
    """Return the instruction and what is seen beside it, each as JSON on a line of its own."""
    beside = {
        "Columns": [name[:_MAX_COLUMN] for name in background.columns[:_MAX_COLUMNS]],
        "Texts": [text[:_MAX_SEEN] for text in background.texts],
        "Replies of the author": [{"question": c.question, "reply": c.reply} for c in background.clarifications],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in beside.items() if value]
    return "\n".join([*lines, _quoted(instruction)])


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + _QUOTED_WORDS]) for i in range(len(words) - _QUOTED_WORDS + 1)}


def _read(draft: Mapping[str, Any], instruction: str, background: Background) -> PlanDraft:
    """Return the plan of a draft; refuse what it found to be impossible."""
    said = {name: str(draft[name]).strip() for name in ("ask", "offer")}
    said = {name: "" if background.quotes(words, instruction) else words for name, words in said.items()}
    left_out = [
        (w["what"], LEFT_OUT[w["source"]])
        for w in draft["wanted"]
        if w["source"] != TEXT and not background.quotes(w["what"], instruction)
    ]
    steps = _compile(draft)
    # A draft that contradicts itself, with steps for what no text says, is no refusal: its author is asked.
    if not steps and any(w["source"] != TEXT for w in draft["wanted"]):
        reasons = [f"{what}: {why}" for what, why in left_out] or ["the texts do not say it"]
        raise RefusedError("; ".join(reasons), said["offer"])
    if not steps and said["ask"]:
        raise RefusedError(f"it is unclear: {said['ask']}", said["offer"])
    plan = Plan.parse({"instruction": instruction, "steps": steps})
    for step in plan.steps:
        labels = (step.labels or ()) if isinstance(step, LabelStep) else ()
        words = " ".join([step.instruction, *(f"{label.name} {label.description}" for label in labels)])
        if background.quotes(words, instruction):
            raise PlanError(f"step '{step.id}' quotes a text; ask in the words of the instruction")
    questions = [said["ask"]] if said["ask"] else []
    return PlanDraft(plan, (*questions, *(f"{what}: {why}. Go on without it?" for what, why in left_out)))


def _compile(draft: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compile the draft's steps to those of a plan; small errors with a clear meaning are corrected."""
    restrictions = [f for f in draft["filters"] if f["only"].strip().casefold() not in ("", "none", "all")]
    filters = [{"id": _id(f["id"]), "op": "get_label", "instruction": _filter_question(f)} for f in restrictions]
    filter_conditions = [{"step": _id(f["id"]), "equals": f["keep_if"] == "true"} for f in restrictions]
    questions = {f["id"]: f for f in filters} | {_id(step["id"]): _question(step) for step in draft["steps"]}
    return filters + [_step(step, filter_conditions, questions) for step in draft["steps"]]


def _filter_question(draft: Mapping[str, Any]) -> str:
    """Return the filter's question; one that does not mention the filter's subject is replaced by its own words."""
    question, only = str(draft["question"]).strip(), str(draft["only"]).strip()
    if draft["keep_if"] == "false":
        only = re.sub(r"^(not|no|non|without|except)\b[\s-]*", "", only, flags=re.IGNORECASE)
    stems = {word[:4] for word in re.findall(r"\w{3,}", only.casefold())}
    if stems and not stems & {word[:4] for word in re.findall(r"\w{3,}", question.casefold())}:
        return f"Does '{only}' describe this text?"
    return question


def _step(
    draft: Mapping[str, Any], filter_conditions: list[dict[str, Any]], questions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    step = {"id": _id(draft["id"]), "instruction": draft["instruction"].strip(), **_question(draft)}
    where = _where(draft, questions)
    if parent := _id(draft["of"]):
        if questions.get(parent, {}).get("op") != "get_span":
            raise PlanError(f"step '{step['id']}': of is '{parent}', which is no find_spans step; write \"\" there")
        step["of"] = parent  # its spans come from texts that passed the filters already
    else:
        where = [*filter_conditions, *(condition for condition in where if condition not in filter_conditions)]
    if where:
        step["where"] = where[0] if len(where) == 1 else {"all": where}
    return step


def _id(name: str) -> str:
    """Return a name as a step id: ``"2nd price!"`` becomes ``step_2nd_price``."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60]
    return f"step_{name}" if name[:1].isdigit() else name


def _question(draft: Mapping[str, Any]) -> dict[str, Any]:
    """Return op and labels of a step. Labels that only mean yes or no, or a single label, give a yes/no step."""
    options = {option["name"].strip(): option["description"].strip() for option in draft["labels"]}
    names = [name for name in options if name]
    is_choice = len(names) > 1 and not {name.casefold() for name in names} <= set(_YES_NO)
    if draft["ask"] == "find_spans":
        if is_choice:
            raise PlanError(f"step '{draft['id']}': find_spans takes no labels; to choose among them ask choose_one")
        return {"op": "get_span"}
    if not is_choice:
        return {"op": "get_label"}
    if draft["ask"] == "yes_no":
        raise PlanError(
            f"step '{draft['id']}': yes_no takes no labels; to choose among them ask choose_one or choose_any"
        )
    labels = [{"name": name, "description": options[name]} if options[name] else name for name in names]
    return {"op": "get_label", "labels": labels, "multi_label": draft["ask"] == "choose_any"}


def _where(draft: Mapping[str, Any], questions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the conditions of a step, all of which must hold."""
    # A step about each span runs only where there is a span: a condition on that adds nothing.
    tests = [test for test in draft["where"] if _id(test["step"]) != _id(draft["of"])]
    conditions = [_condition(test, questions.get(_id(test["step"]), {})) for test in tests]
    return [{"any": conditions}] if draft["where_join"] == "any" and len(conditions) > 1 else conditions


def _condition(test: Mapping[str, Any], question: Mapping[str, Any]) -> dict[str, Any]:
    step, value, negated = _id(test["step"]), test["value"].strip(), test["test"] == "is_not"
    if question.get("op") == "get_span":
        negated ^= value.casefold() in ("not found", "none", "false", "no", "")
        condition: dict[str, Any] = {"step": step, "exists": True}
    elif "labels" in question:
        names = [label if isinstance(label, str) else label["name"] for label in question["labels"]]
        condition = {"step": step, "equals": next((n for n in names if n.casefold() == value.casefold()), value)}
    else:
        # Small models name the yes/no step's subject instead of "true".
        return {"step": step, "equals": _YES_NO.get(value.casefold(), True) != negated}
    return {"not": condition} if negated else condition
