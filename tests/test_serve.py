"""`falconer serve`: typed questions and the plan of a proxy over HTTP, and a proxy that is taught by another."""

import asyncio
import json
import shutil
import threading
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import uvicorn
from laptops import INSTRUCTION, PLAN, reviews
from openai import OpenAI
from typer.testing import CliRunner

from langchain_falconer import LLM, Falconer, LabelStep, LLMError, Plan, PlannerError, Proxy, SettingsError
from langchain_falconer.annotate import AnnotationStore, Annotator, Budget, check_llm
from langchain_falconer.annotate.store import text_key
from langchain_falconer.cli.app import app
from langchain_falconer.settings import BudgetSettings, LLMSettings
from langchain_falconer.tools import create_decision_app
from langchain_falconer.tools.decision_protocol import choice_confidence, score_confidence
from langchain_falconer.tools.decision_server import MicroBatcher

TEXTS = reviews(12)
POSITIVE, PRICE = (step.instruction for step in PLAN.steps)


@contextmanager
def serving(application):
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def teacher(proxy_folder, tmp_path_factory):
    """A proxy with probabilities that are no certainties."""
    folder = shutil.copytree(proxy_folder, tmp_path_factory.mktemp("serve") / "laptops")
    proxy = Proxy.load(folder)
    proxy.update_manifest(calibration={"temperatures": {"positive": 5.0}})
    return proxy


@pytest.fixture(scope="module")
def url(teacher):
    with serving(create_decision_app(teacher)) as address:
        yield address


def ask(url, questions, state=TEXTS[1], status=200):
    response = httpx.post(f"{url}/v1/systemone", json={"state": state, "questions": questions})
    assert response.status_code == status, response.text
    return response.json()["answers"] if status == 200 else response.json()["error"]


