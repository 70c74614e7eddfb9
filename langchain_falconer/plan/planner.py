"""The planner: an LLM turns an instruction into a flat draft, which is compiled to a plan and validated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import PlanError, PlannerError
from langchain_falconer.plan.prompts import EXAMPLES, REWRITE_EXAMPLE, REWRITE_SCHEMA, REWRITE_SYSTEM, SCHEMA, SYSTEM
from langchain_falconer.plan.schema import LabelStep, Plan, SpanStep

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM, Meter

_MAX_REWRITTEN = 600
"""Characters of a rewritten question: the annotator reads it with every text."""
_MAX_SHOWN = 500
"""Characters of a text that the planner is shown."""
_YES_NO = {"true": True, "yes": True, "false": False, "no": False}


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

    def plan(self, instruction: str, meter: Meter | None = None) -> Plan:
        """Write the plan for an instruction, which the LLM receives as quoted data.

        Args:
            instruction: Task for every text, in any words.
            meter: Account of every attempt.

        Raises:
            PlannerError: The instruction is blank, or the LLM gave no usable plan, even after one repair round.
            LLMError: The LLM did not answer.
            BudgetError: The meter refused an attempt.
        """
        if not instruction.strip():
            raise PlannerError("the instruction is blank; write what to find in the texts")
        if self._llm.is_decider:
            raise PlannerError(
                f"{self._llm.name} answers typed questions and writes no plan; pass a plan (--plan FILE)"
            )
        messages = [("system", SYSTEM)]
        for example, draft in EXAMPLES:
            messages += [("user", _quoted(example)), ("assistant", json.dumps(draft, ensure_ascii=False))]
        messages.append(("user", _quoted(instruction)))
        fault = PlanError("there is no plan")
        for _ in ("first draft", "repaired draft"):
            reply = self._llm.complete(messages, SCHEMA, meter)
            try:
                if reply.data is None:
                    raise PlanError(reply.error or "the reply holds no plan")
                return Plan.parse({"instruction": instruction.strip(), "steps": _compile(reply.data)})
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
