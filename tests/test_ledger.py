"""The shard store: repeats, threads, kills, full disks and failing texts change nothing, or cost one shard."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from laptops import reviews, write_corpus, write_lines

import langchain_falconer
from langchain_falconer.corpus import open_corpus_files
from langchain_falconer.errors import CorpusError, RunError
from langchain_falconer.execute import Run, read_rows
from langchain_falconer.settings import CorpusSettings, RunSettings

KILLS = int(os.environ.get("FALCONER_KILLS", "3"))
TEXTS = reviews(60)


class Counting:
    """A session that counts what it computes, and fails on some texts."""

    n_parallel = 1
    tokens_per_batch = 1024

    def __init__(self, proxy, failing=()):
        self.name, self.original = proxy.session.name, proxy.session
        self.rows = 0
        self.failing = [proxy.tokenizer.encode([text], 512, 8)[0].ids for text in failing]

    def run(self, ids, mask, weights):
        for ids_of_text in self.failing:
            if any(list(row[: len(ids_of_text)]) == ids_of_text for row in ids):
                raise MemoryError("out of memory for this one")
        self.rows += len(ids)
        return self.original.run(ids, mask, weights)


class Blank:
    """A session that computes nothing."""

    n_parallel = 1
    tokens_per_batch = 1024

    def __init__(self, proxy):
        self.name = proxy.session.name

    def run(self, ids, mask, weights):
        spans = np.zeros((*ids.shape, len(weights.span_bias)), np.float32)
        return spans, np.zeros((len(ids), len(weights.label_bias)), np.float32)


@pytest.fixture
def run(proxy, tmp_path):
    """Run the proxy over files, ten texts per shard."""

    def work(corpus, output="out.jsonl", shards="shards", on_progress=None, **settings):
        if not hasattr(corpus, "sources"):
            corpus = open_corpus_files([corpus], CorpusSettings(on_bad_row="record"))
        run = Run(proxy, corpus, tmp_path / shards, RunSettings(shard_texts=10, **settings))
        return run(tmp_path / output, on_progress)

    return work


def rows(report):
    return list(read_rows(report.output))


# ---- repeats


def test_a_repeated_text_is_computed_once(proxy, run, tmp_path):
    once = write_corpus(tmp_path / "once.jsonl", TEXTS[:10])
    again = write_corpus(tmp_path / "again.jsonl", [t for i in range(8) for t in (*TEXTS[:10], TEXTS[i])])
    proxy.set_session(session := Counting(proxy))
    wanted = {row["text"]: row for row in rows(run(once))}
    assert session.rows == 10
    result = rows(run(again))
    assert session.rows == 20
    for i, row in enumerate(result):
        assert row == wanted[row["text"]] | {"id": f"r{i}"}


def test_long_texts_that_repeat_within_a_shard_are_computed_once(proxy, run, tmp_path):
    proxy.set_session(session := Counting(proxy))
    long = "I love it, paid $77. " * 100
    run(write_corpus(tmp_path / "one.jsonl", [long]))
    alone = session.rows
    result = rows(run(write_corpus(tmp_path / "two.jsonl", [long] * 5)))
    assert session.rows == 2 * alone
    assert len({json.dumps(row["spans"]) for row in result}) == 1


def test_a_resumed_run_computes_what_an_uninterrupted_one_computes(proxy, run, tmp_path):
    """Texts repeat across shards: finished shards must fill the cache, or batches would differ."""
    rng = random.Random(3)
    corpus = write_corpus(tmp_path / "c.jsonl", [rng.choice(TEXTS) for _ in range(200)])
    wanted = run(corpus, "calm.jsonl").output.read_bytes()
    calm = {p.name: p.read_bytes() for p in (tmp_path / "shards").glob("*/0*")}
    for stop_at in (1, 7, 13):

        def stop(done, stop_at=stop_at):
            if done == stop_at * 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(corpus, shards=f"wild{stop_at}", on_progress=stop)
        assert run(corpus, shards=f"wild{stop_at}").output.read_bytes() == wanted
        assert {p.name: p.read_bytes() for p in (tmp_path / f"wild{stop_at}").glob("*/0*")} == calm


# ---- kills

_CHILD = """
import sys
from pathlib import Path
from langchain_falconer.corpus import open_corpus_files
from langchain_falconer.execute import Run
from langchain_falconer.settings import RunSettings
from langchain_falconer.model import Proxy
proxy, corpus, folder = map(Path, sys.argv[1:])
run = Run(Proxy.load(proxy), open_corpus_files([corpus]), folder / "shards", RunSettings(shard_texts=20))
run(folder / "out.jsonl")
"""


def test_killed_at_random_moments_it_ends_like_an_uninterrupted_run(proxy, proxy_folder, tmp_path):
    """FALCONER_KILLS=50 kills it fifty times."""
    rng = random.Random(11)
    pool = reviews(1_500)
    corpus = write_corpus(tmp_path / "c.jsonl", [rng.choice(pool) for _ in range(2_500)])
    calm = Run(proxy, open_corpus_files([corpus]), tmp_path / "calm", RunSettings(shard_texts=20))
    wanted = calm(tmp_path / "calm.jsonl").output.read_bytes()
    environment = os.environ | {"PYTHONPATH": str(Path(langchain_falconer.__file__).parents[1])}
    killed = trial = 0
    while killed < KILLS:
        folder = tmp_path / f"wild{trial}"
        folder.mkdir()
        trial += 1
        command = [sys.executable, "-c", _CHILD, *map(str, (proxy_folder, corpus, folder))]
        for _ in range(min(5, KILLS - killed)):
            before = len(list(folder.glob("shards/*/*.jsonl")))
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
            while process.poll() is None and len(list(folder.glob("shards/*/*.jsonl"))) == before:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.2)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, process.stderr.read().decode()
                break
        subprocess.run(command, env=environment, check=True, timeout=120)
        assert (folder / "out.jsonl").read_bytes() == wanted


# ---- disks, rows, texts


def test_a_full_disk_costs_the_shard_in_flight_and_one_sentence(run, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "c.jsonl", TEXTS)
    wanted = run(corpus, shards="calm").output.read_bytes()
    real = os.fsync
    writes = []

    def full(handle):
        writes.append(handle)
        if len(writes) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device.*free space.*run again") as caught:
        run(corpus)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(os, "fsync", real)
    assert len(list((tmp_path / "shards").glob("*/0*.json"))) == 2
    again = run(corpus)
    assert again.texts == 40
    assert again.output.read_bytes() == wanted
    assert not list(tmp_path.glob("**/.*partial*"))


def test_a_broken_row_costs_at_most_the_shards_in_flight(run, tmp_path):
    lines = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    broken = write_lines(tmp_path / "c.jsonl", [*lines[:55], {"id": "bad", "text": 7}, *lines[55:]])
    with pytest.raises(CorpusError, match="line 56"):
        run(open_corpus_files([broken]))
    assert len(list((tmp_path / "shards").glob("*/0*.json"))) >= 2


def test_only_changed_shards_are_computed_again(run, tmp_path):
    lines = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    run(write_lines(tmp_path / "c.jsonl", [*lines[:25], {"id": "x", "text": 7}, *lines[26:]]))
    repaired = run(write_lines(tmp_path / "c.jsonl", [*lines, {"id": "60", "text": "I love it, paid $3"}]))
    assert repaired.texts == 11
    assert repaired.statistics.failed == 0
    fresh = run(tmp_path / "c.jsonl", "fresh.jsonl", shards="fresh")
    assert rows(repaired) == rows(fresh)


def test_a_text_that_the_proxy_fails_on_is_a_row_with_its_reason(proxy, run, tmp_path):
    failing = TEXTS[23]
    corpus = write_corpus(tmp_path / "c.jsonl", [*TEXTS, failing])
    proxy.set_session(session := Counting(proxy, [failing]))
    report = run(corpus)
    result = rows(report)
    assert report.statistics.failed == 2
    message = "the proxy failed on this text: out of memory for this one"
    assert [row for row in result if "error" in row] == [
        {"id": i, "text": failing, "error": message} for i in ("r23", "r60")
    ]
    assert all("labels" in row for row in result if row["text"] != failing)
    session.failing, session.rows = [], 0
    assert run(corpus).statistics.failed == 2
    assert session.rows == 0
    retried = run(corpus, retry_failed=True)
    assert session.rows == 1
    assert (retried.texts, retried.statistics.failed, retried.statistics.total) == (2, 0, 61)
    retried_rows = rows(retried)
    assert [row for row in retried_rows if row["text"] != failing] == [row for row in result if row["text"] != failing]
    assert [retried_rows[i]["labels"] for i in (23, 60)] == [proxy.run([failing])[0].to_dict()["labels"]] * 2
    assert run(corpus, retry_failed=True).texts == 0


def test_a_proxy_that_answers_nothing_is_an_error_and_not_a_file_of_errors(proxy, run, tmp_path):
    proxy.set_session(Counting(proxy, TEXTS))
    with pytest.raises(RunError, match=r"answers no text at all .*out of memory.*another backend"):
        run(write_corpus(tmp_path / "c.jsonl", TEXTS))
    assert not list((tmp_path / "shards").glob("*/0*"))


@pytest.mark.parametrize("error", [AssertionError, AttributeError, KeyError, TypeError])
def test_a_bug_that_hits_every_text_propagates(error, proxy, run, tmp_path, monkeypatch):
    def broken(*_):
        raise error("a bug")

    proxy.set_session(session := Counting(proxy))
    monkeypatch.setattr(session, "run", broken)
    with pytest.raises(error, match="a bug"):
        run(write_corpus(tmp_path / "c.jsonl", TEXTS))
    assert not list((tmp_path / "shards").glob("*/0*"))


# ---- memory


def test_memory_is_flat(proxy, run, tmp_path):
    proxy.set_session(Blank(proxy))

    def peak(texts):
        corpus = write_corpus(tmp_path / f"{texts}.jsonl", (f"{i} I love it. " + "x " * 600 for i in range(texts)))
        tracemalloc.start()
        try:
            run(corpus)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)
    assert peak(600) - peak(100) < 400_000
