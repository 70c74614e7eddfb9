"""The pilot before the bill: a few texts answered in two wordings show which questions are unclear."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from langchain_falconer.annotate.agreement import second_source, source_of
from langchain_falconer.annotate.annotator import Annotator
from langchain_falconer.annotate.budget import Budget
from langchain_falconer.annotate.store import AnnotationStore
from langchain_falconer.annotate.view import stored_annotations
from langchain_falconer.errors import BudgetError, LLMError
from langchain_falconer.evaluate import score_by_text
from langchain_falconer.files import digest, read_json, write_json
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Disagreement, Plan, Planner
from langchain_falconer.records import Answers, FrozenModel
from langchain_falconer.settings import AnnotateSettings, BudgetSettings

_CLEAR = 0.9
"""Agreement from which a question counts as clear."""
_SHOWN = 6
"""Disagreements that the planner is shown."""
_SHARE = 0.1
"""Share of each cap of the job that the pilot may use."""


class Wording(FrozenModel):
    """A step's question on the pilot's texts, which the LLM answered twice, in two wordings of the request.

    Attributes:
        step: Id of the step.
        instruction: The question as it was planned.
        texts: Texts that were answered twice.
        agreement: Mean agreement of the two answers: share of equal labels, or F1 of spans or sets of labels.
        rewritten: The question as the planner wrote it again; ``None`` where the answers agree or it wrote nothing of
            use.
        rewritten_agreement: Agreement with that question on the same texts.
        is_better: Whether that agreement is higher by more than its standard error.
    """

    step: str
    instruction: str
    texts: int
    agreement: float
    rewritten: str | None = None
    rewritten_agreement: float | None = None
    is_better: bool = False


class Pilot(FrozenModel):
    """What a pilot showed.

    Attributes:
        wordings: One entry a step that was answered twice.
        stopped: Why the pilot ended early; ``None`` if it did not.
    """

    wordings: tuple[Wording, ...] = ()
    stopped: str | None = None

    def better(self, plan: Plan) -> Plan:
        """Return the plan with the rewritten questions that are better."""
        return _reworded(plan, {w.step: w.rewritten for w in self.wordings if w.is_better and w.rewritten})


def pilot_budget(store: AnnotationStore, run: str, caps: BudgetSettings, priced: bool) -> Budget:
    """Return a budget for a pilot: a tenth of each cap of the job."""
    used = caps.model_copy(
        update={
            "max_calls": None if caps.max_calls is None else int(_SHARE * caps.max_calls),
            "max_tokens": None if caps.max_tokens is None else int(_SHARE * caps.max_tokens),
            "max_usd": None if caps.max_usd is None else _SHARE * caps.max_usd,
        }
    )
    return Budget(store, run, used, priced)


def run_pilot(
    llm: LLM,
    store: AnnotationStore,
    plan: Plan,
    texts: Sequence[str],
    budget: Budget,
    settings: AnnotateSettings,
    memory: Path,
) -> Pilot:
    """Have texts answered in two wordings; where the answers differ, have the planner rewrite the question.

    The rewritten question is answered in both wordings too, about the same texts. Answers are annotations like all
    others: nothing is asked twice. An end of the budget, or of the LLM, ends the pilot and raises nothing.

    Args:
        llm: Annotates, and rewrites.
        store: Holds the answers.
        plan: The plan.
        texts: The texts.
        budget: Budget of the pilot.
        settings: Prompts, and grouping of texts into calls.
        memory: File of what the planner wrote (JSON), which is not paid for twice either.
    """
    trial = _Trial(llm, store, list(texts), budget.for_source(llm.name, "pilot"), settings, memory)
    before = trial.answer(plan)
    if trial.stopped is None:
        rewritten = _reworded(plan, trial.rewrite(plan, before))
        after = trial.answer(rewritten) if rewritten != plan else before
    else:
        rewritten, after = plan, before
    wordings = [_compare(step.id, plan, rewritten, before, after) for step in plan.top_level]
    return Pilot(wordings=tuple(w for w in wordings if w is not None), stopped=trial.stopped)


_Pairs = dict[str, tuple[Answers, Answers]]
"""Both answers, by text."""


@dataclass
class _Trial:
    llm: LLM
    store: AnnotationStore
    texts: list[str]
    budget: Budget
    settings: AnnotateSettings
    memory: Path
    stopped: str | None = None

    def answer(self, plan: Plan) -> _Pairs:
        """Have the texts answered in both wordings."""
        for second in (False, True):
            annotator = Annotator(self.llm, self.store, plan, self.budget, self.settings, second=second)
            if self.stopped is None and (error := annotator.annotate(self.texts).error):
                self.stopped = str(error)
        first = source_of(self.llm.name, self.settings.prompts)
        answers = [
            {a.text: a.answers for a in stored_annotations(self.store, plan, self.texts, source, corrected=False)}
            for source in (first, second_source(first))
        ]
        return {text: (one, answers[1][text]) for text, one in answers[0].items() if text in answers[1]}

    def rewrite(self, plan: Plan, pairs: _Pairs) -> dict[str, str]:
        """Return new questions, by step, where the answers differ."""
        rewritten: dict[str, str] = {}
        for step in plan.top_level:
            texts, scores = _scores(plan, step.id, pairs)
            differing = [t for t in texts if _only(pairs[t][0], step.id) != _only(pairs[t][1], step.id)]
            if not texts or scores.mean() >= _CLEAR or len(differing) < 2:
                continue
            shown = [Disagreement(t, *(_in_words(a, step.id) for a in pairs[t])) for t in differing[:_SHOWN]]
            written: dict[str, str | None] = read_json(self.memory) or {}
            key = digest(step.fingerprint, [asdict(one) for one in shown])
            if key not in written:
                try:
                    written[key] = Planner(self.llm).rewrite(step, shown, self.budget)
                except (BudgetError, LLMError) as error:
                    self.stopped = str(error)
                    break
                write_json(self.memory, written)
            if instruction := written[key]:
                rewritten[step.id] = instruction
        return rewritten


def _scores(plan: Plan, step: str, pairs: _Pairs) -> tuple[list[str], np.ndarray]:
    """Return the texts that have both answers to a step, and their contributions to the mean agreement."""
    texts = [text for text, both in pairs.items() if all(step in answers for answers in both)]
    first, second = ([_only(pairs[text][i], step) for text in texts] for i in (0, 1))
    return texts, score_by_text(plan, first, second) if texts else np.zeros(0)


def _compare(step: str, plan: Plan, rewritten: Plan, before: _Pairs, after: _Pairs) -> Wording | None:
    texts, scores = _scores(plan, step, before)
    if not texts:
        return None
    same = {"step": step, "instruction": plan[step].instruction, "texts": len(texts), "agreement": float(scores.mean())}
    if rewritten[step].instruction == plan[step].instruction:
        return Wording.model_validate(same)
    again, others = _scores(rewritten, step, after)
    new = dict(zip(again, others, strict=True))
    gains = np.array([new[text] - score for text, score in zip(texts, scores, strict=True) if text in new])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    return Wording.model_validate(
        {
            **same,
            "rewritten": rewritten[step].instruction,
            "rewritten_agreement": float(others.mean()) if again else None,
            "is_better": bool(len(gains) > 1 and gains.mean() > error),
        }
    )


def _only(answers: Answers, step: str) -> Answers:
    if step in answers.labels:
        return Answers({step: answers.labels[step]})
    return Answers(spans={step: answers.spans[step]})


def _in_words(answers: Answers, step: str) -> str:
    if step in answers.labels:
        return json.dumps(answers.labels[step].value, ensure_ascii=False)
    return json.dumps([span.text for span in answers.spans[step]], ensure_ascii=False)


def _reworded(plan: Plan, instructions: dict[str, str]) -> Plan:
    steps = [
        step.model_copy(update={"instruction": instructions.get(step.id, step.instruction)}) for step in plan.steps
    ]
    return plan.model_copy(update={"steps": tuple(steps)})
