"""The plan of an instruction: written once by an LLM, and found again in the home."""

from __future__ import annotations

from langchain_falconer.annotate import Budget
from langchain_falconer.graph._home import Home, digest, read_json, write_json
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan, Planner


def planned(home: Home, llm: LLM, instruction: str, budget: Budget) -> Plan:
    """The plan that this LLM wrote for this instruction before, or writes now within the budget."""
    kept = home.plan_file(digest(instruction, llm.name))
    if (data := read_json(kept)) is None:
        data = Planner(llm).plan(instruction, budget.account(llm.name, "plan")).to_dict()
        write_json(kept, data)
    return Plan.parse(data)
