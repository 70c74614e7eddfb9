"""A small world to test in: laptop reviews, what is true of them, and a teacher who knows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from langchain_falconer.annotate import Annotation
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span

INSTRUCTION = "Extract all laptop prices from positive reviews"
STEPS: list[dict[str, Any]] = [
    {"id": "positive", "op": "get_label", "instruction": "Is this a positive review?"},
    {
        "id": "price",
        "op": "get_span",
        "instruction": "Extract the price",
        "where": {"step": "positive", "equals": True},
    },
]
PLAN = Plan.parse({"instruction": INSTRUCTION, "steps": STEPS})
DRAFT = {
    "texts": "reviews",
    "filters": [
        {"only": "positive", "id": "positive", "question": "Is this a positive review?", "keep_if": "true"},
    ],
    "wanted": ["find the price"],
    "steps": [
        {
            "id": "price",
            "ask": "find_spans",
            "instruction": "Extract the price",
            "labels": [],
            "of": "",
            "where": [],
            "where_join": "all",
        }
    ],
}


def review(i: int) -> str:
    """Review number ``i``; every third one is bad."""
    if i % 3 == 0:
        return f"Terrible, terrible laptop {i}: it broke at once, awful junk. It cost me ${100 + i}."
    return f"I love this laptop, it works and works, love it. I paid ${100 + i} for unit {i}."


def reviews(n: int, start: int = 0) -> list[str]:
    return [review(i) for i in range(start, start + n)]


def is_positive(text: str) -> bool:
    return "love" in text


def prices(text: str) -> list[str]:
    return re.findall(r"\$\d+", text)


def answers(text: str) -> Answers:
    labels = {"positive": Label(is_positive(text))}
    if not is_positive(text):
        return Answers(labels)
    return Answers(labels, {"price": tuple(Span.at(text, *m.span()) for m in re.finditer(r"\$\d+", text))})


def annotations(texts: Iterable[str], source: str = "human") -> list[Annotation]:
    return [Annotation(text, answers(text), source) for text in texts]


def annotation_row(text: str) -> dict[str, Any]:
    given = answers(text)
    labels = {k: v.value for k, v in given.labels.items()}
    return {"text": text, "labels": labels, "spans": {k: [[s.start, s.end] for s in v] for k, v in given.spans.items()}}


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write_corpus(path: Path, texts: Iterable[str]) -> Path:
    return write_lines(path, ({"id": f"r{i}", "text": text} for i, text in enumerate(texts)))


def write_plan(path: Path, plan: Plan = PLAN) -> Path:
    path.write_text(plan.to_json(), "utf-8")
    return path


def is_planning(request: dict[str, Any]) -> bool:
    return "wanted" in json.dumps(request.get("response_format", {}))


def asked(request: dict[str, Any]) -> dict[str, str]:
    """The texts that a request asks about."""
    texts = request["messages"][-1]["content"].rpartition("\nTexts: ")[2]
    found: dict[str, str] = json.JSONDecoder().raw_decode(texts)[0]
    return found


def teacher(request: dict[str, Any]) -> str:
    """What the LLM answers: the plan, labels and prices, all of them right."""
    if is_planning(request):
        return json.dumps(DRAFT)
    judge = prices if "Task: Extract the price" in request["messages"][-1]["content"] else is_positive
    return json.dumps({key: judge(text) for key, text in asked(request).items()})
