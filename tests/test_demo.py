"""The demo: its corpus, and annotations made by hand that stand in for those of an LLM."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from langchain_falconer import SpanStep
from langchain_falconer.annotate.store import text_key
from langchain_falconer.demo import Recording, film_reviews


def test_annotations_are_about_reviews_of_the_corpus_and_their_spans_lie_inside(tmp_path: Path) -> None:
    recording = Recording.shipped()
    rows = [json.loads(line) for line in film_reviews(tmp_path).read_text("utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == 2_000

    texts = {text_key(row["text"])[0]: row["text"] for row in rows}
    with gzip.open(recording.answers, "rt", encoding="utf-8") as lines:
        answers = [json.loads(line) for line in lines]
    by_step = {step.id: [a for a in answers if a["step"] == step.fingerprint] for step in recording.plan.steps}

    assert len(by_step["positive"]) == recording.texts
    assert {answer["source"] for answer in answers} == {recording.source}
    positive = {answer["text"] for answer in by_step["positive"] if answer["value"]}
    for step in recording.plan.steps:
        if isinstance(step, SpanStep):
            assert {answer["text"] for answer in by_step[step.id]} == positive
            for answer in by_step[step.id]:
                for start, end in answer["value"]:
                    span = texts[answer["text"]][start:end]
                    assert span
                    assert span == span.strip()
