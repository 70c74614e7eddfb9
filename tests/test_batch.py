"""Annotation through OpenAI's Batch API: half the price, nothing submitted twice, every failure with its reason."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from batches import BatchServer
from langchain_core.language_models import FakeListChatModel
from laptops import PLAN, answers, asked, reviews, teacher, write_corpus
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer
from langchain_falconer.annotate import AnnotationStore, Annotator, Budget
from langchain_falconer.errors import BudgetError, LLMError, SettingsError
from langchain_falconer.settings import AnnotateSettings, BudgetSettings

TEXTS = reviews(12)
PRICE = {"usd_per_million_tokens": (1.0, 2.0)}
BATCH = AnnotateSettings(texts_per_call=2, batch=True)


@pytest.fixture
def store(tmp_path):
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        yield store


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def annotate(server, store, texts=TEXTS, settings=BATCH, caps=None, on_progress=None):
    llm = llm_at(server, **PRICE)
    budget = Budget(store, "run", BudgetSettings(**(caps or {})), priced=True)
    return Annotator(llm, store, PLAN, budget, settings).annotate(texts, on_progress)


def is_right(report, texts=TEXTS):
    return [a.answers for a in report.annotations] == [answers(text) for text in texts]


def test_a_level_of_steps_is_one_batch_at_half_the_price(store):
    progress = []
    with BatchServer(teacher, polls=2) as server:
        report = annotate(server, store, on_progress=lambda done, total: progress.append((done, total)))
        again = annotate(server, store)
    assert is_right(report)
    assert is_right(again)
    assert len(server.batches) == 2  # prices are asked for where the first answer was yes
    assert all(path != "/v1/chat/completions" for _, path in server.seen)
    assert progress == sorted(progress)
    assert progress[-1] == (20, 20)
    spent = store.spent("run")
    assert (spent.calls, spent.tokens) == (10, 10 * 15)
    assert spent.usd == pytest.approx(0.5 * 10 * (10 * 1 + 5 * 2) / 1e6)


def test_requests_are_those_that_would_have_been_sent_online(store, tmp_path):
    with BatchServer(teacher) as server, ChatServer(teacher) as online, AnnotationStore(tmp_path / "b") as other:
        annotate(server, store)
        annotate(online, other, settings=BATCH.model_copy(update={"batch": False}))
    keys = ("model", "messages", "max_completion_tokens", "temperature", "response_format")
    sent, sent_online = (
        sorted(json.dumps({key: body.get(key) for key in keys}, sort_keys=True) for body in bodies)
        for bodies in (server.requests, [request.json for request in online.requests])
    )
    assert sent == sent_online


def test_items_that_failed_keep_their_reason_and_are_asked_about_again(store):
    def moody(body):
        if TEXTS[0] in asked(body).values():
            return 400, "content filter: refused"
        return "no JSON" if TEXTS[4] in asked(body).values() else teacher(body)

    with BatchServer(moody) as server:
        report = annotate(server, store)
        reasons = [a.failures.get("positive", "") for a in report.annotations]
        assert "content filter" in reasons[0]
        assert reasons[4]
        assert [bool(reason) for reason in reasons] == [i in (0, 1, 4, 5) for i in range(12)]
        assert report.error is None
        server.reply = teacher
        before = len(server.requests)
        assert is_right(annotate(server, store))
    repeated = [text for body in server.requests[before:] for text in asked(body).values()]
    assert {*repeated} == {TEXTS[i] for i in (0, 1, 4, 5)}


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_was_answered(status, store):
    def end(batch):
        if batch["id"] == "batch_0" and batch["status"] == "in_progress":
            server.finish(batch, status, n=4)

    with BatchServer(teacher) as server:
        server.spoil = end
        report = annotate(server, store)
        assert report.failed == 4
        assert store.spent("run").calls < len(server.requests)
        assert is_right(annotate(server, store))


def test_a_batch_that_is_refused_is_one_sentence_and_costs_nothing(store):
    def refuse(batch):
        batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": "x", "message": "limit reached"}]}}

    with BatchServer(teacher) as server:
        server.spoil = refuse
        report = annotate(server, store)
        assert isinstance(report.error, LLMError)
        assert "limit reached" in str(report.error)
        assert store.spent("run").calls == 0
        server.spoil = lambda batch: None
        assert is_right(annotate(server, store))


def test_caps_are_checked_before_the_submission(store):
    with BatchServer(teacher) as server:
        report = annotate(server, store, caps={"max_calls": 4})
        assert isinstance(report.error, BudgetError)
        assert len(server.requests) <= 4
        assert store.spent("run").calls <= 4
        poor = annotate(server, store, caps={"max_usd": 1e-9})
        assert isinstance(poor.error, BudgetError)
        assert len(server.requests) <= 4
        assert is_right(annotate(server, store))


def test_only_models_of_openai_take_batches(settings, tmp_path):
    batched = settings.model_copy(update={"annotate": BATCH})
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    other = Falconer(FakeListChatModel(responses=["x"]), home=tmp_path / "home", settings=batched)
    with pytest.raises(SettingsError, match="OpenAI"):
        other.mine("x", corpus, plan=PLAN)


# ---- kills


SCRIPT = """
import sys, test_batch
from langchain_falconer.annotate import AnnotationStore
from types import SimpleNamespace
with AnnotationStore(sys.argv[2]) as store:
    test_batch.annotate(SimpleNamespace(base_url=sys.argv[1]), store)
"""


def killed_when(server, path, is_time):
    here = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, server.base_url, str(path)], env=env)
    for _ in range(6_000):
        if is_time() or process.poll() is not None:
            break
        threading.Event().wait(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("moment", ["polled", "submitted"])
def test_a_killed_run_finds_its_batch_and_pays_once(moment, tmp_path):
    """Killed while it waits, and killed before it learns that its submission arrived."""
    gate = threading.Event()
    with BatchServer(teacher, polls=10**9) as server:
        if moment == "submitted":
            server.before_reply = lambda: gate.wait(60) if server.batches else None
        killed_when(
            server,
            tmp_path / "store.sqlite",
            lambda: bool(server.batches) and (moment == "submitted" or server.batches[0]["polled"] > 1),
        )
        gate.set()
        server.before_reply = lambda: None
        server.polls = 0
        online = AnnotateSettings(texts_per_call=2)
        with AnnotationStore(tmp_path / "store.sqlite") as store:
            report = annotate(server, store, settings=online if moment == "polled" else BATCH)
            spent = store.spent("run")
    answered = [a for a in report.annotations if "positive" in a.answers]
    assert len(answered) == len(TEXTS)
    assert [text for body in server.requests for text in asked(body).values()].count(TEXTS[0]) == 1
    requests = 6 if moment == "polled" else 10  # online, this server answers nothing: no price was asked for
    assert len(server.requests) == requests
    assert spent.usd == pytest.approx(0.5 * requests * (10 * 1 + 5 * 2) / 1e6)


def test_mine_annotates_in_batches(settings, tmp_path):
    batched = settings.model_copy(update={"annotate": BATCH.model_copy(update={"repeated": 0.0})})
    corpus = write_corpus(tmp_path / "corpus.jsonl", reviews(60))
    with BatchServer(teacher) as server:
        result = Falconer(llm_at(server, **PRICE), home=tmp_path / "home", settings=batched).mine(
            "x", corpus, plan=PLAN
        )
    assert result.cost.calls == len(server.requests)
    assert result.cost.usd == pytest.approx(0.5 * result.cost.calls * (10 * 1 + 5 * 2) / 1e6)
    assert result.summary.annotations.failed == 0
