"""One question to the LLM: a step about several texts at once, with its prompt, its schema and its parser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_falconer.annotate.grounding import ground
from langchain_falconer.annotate.store import StoredAnswer
from langchain_falconer.annotate.view import AnnotationTarget
from langchain_falconer.plan import LabelStep, SpanStep
from langchain_falconer.prompts import DEFAULT_PROMPTS, Prompts

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
        """Read the answers of a reply that fits the schema, in the order of the targets."""
        return [self._read_one(i, data[key]) for i, key in enumerate(self.keys)]

    def _read_one(self, index: int, value: Any) -> StoredAnswer | RejectedReply:
        if isinstance(self.step, LabelStep):
            return StoredAnswer([n for n in self.step.names if n in value] if self.step.multi_label else value)
        grounding = ground(self.targets[index].text, value)
        others = [target.text for i, target in enumerate(self.targets) if i != index]
        if any(quote.strip() and any(quote.strip() in text for text in others) for quote in grounding.rejected):
            return RejectedReply("the reply quotes another text")
        return StoredAnswer([[span.start, span.end] for span in grounding.spans], rejected=len(grounding.rejected))


def _request(task: str, data: dict[str, Any]) -> str:
    return f"Task: {task}\nTexts: {json.dumps(data, ensure_ascii=False)}"


def _answer_schema(step: LabelStep | SpanStep) -> dict[str, Any]:
    if isinstance(step, SpanStep):
        return {"type": "array", "items": {"type": "string"}}
    if step.kind == "yes_no":
        return {"type": "boolean"}
    one = {"type": "string", "enum": list(step.names)}
    return {"type": "array", "items": one} if step.multi_label else one
