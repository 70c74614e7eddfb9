"""Inference sessions: one interface, numpy in and out, for torch and ONNX Runtime."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, Protocol

import numpy as np

from langchain_falconer.errors import ProxyError, first_line

TOKENS_PER_BATCH = 1024
_TOKENS_PER_GPU_BATCH = 2**15
LABEL_SCALE = 16.0
"""Logit scale of label scores: factor on the product of the text vector and a label head."""


@dataclass(frozen=True)
class HeadWeights:
    """The query heads of a plan as float32 arrays.

    Attributes:
        span_weight: (3S, d), the rows outside, begin and inside of each span head.
        span_bias: (3S,).
        label_weight: (L, d).
        label_bias: (L,).
    """

    span_weight: np.ndarray
    span_bias: np.ndarray
    label_weight: np.ndarray
    label_bias: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return dict(vars(self))

    def take(self, span_rows: Sequence[int], label_rows: Sequence[int]) -> HeadWeights:
        """Select these heads, in this order."""
        tokens = [3 * row + state for row in span_rows for state in range(3)]
        labels = list(label_rows)
        return HeadWeights(
            self.span_weight[tokens], self.span_bias[tokens], self.label_weight[labels], self.label_bias[labels]
        )

    def followed_by(self, other: HeadWeights) -> HeadWeights:
        """Return these heads, then those of another."""
        others = other.arrays()
        return HeadWeights(**{name: np.concatenate([array, others[name]]) for name, array in self.arrays().items()})

    def towards(self, other: HeadWeights, share: float) -> HeadWeights:
        """Move these heads a share of the way to others of the same plan."""
        others = other.arrays()
        return HeadWeights(**{name: array + share * (others[name] - array) for name, array in self.arrays().items()})


class Session(Protocol):
    """Computes token scores (B, T, 3S) and label scores (B, L), float32, for a batch of token ids.

    Attributes:
        name: Name of the backend.
        n_parallel: Batches computed at once, each on one core; with 1, a batch uses all cores.
        tokens_per_batch: Padded tokens that a batch holds at most.
    """

    name: str
    n_parallel: int
    tokens_per_batch: int

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of every head; ``ids`` and ``mask`` are (B, T) int64."""
        ...


def cores() -> int:
    """Count the CPUs that this process may use (within its container and affinity), not those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_flags() -> list[str]:
    """Return the processor's extensions as Linux names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((line for line in lines if line.startswith("flags")), "").split()[2:]


def make_executor(n_parallel: int) -> ThreadPoolExecutor:
    """Make the executor that a session computes in; it is shared by all callers, whose batches queue."""
    if n_parallel == 1 or "torch" not in sys.modules:
        return ThreadPoolExecutor(n_parallel, "falconer-core")
    import torch

    started, threads = Barrier(n_parallel + 1), torch.get_num_threads()

    def use_one_core() -> None:
        torch.get_num_threads()  # the first call copies the global number to this thread
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(n_parallel, "falconer-core", use_one_core)
    for _ in range(n_parallel):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)  # set_num_threads changed the global number as well
    return pool


class TorchSession:
    """torch in float32 or bfloat16, on any of its devices.

    Args:
        model: A :class:`QueryHeadModel`.
        bf16: Compute in bfloat16.
        device: Type of the device, see :func:`resolve_device`.
    """

    n_parallel = 1

    def __init__(self, model: Any, *, bf16: bool = False, device: str = "cpu") -> None:
        import copy

        import torch

        self._torch = torch
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._device = device
        # Other sessions use copies: the float32 original stays the reference for them.
        original = device == "cpu" and not bf16
        self._model = model.eval() if original else copy.deepcopy(model).to(device, self._dtype).eval()
        self.name = ("torch-bf16" if bf16 else "torch") + ("" if device == "cpu" else f":{device}")
        self.tokens_per_batch = TOKENS_PER_BATCH if device == "cpu" else _TOKENS_PER_GPU_BATCH

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        torch = self._torch
        heads = [torch.from_numpy(a).to(self._device, self._dtype) for a in weights.arrays().values()]
        with torch.inference_mode():
            text = (torch.from_numpy(a).to(self._device) for a in (ids, mask))
            spans, labels = self._model(*text, *heads)
        return spans.float().cpu().numpy(), labels.float().cpu().numpy()


class OnnxSession:
    """ONNX Runtime on the CPU, each batch on one core: shared by all cores, it would wait for them at each operator.

    Args:
        path: The ONNX file.
        name: Name of the backend.
        threads: Batches computed at once; by default as many as the CPUs of this process.

    Raises:
        ProxyError: ONNX Runtime cannot load the file.
    """

    tokens_per_batch = 512  # more would not fit the cache of a core

    def __init__(self, path: Path, name: str = "onnx", threads: int | None = None) -> None:
        import onnxruntime

        self.name = name
        self.n_parallel = threads or cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises bare pybind errors
            raise ProxyError(f"ONNX Runtime cannot load {path}: {first_line(error)}; train or export again") from None

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        feed = {"input_ids": ids, "attention_mask": mask, **weights.arrays()}
        spans, labels = self._session.run(["span_scores", "label_scores"], feed)
        return spans, labels
