"""What the examples run with where no OpenAI key is set: a model that follows a script, and no LLM for Falconer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

LLM = "openai:gpt-4.1-mini" if os.environ.get("OPENAI_API_KEY") else None
"""The LLM of the examples; without one Falconer answers with its untrained model, and says so."""
Answers = list[dict[str, Any]]


class ScriptedModel(BaseChatModel):
    """An agent's model that calls tools in turn, and ends with words made of their answers.

    Attributes:
        script: Tools, each with a function that makes its arguments from the answers so far.
        ending: Makes the last message from all answers.
    """

    script: list[tuple[str, Callable[[Answers], dict[str, Any]]]]
    ending: Callable[[Answers], str]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> ScriptedModel:  # type: ignore[override]
        """Return this model, which knows its tools from the script."""
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        answers: Answers = [json.loads(message.text) for message in messages if isinstance(message, ToolMessage)]
        if len(answers) == len(self.script):
            reply = AIMessage(self.ending(answers))
        else:
            name, arguments = self.script[len(answers)]
            call = {"name": name, "args": arguments(answers), "id": str(len(answers))}
            reply = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=reply)])
