"""The ``ray`` engine: an actor pool of Ray Data answers the shards, on all machines of a cluster (extra ``ray``)."""

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
from langchain_falconer.execute.shards import Shard, answer
from langchain_falconer.model import Proxy
from langchain_falconer.threads import prefetch

_END = ""
_SHARDS_PER_WORKER = 4  # queued or running


def run_on_ray(proxy: Proxy, shards: Iterable[Shard], workers: int | None) -> Generator[Shard, None, None]:
    """Yield ``shards`` in order, answered by actors of one core each.

    Each actor loads the proxy once, from a copy of its files, so machines need no common disk. Connects to the cluster
    of ``RAY_ADDRESS``, or starts Ray on this machine.

    Args:
        proxy: A saved proxy.
        shards: The shards.
        workers: Number of actors; None for one per core of the cluster.

    Raises:
        RunError: The proxy is not saved or answers nothing, or Ray lost a worker or a task.
    """
    if proxy.path is None:
        raise RunError("Ray's workers load a proxy from its files; save it first")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # hides plans and progress; failures are raised
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    queue = Queue(workers * _SHARDS_PER_WORKER, {"num_cpus": 0})
    submitted = prefetch(_submit(shards, queue), workers * _SHARDS_PER_WORKER)
    try:
        with closing(submitted), closing(_answer_queue(proxy, queue, workers)) as replies:
            for shard in submitted:
                if shard.texts:
                    shard.store(_checked(shard, next(replies)))
                yield shard
            next(replies, None)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise RunError(f"Ray lost a worker or a task ({reason}); run again to resume") from error


def _submit(shards: Iterable[Shard], queue: Any) -> Iterator[Shard]:
    """Yield shards after their texts have been put into the queue of the actors."""
    for shard in shards:
        if shard.texts:
            queue.put(json.dumps([shard.index, shard.texts]))
        yield shard
    queue.put(_END)


def _answer_queue(proxy: Proxy, queue: Any, workers: int) -> Generator[dict[str, Any], None, None]:
    """Yield the actors' replies in the order of the queue."""
    files = ray.put({file.name: file.read_bytes() for file in (proxy.path or Path()).iterdir() if file.is_file()})
    requests = read_datasource(_QueueSource(queue), num_cpus=0, override_num_blocks=1)
    replies = requests.map_batches(
        _Worker,
        fn_constructor_args=(files, proxy.session.name),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    replies.context.execution_options.preserve_order = True
    replies.context.target_max_block_size = 1  # one block per shard, so that no shard waits for the next
    replies.context.enable_progress_bars = False
    try:
        yield from replies.iter_rows()
    finally:
        queue.shutdown(force=True)  # a task that still waits on it fails, and ends


def _checked(shard: Shard, reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers of a reply. Raises ``RunError`` if the actor failed or the reply is another shard's."""
    if reply["error"]:
        raise RunError(reply["error"])
    index, answers = json.loads(reply["answers"])
    if index != shard.index:
        raise RunError("Ray lost the order of its tasks, as when a machine is lost; run again to resume")
    return list(answers)


class _QueueSource(Datasource):  # type: ignore[misc]
    """The requests of a queue as a data source of Ray: one JSON string per shard."""

    def __init__(self, queue: Any) -> None:
        super().__init__()
        self._queue = queue

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
        """Return a single task, so that the shards stay in corpus order."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_requests, self._queue), unknown)]


def _requests(queue: Any) -> Iterator[pa.Table]:
    while (request := queue.get()) != _END:
        yield pa.table({"request": [request]})


class _Worker:
    """An actor with a proxy on one core."""

    def __init__(self, files: Any, backend: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="falconer-")  # an attribute: weights may be read later
        for name, content in ray.get(files).items():
            (Path(self._folder.name) / name).write_bytes(content)
        self._proxy = Proxy.load(self._folder.name)
        self._proxy.set_session(make_session(self._proxy, backend, threads=1))

    def __call__(self, batch: pa.Table) -> pa.Table:
        (request,) = batch.column("request").to_pylist()
        index, texts = json.loads(request)
        answers, failure = "", ""
        try:
            answers = json.dumps([index, list(answer(self._proxy, texts))])
        except FalconerError as error:
            failure = str(error)
        return pa.table({"answers": [answers], "error": [failure]})
