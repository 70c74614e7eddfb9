"""Questions to a server of typed decisions (``systemone:URL``), and its probabilities as answers.

Yes/no and choice are questions of the protocol; ``multi`` and ``span`` are answered by ``falconer serve`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_falconer.annotate.questions import Question, RejectedReply
from langchain_falconer.annotate.store import StoredAnswer
from langchain_falconer.plan import LabelStep

DECISION_SCHEMA: Mapping[str, object] = {
    "title": "Decisions",
    "type": "object",
    "properties": {"answers": {"type": "object"}},
    "required": ["answers"],
}
"""JSON schema of a response."""
_NAME = "answer"


def decision_messages(question: Question) -> list[tuple[str, str]]:
    """Return the body of the request that asks a question about its one target, as the only message."""
    step, (target,) = question.step, question.targets
    state = target.text if target.at is None else {"text": target.text, "span": target.text[slice(*target.at)]}
    asked: dict[str, object] = {"type": "span", "instructions": step.instruction}
    if isinstance(step, LabelStep):
        asked["type"] = {"yes_no": "noul", "choice": "choice", "multi": "multi"}[step.kind]
        if step.labels:
            asked["criteria"] = {option.name: option.description for option in step.labels}
    return [("user", json.dumps({"state": state, "questions": {_NAME: asked}}, ensure_ascii=False))]


def read_decision(question: Question, data: Mapping[str, Any]) -> list[StoredAnswer | RejectedReply]:
    """Read a response: the answer about the one target, with its probability as score."""
    step, (target,) = question.step, question.targets
    answer = data["answers"].get(_NAME)
    try:
        if isinstance(step, LabelStep):
            return [_label(step, answer)]
        spans = sorted([span["start"], span["end"]] for span in answer["spans"])
        bounds = [0, *(offset for span in spans for offset in span), len(target.text)]
        if any(type(offset) is not int for offset in bounds) or bounds != sorted(bounds):
            raise ValueError("spans overlap, or lie outside the text")
        return [StoredAnswer([span for span in spans if span[0] < span[1]])]
    except (KeyError, TypeError, ValueError) as error:
        return [RejectedReply(f"the server gave no answer of the type that was asked for ({error})")]


def _label(step: LabelStep, answer: Any) -> StoredAnswer:
    if step.kind == "yes_no":
        p = _probability(answer["noul"])
        return StoredAnswer(p >= 0.5, score=max(p, 1 - p))
    probabilities = {name: _probability(answer["probabilities"][name]) for name in step.names}
    if step.kind == "multi":
        chosen = [name for name, p in probabilities.items() if p >= 0.5]
        return StoredAnswer(chosen, score=min(max(p, 1 - p) for p in probabilities.values()))
    best = max(probabilities, key=lambda name: probabilities[name])
    return StoredAnswer(best, score=probabilities[best] / sum(probabilities.values()))


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is no probability")
    return float(value)
