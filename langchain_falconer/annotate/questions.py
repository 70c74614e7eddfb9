"""One question to the LLM: a step about several texts at once, with its prompt, its schema and its parser."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_falconer.annotate.coercion import UnreadableError, coerce_label, coerce_quotes
from langchain_falconer.annotate.grounding import ground
from langchain_falconer.annotate.store import StoredAnswer
from langchain_falconer.annotate.view import AnnotationTarget
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.prompts import DEFAULT_PROMPTS, Prompts

_NUMBERED = re.compile(r"\s*(?:t|text|item)?[\s_-]*(\d{1,4})\s*", re.IGNORECASE)
"""Keys of targets as LLMs vary them: T1, text_1, 1."""
_CONTEXT = 40
"""Characters shown on either side of a span whose words occur more than once in its text."""


@dataclass(frozen=True, slots=True)
class RejectedReply:
    """A reply without a usable answer about one target.

    Attributes:
        reason: The fault, which the LLM reads when it is asked again.
        final: Whether asking again cannot help.
    """

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A step asked about targets; the first has the key ``t1`` in the prompt and the reply, the second ``t2``, ..."""

    step: LabelStep | SpanStep
    targets: tuple[AnnotationTarget, ...]
    prompts: Prompts = DEFAULT_PROMPTS

    @property
    def keys(self) -> list[str]:
        """Keys of the targets in prompt and reply."""
        return [f"t{i}" for i in range(1, len(self.targets) + 1)]

    def messages(self, feedback: str | None = None) -> list[tuple[str, str]]:
        """Return system prompt, examples, task and texts as ``(role, text)`` pairs.

        All messages before the texts depend on the step alone, so that servers can cache them. Texts are JSON strings,
        which no character in them can close.

        Args:
            feedback: Fault of an earlier reply.
        """
        prompts = self.prompts
        items = prompts.spans if self.step.of else prompts.texts
        messages = [("system", prompts.system.replace("{items}", items).replace("{how}", self._how()))]
        if isinstance(self.step, SpanStep) and not self.step.of:
            for example in prompts.examples:
                answer = json.dumps({"t1": example.quotes}, ensure_ascii=False)
                messages += [("user", _request(example.task, {"t1": example.text})), ("assistant", answer)]
        data = {key: self._shown(target) for key, target in zip(self.keys, self.targets, strict=True)}
        request = _request(self._task(), data)
        if feedback:
            request += f"\n\nAn earlier reply could not be used ({feedback}). Reply again, exactly as asked."
        return [*messages, ("user", request)]

    def _shown(self, target: AnnotationTarget) -> Any:
        if target.at is None:
            return target.text
        start, end = target.at
        span = target.text[start:end]
        shown = {
            "text": target.text,
            "span": span,
            "question": self.step.instruction.strip().replace("{span}", f'"{span}"'),
        }
        if target.text.count(span) > 1:
            before, after = target.text[max(0, start - _CONTEXT) : start], target.text[end : end + _CONTEXT]
            shown["span_in_context"] = f"{before}⟦{span}⟧{after}"
        return shown

    def _how(self) -> str:
        if isinstance(self.step, SpanStep):
            return self.prompts.find_spans
        kinds = {"yes_no": self.prompts.yes_no, "choice": self.prompts.choose_one, "multi": self.prompts.choose_any}
        return kinds[self.step.kind]

    def _task(self) -> str:
        options = self.step.labels or () if isinstance(self.step, LabelStep) else ()
        lines = [f"- {o.name}: {o.description}" if o.description else f"- {o.name}" for o in options]
        if self.prompts.reversed_labels:
            lines.reverse()
        return "\n".join([self.step.instruction.strip(), *(["Labels:"] if lines else []), *lines])

    def schema(self) -> dict[str, object]:
        """Return a closed JSON schema with one required property a target; it depends on no text."""
        return {
            "title": "Answers",
            "description": "One answer for each text.",
            "type": "object",
            "properties": {key: _answer_schema(self.step) for key in self.keys},
            "required": self.keys,
            "additionalProperties": False,
        }

    def read(self, data: Mapping[str, Any]) -> list[StoredAnswer | RejectedReply]:
        """Read the answers of a reply, in the order of the targets.

        A reply that does not fit the schema is read target by target: what has exactly one reading is an answer.
        """
        values = self._by_key(data)
        return [
            self._read_one(i, values[key]) if key in values else RejectedReply(f"the reply holds no {key}")
            for i, key in enumerate(self.keys)
        ]

    def accepts(self, data: Mapping[str, Any]) -> bool:
        """Return whether a reply that does not fit the schema answers about a target at least."""
        return any(isinstance(outcome, StoredAnswer) for outcome in self.read(data))

    def _by_key(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values by the keys of the targets; empty where the reply answers about other targets too."""
        values = {key: data[key] for key in self.keys if key in data}
        for name, value in data.items():
            if name not in values and (number := _NUMBERED.fullmatch(name)):
                if (key := f"t{int(number[1])}") not in self.keys or key in values:
                    return {}
                values[key] = value
        if not values and len(self.keys) == 1:
            return {self.keys[0]: dict(data)}  # an answer about one text needs no key
        return values

    def _read_one(self, index: int, value: Any) -> StoredAnswer | RejectedReply:
        try:
            if isinstance(self.step, LabelStep):
                return self._read_label(self.step, value)
            quotes = coerce_quotes(self.targets[index].text, value)
        except UnreadableError as error:
            return RejectedReply(str(error))
        grounding = ground(self.targets[index].text, quotes)
        others = [target.text for i, target in enumerate(self.targets) if i != index]
        if any(quote.strip() and any(quote.strip() in text for text in others) for quote in grounding.rejected):
            return RejectedReply("the reply quotes another text")
        spans = [[span.start, span.end] for span in grounding.spans]
        return StoredAnswer(spans, len(grounding.rejected), is_coerced=quotes != value, quotes=grounding.rejected)

    @staticmethod
    def _read_label(step: LabelStep, value: Any) -> StoredAnswer:
        label = coerce_label(step, value)
        if step.kind != "multi":
            return StoredAnswer(label, is_coerced=type(label) is not type(value) or label != value)
        is_literal = isinstance(value, list) and all(name in step.names for name in value)
        return StoredAnswer(list(label) if isinstance(label, tuple) else label, is_coerced=not is_literal)


def _request(task: str, data: dict[str, Any]) -> str:
    return f"Task: {task}\nTexts: {json.dumps(data, ensure_ascii=False)}"


def _answer_schema(step: LabelStep | SpanStep) -> dict[str, Any]:
    if isinstance(step, SpanStep):
        return {"type": "array", "items": {"type": "string"}}
    if step.kind == "yes_no":
        return {"type": "boolean"}
    one = {"type": "string", "enum": list(step.names)}
    return {"type": "array", "items": one} if step.multi_label else one
