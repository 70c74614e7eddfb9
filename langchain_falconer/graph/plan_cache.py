"""The plan of an instruction: written once by an LLM, and found again in the home."""

from __future__ import annotations

from langchain_falconer.annotate import Budget
from langchain_falconer.files import digest, read_json, write_json
from langchain_falconer.graph.home import Home
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan, Planner


def cached_plan(home: Home, llm: LLM, instruction: str, budget: Budget) -> Plan:
    """Return the plan that this LLM wrote for this instruction before, or have it written within the budget.

    Raises:
        PlannerError: The LLM gave no valid plan.
        BudgetError: The budget is used up.
    """
    file = home.plan_file(digest(instruction, llm.name))
    if (data := read_json(file)) is None:
        data = Planner(llm).plan(instruction, budget.for_source(llm.name, "plan")).to_dict()
        write_json(file, data)
    return Plan.parse(data)


def planning_budget_id(llm: LLM, instruction: str) -> str:
    """Return the job that planning outside of a run is charged to."""
    return f"plan-{digest(instruction, llm.name)}"
