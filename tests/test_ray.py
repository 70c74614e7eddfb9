"""The ray engine: the rows are those of the local one, byte for byte, whichever of the two does what part."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from laptops import reviews, write_corpus

import langchain_falconer
from langchain_falconer.corpus import CorpusSettings, open_corpus_files
from langchain_falconer.execute import Run, RunSettings

# Ray in a process of its own: it starts daemons, and talks to more hosts than tests may.
_CHILD = """
import sys
from pathlib import Path
import ray
from langchain_falconer.corpus import CorpusSettings, open_corpus_files
from langchain_falconer.execute import Run, RunSettings
from langchain_falconer.proxy import Proxy
folder, corpus = map(Path, sys.argv[2:])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
settings = RunSettings(shard_texts=2, engine="ray", workers=2)
run = Run(Proxy.load(sys.argv[1]), open_corpus_files([corpus], CorpusSettings(on_bad_row="record")), folder, settings)
def stop(done):
    if done == 40:
        raise KeyboardInterrupt
try:
    run(None, stop)
    sys.exit("it was to stop")
except KeyboardInterrupt:
    pass
print(run(folder / "out.jsonl").texts)
"""


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed (extra ray)")
def test_ray_with_two_workers_stopped_and_run_again_gives_the_bytes_of_local(proxy, proxy_folder, tmp_path):
    odd = ["", "x" * 2500, "👩‍👩‍👧 $5\r\nI love it, paid $77"]
    corpus = write_corpus(tmp_path / "c.jsonl", [*reviews(80), *reviews(5), *odd])
    texts = open_corpus_files([corpus], CorpusSettings(on_bad_row="record"))
    local = Run(proxy, texts, tmp_path / "local", RunSettings(shard_texts=2))(tmp_path / "local.jsonl")
    command = [sys.executable, "-c", _CHILD, str(proxy_folder), str(tmp_path), str(corpus)]
    package = Path(langchain_falconer.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out.jsonl").read_bytes() == local.output.read_bytes()
    assert json.loads(done.stdout.splitlines()[-1]) == 88 - 40
