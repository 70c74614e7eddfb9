"""Plans: the questions about every text, as validated data, and the planner that writes them."""

from langchain_falconer.plan.conditions import All, Any_, Condition, Equals, Exists, In, Not, atoms
from langchain_falconer.plan.planner import Disagreement, Planner
from langchain_falconer.plan.rendering import condition_text, to_mermaid, to_pseudocode
from langchain_falconer.plan.resolution import holds, matches, resolve
from langchain_falconer.plan.schema import LabelOption, LabelStep, OptionData, Plan, PlanData, SpanStep, Step, StepData

__all__ = [
    "All",
    "Any_",
    "Condition",
    "Disagreement",
    "Equals",
    "Exists",
    "In",
    "LabelOption",
    "LabelStep",
    "Not",
    "OptionData",
    "Plan",
    "PlanData",
    "Planner",
    "SpanStep",
    "Step",
    "StepData",
    "atoms",
    "condition_text",
    "holds",
    "matches",
    "resolve",
    "to_mermaid",
    "to_pseudocode",
]
