"""The ``ray`` engine: shards are answered by a pool of actors of Ray Data, on as many machines as Ray has (extra)."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Datasource, ReadTask, read_datasource
from ray.data.block import BlockMetadata
from ray.util.queue import Queue

from langchain_falconer.errors import FalconerError, RunError
from langchain_falconer.execute.backends import make_session
from langchain_falconer.execute.pipelining import prefetch
from langchain_falconer.execute.shards import Shard, answer
from langchain_falconer.model import Proxy

_END = ""
_WAITING = 4  # shards under way for each worker


def run_on_ray(proxy: Proxy, shards: Iterable[Shard], workers: int | None) -> Generator[Shard, None, None]:
    """``shards`` in order, answered by ``workers`` actors of one core each (by default one for each core of Ray's).

    Each actor loads the proxy once, from a copy of its files: machines need no common disk. Connects to the cluster
    that ``RAY_ADDRESS`` names, or starts Ray here.

    Raises:
        RunError: the proxy is not saved or answers nothing, or Ray lost what it was doing.
    """
    if proxy.path is None:
        raise RunError("a proxy goes to Ray's workers as files; save it first")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plans and progress; what fails is raised
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    queue = Queue(workers * _WAITING, {"num_cpus": 0})
    lane = prefetch(_feeding(shards, queue), workers * _WAITING)
    try:
        with closing(lane), closing(_pooled(proxy, queue, workers)) as told:
            for shard in lane:
                if shard.asked:
                    shard.tell(_received(shard, next(told)))
                yield shard
            next(told, None)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise RunError(f"Ray lost a worker or a task ({reason}); run again to go on") from None


def _feeding(shards: Iterable[Shard], queue: Any) -> Iterator[Shard]:
    """Shards, once those who are to answer their texts have been told of them."""
    for shard in shards:
        if shard.asked:
            queue.put(json.dumps([shard.index, shard.asked]))
        yield shard
    queue.put(_END)


def _pooled(proxy: Proxy, queue: Any, workers: int) -> Generator[dict[str, Any], None, None]:
    """What the pool answers, in the order of the questions."""
    files = ray.put({file.name: file.read_bytes() for file in (proxy.path or Path()).iterdir() if file.is_file()})
    questions = read_datasource(_Questions(queue), num_cpus=0, override_num_blocks=1)
    answers = questions.map_batches(
        _Worker,
        fn_constructor_args=(files, proxy.session.name),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    answers.context.execution_options.preserve_order = True
    answers.context.target_max_block_size = 1  # a block for each shard: none waits for another to come
    answers.context.enable_progress_bars = False
    try:
        yield from answers.iter_rows()
    finally:
        queue.shutdown(force=True)  # whoever still waits at it fails, and ends


def _received(shard: Shard, row: dict[str, Any]) -> list[dict[str, Any]]:
    if row["error"]:
        raise RunError(row["error"])
    index, parts = json.loads(row["told"])
    if index != shard.index:
        raise RunError("Ray lost the order of its tasks, as when a machine is lost; run again to go on")
    return list(parts)


class _Questions(Datasource):  # type: ignore[misc]
    """The texts that are asked about, shard by shard, as they are put into a queue."""

    def __init__(self, queue: Any) -> None:
        super().__init__()
        self._queue = queue

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
        """One task: the order of the shards is that of the corpus."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_taken, self._queue), unknown)]


def _taken(queue: Any) -> Iterator[Any]:
    while (asked := queue.get()) != _END:
        yield pa.table({"asked": [asked]})


class _Worker:
    """An actor with a proxy on one core."""

    def __init__(self, files: Any, backend: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="falconer-")  # kept: weights may be read later
        for name, content in ray.get(files).items():
            (Path(self._folder.name) / name).write_bytes(content)
        self._proxy = Proxy.load(self._folder.name)
        self._proxy.set_session(make_session(self._proxy, backend, threads=1))

    def __call__(self, batch: Any) -> Any:
        (asked,) = batch.column("asked").to_pylist()
        index, texts = json.loads(asked)
        told, failed = "", ""
        try:
            told = json.dumps([index, list(answer(self._proxy, texts))])
        except FalconerError as error:
            failed = str(error)
        return pa.table({"told": [told], "error": [failed]})
