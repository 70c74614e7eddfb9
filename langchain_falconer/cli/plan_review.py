"""The review of a plan at the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from langchain_falconer.cli.console import ProgressBars, print_code, stderr

if TYPE_CHECKING:
    from langchain_falconer.graph import Review, ReviewRequest


class TerminalReviewer:
    """Shows the plan and asks for approval, an edit or a rejection, while progress bars pause."""

    def __init__(self, bars: ProgressBars) -> None:
        self._bars = bars

    def __call__(self, question: ReviewRequest) -> Review:
        """Return a person's answer."""
        import click

        from langchain_falconer.graph import Review

        with self._bars.paused():
            print_code(question["pseudocode"], stderr)
            if estimate := question.get("estimate"):
                stderr.print(str(estimate["summary"]), markup=False, highlight=False)
            for wording in question.get("wordings", []):
                before, after = wording["agreement"], wording["rewritten_agreement"]
                lines = [
                    f"Step '{wording['step']}' was answered twice about {wording['texts']} texts.",
                    f"  {before:.0%} agreement: {wording['instruction']}",
                    f"  {'unknown' if after is None else format(after, '.0%')} agreement: {wording['rewritten']}",
                ]
                stderr.print("\n".join(lines), markup=False, highlight=False)
            if question.get("error"):
                stderr.print(f"That plan is not valid: {question['error']}", style="red", markup=False)
            prompt = "Is this plan right? [a]pprove, [e]dit, [r]eject"
            answer = typer.prompt(prompt, default="a", err=True).strip().lower()[:1]
            if answer == "r":
                return Review(action="reject", reason="rejected at the terminal")
            text = None
            if answer == "e":
                text = click.edit(json.dumps(question["plan"], indent=2, ensure_ascii=False), extension=".json")
            if not (text and text.strip()):  # an editor that saved nothing leaves the plan as it is
                return Review(action="approve")
        try:
            return Review(action="edit", plan=json.loads(text))
        except ValueError:
            return Review(action="edit", plan={})
