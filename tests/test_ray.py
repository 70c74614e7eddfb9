"""The ray engine: the rows are those of the local one, byte for byte, whichever of them computes a part."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from laptops import reviews, write_corpus

import langchain_falconer
from langchain_falconer.corpus import open_corpus_files
from langchain_falconer.execute import Run
from langchain_falconer.settings import CorpusSettings, RunSettings

# Ray in a process of its own: it starts daemons, and talks to more hosts than tests may.
_BEGIN = """
import json, os, signal, sys
from pathlib import Path
import ray
from langchain_falconer.corpus import open_corpus_files
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import as_place
from langchain_falconer.execute import Run
from langchain_falconer.settings import RunSettings
from langchain_falconer.model import Proxy
folder, corpus = Path(sys.argv[2]), sys.argv[3]
options = dict(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
settings = RunSettings(shard_texts=2, engine="ray", workers=2)
run = Run(Proxy.load(sys.argv[1]), open_corpus_files([corpus], CorpusSettings(on_bad_row="record")), folder, settings)
"""
_STOPPED = f"""{_BEGIN}
ray.init(**options)
def stop(done):
    if done == 40:
        raise KeyboardInterrupt
try:
    run(None, stop)
    sys.exit("it should have stopped")
except KeyboardInterrupt:
    pass
print(run(folder / "out.jsonl").texts)
"""
# Workers log what they compute; one of them, under the raylet of this process, is killed.
_LOST = f"""{_BEGIN}
def log_texts():
    answers = Proxy.answers
    def logged(self, texts, **options):
        with (folder / f"log-{{os.getpid()}}").open("a") as out:
            out.write(json.dumps(list(texts)) + "\\n")
        return answers(self, texts, **options)
    Proxy.answers = logged
def parent(pid):
    return int(Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[1])
def kill(done):
    if done == 40:
        pid = next(int(log.name.split("-")[1]) for log in folder.glob("log-*"))
        assert parent(parent(pid)) == os.getpid()
        os.kill(pid, signal.SIGKILL)
ray.init(runtime_env={{"worker_process_setup_hook": log_texts}}, **options)
run(as_place(f"file://{{folder}}/out.parquet"), kill)
"""


def ray_child(code, *arguments):
    package = Path(langchain_falconer.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed (extra ray)")


@needs_ray
def test_ray_with_two_workers_stopped_and_run_again_gives_the_bytes_of_local(proxy, proxy_folder, tmp_path):
    odd = ["", "x" * 2500, "👩‍👩‍👧 $5\r\nI love it, paid $77"]
    corpus = write_corpus(tmp_path / "c.jsonl", [*reviews(80), *reviews(5), *odd])
    texts = open_corpus_files([corpus], CorpusSettings(on_bad_row="record"))
    local = Run(proxy, texts, tmp_path / "local", RunSettings(shard_texts=2))(tmp_path / "local.jsonl")
    output = ray_child(_STOPPED, proxy_folder, tmp_path, corpus)
    assert (tmp_path / "out.jsonl").read_bytes() == local.output.read_bytes()
    assert [line for line in output.splitlines() if line.isdigit()] == [str(88 - 40)], (
        "besides the output of Ray itself"
    )


@needs_ray
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process's parent is read from /proc")
def test_a_worker_that_is_killed_costs_the_shard_in_flight_and_no_row(proxy, proxy_folder, tmp_path):
    corpus = write_corpus(tmp_path / "c.jsonl", reviews(160))
    local = Run(proxy, open_corpus_files([corpus]), tmp_path / "local", RunSettings(shard_texts=2))
    local(tmp_path / "local.parquet")
    ray_child(_LOST, proxy_folder, tmp_path, f"file://{corpus}")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
    logs = [file.read_text().splitlines() for file in tmp_path.glob("log-*")]
    assert len(logs) == 3, "two workers, and the replacement of the killed one"
    computed = [text for lines in logs for line in lines for text in json.loads(line)]
    assert len(computed) - len(set(computed)) <= 2, "one shard"
    assert set(computed) == set(reviews(160))
