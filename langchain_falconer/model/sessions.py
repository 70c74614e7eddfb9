"""What runs the network: one interface, numpy in and out, whatever computes behind it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, Protocol

import numpy as np

from langchain_falconer.errors import ProxyError

LABEL_SCALE = 16.0
"""By what the network multiplies the product of a text and a label head."""


@dataclass(frozen=True)
class HeadWeights:
    """The heads of a plan as arrays: (3S, d), (3S), (L, d), (L), all float32."""

    span_weight: np.ndarray
    span_bias: np.ndarray
    label_weight: np.ndarray
    label_bias: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return dict(vars(self))

    def take(self, span_rows: Sequence[int], label_rows: Sequence[int]) -> HeadWeights:
        """Only these heads, in this order."""
        tokens = [3 * row + state for row in span_rows for state in range(3)]
        labels = list(label_rows)
        return HeadWeights(
            self.span_weight[tokens], self.span_bias[tokens], self.label_weight[labels], self.label_bias[labels]
        )

    def mean(self, other: HeadWeights) -> HeadWeights:
        """Halfway between these heads and others of the same plan."""
        theirs = other.arrays()
        return HeadWeights(**{name: (mine + theirs[name]) / 2 for name, mine in self.arrays().items()})


class Session(Protocol):
    """Computes token scores (B, T, 3S) and label scores (B, L), float32, for a batch of token ids."""

    name: str
    n_parallel: int
    """How many batches it computes at once, each on one core; with 1, a batch takes all of them."""

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """The scores of every head; ``ids`` and ``mask`` are (B, T) int64."""
        ...


def cores() -> int:
    """The CPUs that this process may use (containers and affinity counted), not those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_executor(n_parallel: int) -> ThreadPoolExecutor:
    """The threads that a session computes in, whoever asks: the batches of all wait their turn."""
    if n_parallel == 1:
        return ThreadPoolExecutor(1, "falconer-core")
    import torch

    started, threads = Barrier(n_parallel + 1), torch.get_num_threads()

    def alone() -> None:
        torch.get_num_threads()  # a thread takes over the common number when it first looks
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(n_parallel, "falconer-core", alone)
    for _ in range(n_parallel):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)  # what threads to come take was changed too
    return pool


class TorchSession:
    """torch on the CPU in float32 or bfloat16, or on a CUDA device in bfloat16."""

    n_parallel = 1

    def __init__(self, model: Any, *, bf16: bool = False, device: str = "cpu") -> None:
        import copy

        import torch

        self._torch = torch
        original = device == "cpu" and not bf16
        self._dtype = torch.float32 if original else torch.bfloat16
        self._device = device
        # Others are copies: the float32 original stays what they are measured against.
        self._model = model.eval() if original else copy.deepcopy(model).to(device, self._dtype).eval()
        self.name = "torch" if original else "torch-bf16" if device == "cpu" else device

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        torch = self._torch
        heads = [torch.from_numpy(a).to(self._device, self._dtype) for a in weights.arrays().values()]
        with torch.inference_mode():
            text = (torch.from_numpy(a).to(self._device) for a in (ids, mask))
            spans, labels = self._model(*text, *heads)
        return spans.float().cpu().numpy(), labels.float().cpu().numpy()


class OnnxSession:
    """ONNX Runtime on the CPU, threads from the CPU set (it ignores OMP_NUM_THREADS and containers)."""

    n_parallel = 1

    def __init__(self, path: Path, name: str = "onnx", threads: int | None = None) -> None:
        import onnxruntime

        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin while they wait starve everything else on the machine, and gain nothing on these batches.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises bare pybind errors
            raise ProxyError(
                f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0][:160]}; train or export again"
            ) from None

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        feed = {"input_ids": ids, "attention_mask": mask, **weights.arrays()}
        spans, labels = self._session.run(["span_scores", "label_scores"], feed)
        return spans, labels
