"""Four agents at once on one home, in two processes: nothing lost, doubled or paid twice, no lock error, caps kept.

``FALCONER_AGENTS_SECONDS=600`` lets them work for ten minutes; otherwise each does a few rounds.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from langchain_openai import ChatOpenAI
from laptops import PLAN, asked, is_positive, reviews, teacher
from loopback import ChatServer

from langchain_falconer import Falconer, FalconerToolkit
from langchain_falconer.plan import Plan
from langchain_falconer.settings import MineSettings

SECONDS = float(os.environ.get("FALCONER_AGENTS_SECONDS", "0"))
ROUNDS = 2
POSITIVE = PLAN.steps[0].instruction
CAP = 4
CAPPED = "Is this one of too many? Round {}"
SETTINGS = {
    "annotations": 30,
    "annotate": {"texts_per_call": 2},
    "run": {"backend": "onnx", "shard_texts": 20},
    "budget": {"max_calls": CAP},
}


def own(me, turn):
    return reviews(3, start=1_000_000 * me + 3 * turn)


def common(turn):
    return reviews(3, start=3 * turn)


def work(me, tools, report, until):
    """One agent: in every round it adds, asks about its own texts, about everybody's, and about too many."""

    def call(name, **arguments):
        message = tools[name].invoke({"type": "tool_call", "id": "1", "name": name, "args": arguments})
        report({"me": me, "turn": turn, "tool": name, "status": message.status, "content": message.content})
        return message.artifact

    turn = 0
    while turn < ROUNDS or time.monotonic() < until:
        call("add_documents", corpus="shared", documents=[{"text": t} for t in (*own(me, turn), *common(turn))])
        call("get_label", texts=own(me, turn), instruction=f"Is writer {me} happy?")
        call("get_label", texts=common(turn), instruction="Would they buy it again?")
        answer = call("get_label", corpus="shared", instruction=POSITIVE)
        if answer:
            call("read_results", result=answer["result"], count_by="label")
        call("get_label", texts=reviews(2 * CAP + 2, start=9_000_000 + 100 * turn), instruction=CAPPED.format(turn))
        call("list_corpora")
        turn += 1


def main(home, base_url, seconds, *mes):
    """The agents of one process, each in a thread; every answer is a line on stdout."""
    model = ChatOpenAI(base_url=base_url, api_key="test-key", model="loopback", max_retries=0)
    tools = {t.name: t for t in FalconerToolkit(llm=model, home=home, settings=MineSettings(**SETTINGS)).get_tools()}
    lock, until = threading.Lock(), time.monotonic() + float(seconds)

    def report(line):
        with lock:
            print(json.dumps(line), flush=True)

    threads = [threading.Thread(target=work, args=(int(me), tools, report, until)) for me in mes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.timeout(300 + 2 * SECONDS)
def test_four_agents_at_once_lose_nothing_double_nothing_and_pay_nothing_twice(proxy_folder, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(proxy_folder, home / "proxies" / "laptops")
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with ChatServer(teacher) as server:
        command = [sys.executable, __file__, str(home), server.base_url, str(SECONDS)]
        environment = {**os.environ, "PYTHONPATH": paths}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "text": True}
        running = [subprocess.Popen([*command, *mes], **options) for mes in (["1", "2"], ["3", "4"])]
        ended = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], [errors[-2_000:] for _, errors in ended]
    assert not any("Traceback" in errors for _, errors in ended)
    lines = [json.loads(line) for output, _ in ended for line in output.splitlines()]
    turns = {me: max(line["turn"] for line in lines if line["me"] == me) + 1 for me in range(1, 5)}

    refused = [line for line in lines if line["status"] == "error"]
    assert len(refused) == sum(turns.values())
    assert all("max_calls" in line["content"] for line in refused), [line["content"] for line in refused][:5]
    for line in lines:
        if line["tool"] == "get_label" and line["status"] == "success" and "labels" in json.loads(line["content"]):
            me, turn = line["me"], line["turn"]
            texts = own(me, turn) if f"writer {me}" in line["content"] else common(turn)
            assert [one["value"] for one in json.loads(line["content"])["labels"]] == [is_positive(t) for t in texts]

    expected = {t for me, n in turns.items() for turn in range(n) for t in (*own(me, turn), *common(turn))}
    falconer = Falconer(home=home)
    stored = [document.text for document in falconer.corpus("shared")]
    assert Counter(stored) == Counter(expected)
    rows = list(falconer.ask(step(), falconer.corpus("shared")).rows())
    assert [row["text"] for row in rows] == stored
    assert len({row["id"] for row in rows}) == len(stored)

    paid = Counter((task(request.json), text) for request in server.requests for text in asked(request.json).values())
    assert set(paid.values()) == {1}, paid.most_common(3)
    calls = Counter(task(request.json) for request in server.requests)
    assert all(calls[CAPPED.format(turn)] <= CAP for turn in range(max(turns.values())))
    print(f"{len(lines)} calls in {sum(turns.values())} rounds, {len(stored)} documents, {len(server.requests)} paid")


def step():
    return Plan(instruction=POSITIVE, steps=PLAN.steps[:1])


def task(request):
    return request["messages"][-1]["content"].removeprefix("Task: ").partition("\n")[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