def test_typed_questions_are_answered_with_probabilities(url, teacher):
    questions = {
        "good": {"type": "noul", "instructions": POSITIVE},
        "price": {"type": "span"},
        "topic": {
            "type": "choice",
            "instructions": "What is it?",
            "criteria": {"praise": None, "abuse": "angry words"},
        },
        "joy": {"type": "score", "instructions": "How happy?", "criteria": ["sad", "calm", "happy"]},
        "words": {"type": "multi", "criteria": {"love": None, "junk": None}},
    }
    answers = ask(url, questions)
    record = teacher.run([TEXTS[1]])[0]
    assert list(answers) == list(questions)
    assert answers["good"]["noul"] == pytest.approx(record.labels["positive"].score, abs=1e-3)
    assert [(s["start"], s["end"], s["text"]) for s in answers["price"]["spans"]] == [
        (s.start, s.end, s.text) for s in record.spans["price"]
    ]
    topic, joy = answers["topic"], answers["joy"]
    assert topic["choice"] == max(topic["probabilities"], key=topic["probabilities"].get)
    assert sum(topic["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert joy["legend"] == {"0": "sad", "1": "calm", "2": "happy"}
    assert joy["score"] == pytest.approx(joy["probabilities"]["1"] + 2 * joy["probabilities"]["2"], abs=1e-3)
    assert answers["words"]["choices"] == [w for w, p in answers["words"]["probabilities"].items() if p >= 0.5]


def test_a_state_of_json_data_is_read_as_text(url):
    (same,) = {json.dumps(ask(url, {"positive": {"type": "noul"}}, state)) for state in (TEXTS[0], {"text": TEXTS[0]})}
    assert json.loads(same)["positive"]["noul"] < 0.5


@pytest.mark.parametrize(
    ("probabilities", "choice", "score"), [([1, 0, 0], 1, 1), ([1 / 3] * 3, 0, 0), ([0.5, 0.5, 0], 0.25, 0.25)]
)
def test_confidence_is_that_of_the_protocol(probabilities, choice, score):
    assert choice_confidence(np.array(probabilities)) == pytest.approx(choice)
    assert score_confidence(np.array(probabilities)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("question", "param", "message"),
    [
        ({"type": "noul"}, "questions.x.instructions", "has no instructions"),
        ({"type": "boolean", "instructions": "?"}, "questions.x", "noul"),
        ({"type": "choice", "instructions": "?"}, "questions.x.criteria", "has no criteria"),
        ({"type": "choice", "instructions": "?", "criteria": {"a": None}}, "questions.x.choice.criteria", "at least 2"),
        ({"type": "score", "criteria": list("abcdefghijk")}, "questions.x.score.criteria", "at most 10"),
        ({"type": "score", "criteria": ["a", "a"]}, "questions.x", "listed twice"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_in_a_sentence(url, question, param, message):
    error = ask(url, {"x": question}, status=422)
    assert error["param"] == param
    assert message in error["message"]
    assert "\n" not in error["message"]


def test_requests_that_are_too_large_or_from_elsewhere_are_refused(url):
    post = f"{url}/v1/classifications"
    assert httpx.post(post, content=b"x" * (9 * 2**20)).status_code == 413
    assert httpx.post(post, json={"input": ["a"] * 1001}).status_code == 422
    assert httpx.post(post, content=b"{").status_code == 422
    for path, method in (("nothing", "POST"), ("v1/systemone", "GET")):
        refused = httpx.request(method, f"{url}/{path}")
        assert "openapi.json" in refused.json()["error"]["message"]
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "127.0.0.1.evil.example"}):
        assert httpx.post(post, json={"input": "a"}, headers=headers).status_code == 403
    assert httpx.post(post, json={"input": "a"}, headers={"origin": url}).status_code == 200


def test_an_address_that_others_reach_must_be_allowed(proxy_folder):
    outcome = CliRunner().invoke(app, ["serve", str(proxy_folder), "--host", "0.0.0.0"])
    assert isinstance(outcome.exception, SettingsError)
    assert "--allow-remote" in str(outcome.exception)


def test_the_plan_is_answered_through_the_openai_client(url, teacher):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == [teacher.path.name]
    response = client.post("/classifications", body={"input": TEXTS}, cast_to=httpx.Response).json()
    rows = [record.to_dict() for record in teacher.run(TEXTS)]
    assert [(one["index"], one["match"]) for one in response["data"]] == [(i, r["match"]) for i, r in enumerate(rows)]
    assert [one["spans"] for one in response["data"]] == [row["spans"] for row in rows]
    with httpx.stream("POST", f"{url}/v1/classifications", json={"input": reviews(150), "stream": True}) as stream:
        lines = [json.loads(line) for line in stream.iter_lines()]
    assert [line["index"] for line in lines] == list(range(150))
    assert lines[:12] == response["data"]


def test_the_openapi_document_names_routes_and_schemas(url):
    document = httpx.get(f"{url}/openapi.json").json()
    assert set(document["paths"]) == {"/v1/systemone", "/v1/classifications"}
    names = set(document["components"]["schemas"])
    references = set(json.dumps(document).split("#/components/schemas/")[1:])
    assert {reference.partition('"')[0] for reference in references} <= names


async def test_concurrent_requests_share_encoder_passes(teacher):
    batcher = MicroBatcher(teacher)
    steps = (LabelStep(id="q0", instruction=POSITIVE),)
    answers = await asyncio.gather(*(batcher([text], steps) for text in TEXTS))
    assert batcher.passes == 1
    alone = [(await batcher([text], steps))[0].labels["q0"][0] for text in TEXTS]
    assert [own.labels["q0"][0] for (own,) in answers] == pytest.approx(alone, abs=1e-4)


async def test_a_text_that_fails_fails_no_other_request(teacher, monkeypatch):
    compute = MicroBatcher._compute

    def fragile(self, steps, texts):
        if "bad" in texts:
            raise ValueError("bad")
        return compute(self, steps, texts)

    monkeypatch.setattr(MicroBatcher, "_compute", fragile)
    batcher = MicroBatcher(teacher)
    found = await asyncio.gather(*(batcher([text]) for text in ("bad", *TEXTS[:2], "bad")), return_exceptions=True)
    assert [isinstance(one, ValueError) for one in found] == [True, False, False, True]


# ---- as a decider


def test_a_served_proxy_teaches_another(url, teacher, settings, tmp_path):
    pool = reviews(60)
    falconer = Falconer(f"systemone:{url}", home=tmp_path, settings=settings)
    notes = []
    result = falconer.mine(INSTRUCTION, texts=pool, plan=PLAN, on_event=lambda event: notes.append(event.get("note")))
    assert any("about 60 LLM calls" in note for note in notes if note)  # each text and step a call of its own
    assert 30 < result.cost.calls <= 60
    assert result.quality.agreement.n > 0
    source = falconer.llm.name
    with falconer.home.store() as store:
        hashes = [text_key(text)[0] for text in pool]
        stored = list(store.answers(source, PLAN["positive"].fingerprint, hashes).values())
    assert len(stored) == 30
    assert all(0.5 <= answer.score < 1 for answer in stored)  # what is learnt are probabilities
    rows = list(result.rows())
    taught = [record.labels["positive"].value for record in teacher.run(pool)]
    assert sum(row["labels"]["positive"]["value"] == value for row, value in zip(rows, taught, strict=True)) >= 50
    assert all(row["text"][s["start"] : s["end"]] == s["text"] for row in rows for s in row["spans"].get("price", []))
    with pytest.raises(PlannerError, match="writes no plan"):
        falconer.plan(INSTRUCTION)


def test_every_kind_of_question_goes_through_the_protocol(url, tmp_path):
    steps = [
        {"id": "kind", "op": "get_label", "instruction": "What is it?", "labels": ["praise", "abuse"]},
        {"id": "words", "op": "get_label", "instruction": "Which?", "labels": ["love", "junk"], "multi_label": True},
        {"id": "price", "op": "get_span", "instruction": PRICE},
        {"id": "high", "op": "get_label", "instruction": "Is {span} high?", "of": "price"},
    ]
    plan = Plan.parse({"instruction": "All kinds", "steps": steps})
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        llm = LLM(f"systemone:{url}")
        report = Annotator(llm, store, plan, Budget(store, "run", BudgetSettings(), priced=False)).annotate(TEXTS[:3])
    assert (report.error, report.failed) == (None, 0)
    for annotation in report.annotations:
        assert annotation.answers.labels["kind"].value in ("praise", "abuse")
        assert annotation.answers.labels["kind"].score < 1
        assert isinstance(annotation.answers.labels["words"].value, tuple)
        assert all("high" in span.labels for span in annotation.answers.spans["price"])


def test_a_decider_that_is_none_is_told_apart(url, tmp_path):
    with pytest.raises(LLMError, match="address of a server"):
        LLM("systemone:nowhere")
    with pytest.raises(SettingsError, match="writes no text"):
        check_llm(LLM(f"systemone:{url}"))
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        llm = LLM(f"systemone:{url}/elsewhere", LLMSettings(max_retries=0))
        report = Annotator(llm, store, PLAN, Budget(store, "run", BudgetSettings(), priced=False)).annotate(TEXTS[:3])
    assert report.error is not None
    assert "404" in str(report.error) or "not found" in str(report.error)
