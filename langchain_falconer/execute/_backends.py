"""Backends and their autotune: the fastest that decides like the float32 original, measured on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from langchain_falconer.errors import ProxyError, SettingsError
from langchain_falconer.proxy import OnnxSession, Proxy, Session, SlotWeights, cores
from langchain_falconer.records import Answers

AGREEMENT = 0.99
Backend = Literal["auto", "onnx", "torch", "torch-bf16", "openvino"]
BACKENDS = get_args(Backend)[1:]
NO_OPENVINO = "OpenVINO is not installed; run: pip install 'langchain-falconer[openvino]'"
_SAMPLE = 192
_REPEATS = 3


@dataclass(frozen=True)
class Candidate:
    """A backend as measured: pace, and the share of decisions it shares with torch float32."""

    name: str
    texts_per_second: float | None
    """None where there was no other backend to compare with."""
    agreement: float
    refused: str | None = None


@dataclass(frozen=True)
class BackendChoice:
    """The backend that a proxy runs on here, and what it was measured against."""

    name: str
    agreement: float
    candidates: tuple[Candidate, ...]
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON data, as the proxy's manifest keeps it."""
        return asdict(self)


def choose_backend(proxy: Proxy, texts: Sequence[str], wanted: str = "auto") -> BackendChoice:
    """Make ``proxy`` compute with the fastest backend whose decisions agree with torch float32 on ``texts``.

    An automatic choice made before on this machine is taken from the manifest. ``wanted`` names one backend instead,
    refused all
    the same if its decisions differ. Timings are medians of three passes over at most 192 texts.

    Raises:
        SettingsError: no such backend.
        ProxyError: the wanted backend is missing here, or its agreement is below :data:`AGREEMENT`.
    """
    if wanted not in ("auto", *BACKENDS):
        raise SettingsError(f"there is no backend '{wanted}'; choose auto, {', '.join(BACKENDS)}")
    kept = proxy.manifest.get("backend")
    if kept and kept["machine"] == machine() and wanted in ("auto", kept["name"]):
        proxy.use(session_of(proxy, kept["name"]))
        return BackendChoice(**{**kept, "candidates": tuple(Candidate(**c) for c in kept["candidates"])})
    names = _available(proxy) if wanted == "auto" else [wanted]
    choice, session = _measure(proxy, names, texts[:_SAMPLE])
    proxy.use(session)
    if wanted == "auto":
        proxy.note(backend=choice.to_dict())
    return choice


def machine() -> str:
    """What a choice of backend holds for: processor, core count and library versions, hashed."""
    facts = [platform.machine(), platform.processor(), _cpu_flags(), str(cores())]
    facts += [f"{name} {_version(name)}" for name in ("torch", "onnxruntime", "openvino")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _measure(proxy: Proxy, names: Sequence[str], texts: Sequence[str]) -> tuple[BackendChoice, Session]:
    original = proxy.torch_session()
    proxy.use(original)
    reference = proxy.answers(texts, everything=True)
    measured: list[tuple[Candidate, Session]] = []
    for name in names:
        session = original if name == "torch" else session_of(proxy, name)
        proxy.use(session)
        agreement = decisions_alike(reference, proxy.answers(texts, everything=True))
        refused = None if agreement >= AGREEMENT else f"only {agreement:.1%} of its decisions are those of float32"
        # With nothing to choose between, there is nothing to time.
        timed = refused is None and len(names) > 1
        pace = _pace(lambda: proxy.answers(texts, everything=True), len(texts)) if timed else None
        measured.append((Candidate(name, pace, round(agreement, 4), refused), session))
    fit = [(c, s) for c, s in measured if c.refused is None]
    if not fit:
        refused = "; ".join(f"{c.name}: {c.refused}" for c, _ in measured)
        raise ProxyError(f"no backend decides like the original ({refused}); use backend='torch'")
    best, session = max(fit, key=lambda pair: pair[0].texts_per_second or 0.0)
    return BackendChoice(best.name, best.agreement, tuple(c for c, _ in measured), machine()), session


def _pace(work: Callable[[], object], texts: int) -> float:
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return round(texts / max(1e-9, statistics.median(seconds)), 1)


def decisions_alike(one: Sequence[Answers], other: Sequence[Answers]) -> float:
    """The share of (text, step) decisions that are the same: the same label, the same set of spans."""
    same = total = 0
    for a, b in zip(one, other, strict=True):
        for step_id, label in a.labels.items():
            total += 1
            same += step_id in b.labels and label.value == b.labels[step_id].value
        for step_id, spans in a.spans.items():
            total += 1
            same += {(s.start, s.end) for s in spans} == {(s.start, s.end) for s in b.spans.get(step_id, ())}
    return same / total if total else 1.0


def _available(proxy: Proxy) -> list[str]:
    exported = _onnx_file(proxy).is_file()
    names = ["onnx"] if exported else ["torch"]
    if _has_bf16():
        names.append("torch-bf16")
        if exported and importlib.util.find_spec("openvino"):
            names.append("openvino")
    return names


def session_of(proxy: Proxy, name: str, threads: int | None = None) -> Session:
    """A proxy's session by the backend's name, on all cores of this process if nothing else is said.

    How many threads torch takes is a setting of the whole process, and left as it is.
    """
    if name == "onnx":
        return OnnxSession(_exported(proxy), threads)
    if name == "openvino":
        return OpenVinoSession(_exported(proxy), threads)
    return proxy.torch_session(bf16=name == "torch-bf16")


def _onnx_file(proxy: Proxy) -> Path:
    return (proxy.path or Path()) / "model.onnx"


def _exported(proxy: Proxy) -> Path:
    if proxy.path is None:
        raise ProxyError("a proxy runs on ONNX once it is saved and exported; save it first, or use backend='torch'")
    if not _onnx_file(proxy).is_file():
        proxy.export()
    return _onnx_file(proxy)


class OpenVinoSession:
    """OpenVINO on the exported model, in bf16 where the processor multiplies it (extra ``openvino``)."""

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise ProxyError(NO_OPENVINO) from None
        hints = {"INFERENCE_NUM_THREADS": threads or cores(), "PERFORMANCE_HINT": "LATENCY"}
        hints |= {"INFERENCE_PRECISION_HINT": "bf16" if _has_bf16() else "f32"}
        self._model = openvino.Core().compile_model(str(path), "CPU", hints)

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: SlotWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`langchain_falconer.proxy.Session`."""
        found = self._model({"input_ids": ids, "attention_mask": mask, **weights.arrays()})
        return np.array(found["span_scores"]), np.array(found["label_scores"])


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _has_bf16() -> bool:
    return any(flag in _cpu_flags().split() for flag in ("amx_bf16", "avx512_bf16"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
