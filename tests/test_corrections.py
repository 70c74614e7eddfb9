"""A person corrects the review file of a run: the LLM is measured, and the proxy learns from the corrections."""

import json
from pathlib import Path

from laptops import INSTRUCTION, PLAN, asked, reviews, teacher, write_corpus
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer


def careless(request):
    """The LLM finds review 1 bad, and is right on all others."""
    answers = json.loads(teacher(request))
    return json.dumps({k: False if "unit 1." in asked(request)[k] and v is True else v for k, v in answers.items()})


def mine(server, settings, folder, corrections=None):
    falconer = Falconer(llm_at(server), corrections=corrections, home=folder / "home", settings=settings)
    return falconer.mine(INSTRUCTION, folder / "corpus.jsonl", folder / "out.jsonl", plan=PLAN)


def test_corrections_measure_the_llm_and_train_the_proxy_again(settings, tmp_path):
    write_corpus(tmp_path / "corpus.jsonl", reviews(30))
    with ChatServer(careless) as server:
        first = mine(server, settings, tmp_path)
        annotated = first.summary.annotations
        assert (annotated.accuracy, annotated.self_agreement) == (None, None)
        review = Path(annotated.review)
        rows = [json.loads(line) for line in review.read_text("utf-8").splitlines()]
        assert all(row["uniform"] for row in rows)
        assert len(rows) == annotated.test + annotated.development
        rows[0]["labels"]["positive"] = not rows[0]["labels"]["positive"]
        rows[0]["spans"] = {"price": None}
        edited = tmp_path / "edited.jsonl"
        edited.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        calls = server.calls
        second = mine(server, settings, tmp_path, edited)
        accuracy = second.summary.annotations.accuracy
        assert accuracy.is_uniform
        assert accuracy.texts == len(rows)
        assert any("drawn uniformly" in message for message in second.summary.messages)
        assert accuracy.quality.steps["positive"].score.value == (len(rows) - 1) / len(rows)
        assert server.calls <= calls + 1  # the price, where a person says that the review is positive
        assert second.summary.proxy != first.summary.proxy
        calls = server.calls
        third = mine(server, settings, tmp_path)  # they count from now on
        assert third.summary.proxy == second.summary.proxy
        assert third.summary.annotations.accuracy == accuracy
        assert server.calls == calls


def test_a_run_of_a_hundred_annotations_asks_a_tenth_twice(settings, tmp_path):
    write_corpus(tmp_path / "corpus.jsonl", reviews(110))
    settings = settings.model_copy(update={"annotations": 100})
    with ChatServer(teacher) as server:
        summary = mine(server, settings, tmp_path).summary
        twice = [r for r in server.requests if not r.json["messages"][0]["content"].startswith("You annotate texts.")]
    agreement = summary.annotations.self_agreement
    assert agreement.steps["positive"].n == 10
    assert agreement.agreement.value == 1
    assert agreement.agreement.low < 0.95
    assert all(len(asked(request.json)) == 1 for request in twice)
    assert any("asked twice" in message for message in summary.messages)
