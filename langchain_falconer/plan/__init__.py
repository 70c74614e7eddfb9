"""The plan room: what is asked of every text, as validated data, and the planner that writes it."""

from langchain_falconer.plan._condition import All, Any_, Condition, Equals, Exists, In, Not, atoms
from langchain_falconer.plan._model import LabelOption, LabelStep, Plan, SpanStep, Step
from langchain_falconer.plan._planner import Planner
from langchain_falconer.plan._render import condition_text, to_mermaid, to_pseudocode
from langchain_falconer.plan._resolve import holds, matches, resolve

__all__ = [
    "All",
    "Any_",
    "Condition",
    "Equals",
    "Exists",
    "In",
    "LabelOption",
    "LabelStep",
    "Not",
    "Plan",
    "Planner",
    "SpanStep",
    "Step",
    "atoms",
    "condition_text",
    "holds",
    "matches",
    "resolve",
    "to_mermaid",
    "to_pseudocode",
]
