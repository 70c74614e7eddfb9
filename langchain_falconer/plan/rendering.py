"""Rendering of plans: pseudo-Python (as the Falconer paper prints pipelines) and Mermaid."""

from __future__ import annotations

import html
import json

from langchain_falconer.plan.conditions import All, Any_, Condition, Equals, Exists, In, Not, atoms
from langchain_falconer.plan.schema import LabelStep, Plan, SpanStep


def to_pseudocode(plan: Plan) -> str:
    """Render the plan as pseudo-Python, for reading only; it is never run."""
    lines = [f"# {line}" for line in plan.instruction.splitlines()]
    lines.append("def pipeline(text):")
    for step in plan.top_level:
        lines += _step_lines(plan, step, "text", 1)
    return "\n".join(lines)


def _step_lines(plan: Plan, step: LabelStep | SpanStep, subject: str, depth: int) -> list[str]:
    pad = "    "
    lines = []
    if step.where is not None:
        lines.append(f"{pad * depth}if {condition_text(step.where)}:")
        depth += 1
    arguments = [subject, json.dumps(step.instruction, ensure_ascii=False)]
    if isinstance(step, LabelStep) and step.labels is not None:
        arguments.append(f"labels={json.dumps(list(step.names), ensure_ascii=False)}")
        if step.multi_label:
            arguments.append("multi_label=True")
    lines.append(f"{pad * depth}{step.id} = {step.op}({', '.join(arguments)})")
    if children := plan.children(step.id):
        lines.append(f"{pad * depth}for span in {step.id}:")
        for child in children:
            lines += _step_lines(plan, child, "text, span", depth + 1)
    return lines


def condition_text(condition: Condition) -> str:
    """Render a condition as a Python expression."""
    match condition:
        case Equals(step=step, equals=bool(value)):
            return step if value else f"not {step}"
        case Equals(step=step, equals=value):
            return f"{step} == {_literal(value)}"
        case In(step=step, in_=values):
            return f"{step} in [{', '.join(map(_literal, values))}]"
        case Exists(step=step):
            return f"any({step})"
        case All(all=parts):
            return " and ".join(_grouped(part) for part in parts)
        case Any_(any=parts):
            return " or ".join(_grouped(part) for part in parts)
        case Not(not_=part):
            return f"not {_grouped(part)}"


def _literal(value: bool | str) -> str:
    return str(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _grouped(condition: Condition) -> str:
    text = condition_text(condition)
    return f"({text})" if isinstance(condition, All | Any_) else text


def to_mermaid(plan: Plan) -> str:
    """Render the plan as a Mermaid flow chart: solid arrows are conditions, dotted ones lead to steps about spans."""
    lines = ["flowchart TD", '    text(["text"])']
    for step in plan.ordered:
        shape = ('{{"', '"}}') if isinstance(step, LabelStep) else ('["', '"]')
        lines.append(f"    {_node(step.id)}{shape[0]}{_label(f'{step.op}: {step.instruction}')}{shape[1]}")
        if step.where is None and step.of is None:
            lines.append(f"    text --> {_node(step.id)}")
        if step.of is not None:
            lines.append(f"    {_node(step.of)} -. each span .-> {_node(step.id)}")
        if step.where is not None:
            sources = dict.fromkeys(atom.step for atom in atoms(step.where))
            condition = _label(condition_text(step.where))
            lines += [f'    {_node(source)} -- "{condition}" --> {_node(step.id)}' for source in sources]
    return "\n".join(lines)


def _node(step_id: str) -> str:
    return f"step_{step_id}"  # a bare "end" or "graph" is a Mermaid keyword


def _label(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=True).replace("`", "&#96;")
