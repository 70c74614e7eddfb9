"""Killed in every stage, and started again: the same bytes, and no question paid for twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from laptops import INSTRUCTION, asked, is_planning, reviews, teacher, write_corpus
from loopback import ChatServer

import langchain_falconer
from langchain_falconer import cli

TEXTS = reviews(6_100)  # four shards


class Server(ChatServer):
    """A teacher that can be stopped at its n-th call, so that a kill is sure to hit a call under way."""

    def __init__(self):
        super().__init__(self.answer)
        self.hold_at = 0
        self.moody = False
        self.held = threading.Event()
        self.go_on = threading.Event()

    def answer(self, request):
        if self.hold_at and self.calls >= self.hold_at:
            self.held.set()
            self.go_on.wait(60)
        answer = teacher(request)
        if self.moody and isinstance(told := json.loads(answer).get("t1"), bool):
            (text,) = asked(request).values()
            return json.dumps({"t1": told is (zlib.crc32(text.encode()) % 8 > 0)})
        return answer

    @property
    def questions(self):
        """What was asked, call by call."""
        return [
            "plan"
            if is_planning(request)
            else request["messages"][-1]["content"].partition("\n")[0] + str(asked(request))
            for request in (r.json for r in self.requests)
        ]


@pytest.fixture
def server():
    with Server() as server:
        yield server
        server.go_on.set()


@pytest.fixture
def arguments(server, tiny_bert, tmp_path, monkeypatch):
    """The command, of which ``home`` and a few options are all that changes."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)

    def command(home, *more):
        home.mkdir(exist_ok=True)
        given = ["mine", INSTRUCTION, corpus, "-o", home / "out.jsonl", "--llm", "openai:loopback", "--home", home,
                 "--base", tiny_bert, "--annotate", "20", "--texts-per-call", "1", "--concurrency", "1",
                 "--backend", "onnx", "--json", *more]  # fmt: skip
        return list(map(str, given))

    return command


@pytest.fixture
def run_here(arguments, monkeypatch, capsys):
    """Runs the command in this process, undisturbed, and gives its summary."""

    def run(home, *more):
        monkeypatch.setattr(sys, "argv", ["falconer", *arguments(home, *more)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def start(arguments):
    """Starts the command in a process of its own."""
    package = Path(langchain_falconer.__file__).parents[1]
    running = []

    def run(home, *more):
        command = [sys.executable, "-m", "langchain_falconer", *arguments(home, *more)]
        with (home / "stderr.txt").open("wb") as stderr:
            environment = os.environ | {"PYTHONPATH": str(package)}
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()


def finish(process, home):
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, (home / "stderr.txt").read_text()
    return json.loads(out)


def kill_once(process, home, reached):
    """Kill -9 as soon as something can be seen."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, (home / "stderr.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_in_three_stages_it_ends_like_an_undisturbed_run(server, run_here, start, tmp_path):
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    summary = run_here(calm)
    undisturbed = server.questions
    assert len(undisturbed) == len(set(undisturbed)) == summary["cost"]["calls"]
    assert summary["rows"]["total"] == len(TEXTS)

    server.requests.clear()
    server.hold_at = 9
    kill_once(start(wild), wild, server.held.is_set)
    server.hold_at = 0
    server.go_on.set()
    assert len(server.questions) == 9

    kill_once(start(wild), wild, lambda: any(wild.glob("runs/*/llm_pace.json")))
    assert not any(wild.glob("proxies/*/ready"))

    kill_once(start(wild), wild, lambda: any(wild.glob("runs/*/shards/*/000000.jsonl")))
    assert not (wild / "out.jsonl").exists()

    resumed = finish(start(wild), wild)
    assert (wild / "out.jsonl").read_bytes() == (calm / "out.jsonl").read_bytes()
    again = server.questions
    assert set(again) == set(undisturbed)
    assert len(again) <= len(undisturbed) + 1  # the call that was under way at the first kill
    for part in ("rows", "quality", "plan"):
        assert resumed[part] == summary[part]
    review = resumed["annotations"].pop("review"), summary["annotations"].pop("review")  # files of their homes
    assert [Path(file).name for file in review] == ["review.jsonl"] * 2
    places = {"review": None}  # lies in the home of each
    assert {**resumed["annotations"], **places} == {**summary["annotations"], **places}


def test_killed_while_it_asks_for_a_guarantee_it_pays_for_the_rest_only(server, run_here, start, tmp_path):
    """The LLM contradicts the proxy about every eighth text, so there is much to ask."""
    server.moody = True
    write_corpus(tmp_path / "corpus.jsonl", TEXTS[:600])
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    target = ["--target-agreement", "0.95", "--certify", "64", "--escalate"]
    nothing_asked = run_here(calm, *target, "0")
    assert nothing_asked["guarantee"]["escalated"] == 0
    (calm / "out.jsonl").unlink()
    shutil.copytree(calm, wild)

    server.requests.clear()
    summary = run_here(calm, *target, "0.05")
    undisturbed = server.questions
    assert summary["guarantee"]["certified"]
    assert summary["guarantee"]["escalated"] == 30  # a twentieth of the texts
    assert summary["guarantee"]["uncertain"] == summary["guarantee"]["below_threshold"] - 30 > 0

    server.requests.clear()
    server.hold_at = 20
    kill_once(start(wild, *target, "0.05"), wild, server.held.is_set)
    assert not (wild / "out.jsonl").exists()
    server.hold_at = 0
    server.go_on.set()
    resumed = run_here(wild, *target, "0.05")
    again = server.questions
    assert (wild / "out.jsonl").read_bytes() == (calm / "out.jsonl").read_bytes()
    assert set(again) == set(undisturbed)
    assert len(again) <= len(undisturbed) + 1  # the call that was under way
    assert resumed["guarantee"] == summary["guarantee"]
