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

from langchain_falconer.annotate import Annotation
from langchain_falconer.errors import AnnotationError, ProxyError, SettingsError
from langchain_falconer.evaluate import evaluate_plan
from langchain_falconer.proxy import FILES, OnnxSession, Proxy, Session, SlotWeights, cores
from langchain_falconer.records import Answers

AGREEMENT = 0.99
LOSS = 0.005
"""What a backend may lose against annotations, as the mean over steps of F1 or accuracy."""
Backend = Literal["auto", "onnx", "onnx-int8", "torch", "torch-bf16", "openvino", "cuda"]
BACKENDS = get_args(Backend)[1:]
NO_CUDA = "torch finds no GPU here (CUDA); choose another backend, or auto"
NO_OPENVINO = "OpenVINO is not installed; run: pip install 'langchain-falconer[openvino]'"
_SAMPLE = 192
_REPEATS = 3
_REVISION = 2
"""Of what computes: a choice that was measured with another is measured anew."""


@dataclass(frozen=True)
class Candidate:
    """A backend as measured: pace, and the share of decisions it shares with torch float32."""

    name: str
    texts_per_second: float | None
    """None where there was no other backend to compare with, or this one was refused."""
    agreement: float
    loss: float | None = None
    """What it loses against annotations, as the mean over steps of F1 or accuracy; None without annotations."""
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


def choose_backend(
    proxy: Proxy, texts: Sequence[str], wanted: str = "auto", held_out: Sequence[Annotation] = ()
) -> BackendChoice:
    """Make ``proxy`` compute with the fastest backend that decides as torch float32 does on ``texts``.

    It is also to answer ``held_out`` annotations as well. An automatic choice made before on this machine is taken from
    the manifest. ``wanted`` names one backend instead, refused all the same if it decides otherwise. Timings are
    medians of three passes over at most 192 texts.

    Raises:
        SettingsError: no such backend.
        ProxyError: the wanted backend is missing here, agrees on less than :data:`AGREEMENT` of the decisions, or loses
            more than :data:`LOSS` against the annotations.
    """
    if wanted not in ("auto", *BACKENDS):
        raise SettingsError(f"there is no backend '{wanted}'; choose auto, {', '.join(BACKENDS)}")
    kept = proxy.manifest.get("backend")
    if kept and kept["machine"] == machine() and wanted in ("auto", kept["name"]):
        proxy.use(session_of(proxy, kept["name"]))
        return BackendChoice(**{**kept, "candidates": tuple(Candidate(**c) for c in kept["candidates"])})
    names = _available(proxy) if wanted == "auto" else [wanted]
    choice, session = _measure(proxy, names, texts[:_SAMPLE], held_out)
    proxy.use(session)
    if wanted == "auto":
        proxy.note(backend=choice.to_dict())
    return choice


def machine() -> str:
    """What a choice of backend holds for: processor, core count, what computes and library versions, hashed."""
    facts = [platform.machine(), platform.processor(), _cpu_flags(), str(cores()), str(_REVISION)]
    facts += [f"{name} {_version(name)}" for name in ("torch", "onnxruntime", "openvino")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _measure(
    proxy: Proxy, names: Sequence[str], texts: Sequence[str], held_out: Sequence[Annotation]
) -> tuple[BackendChoice, Session]:
    original = proxy.torch_session()
    proxy.use(original)
    reference, best_score = proxy.answers(texts, everything=True), _score(proxy, held_out)
    measured: list[tuple[Candidate, Session]] = []
    for name in names:
        session = original if name == "torch" else session_of(proxy, name)
        proxy.use(session)
        agreement = decisions_alike(reference, proxy.answers(texts, everything=True))
        score = _score(proxy, held_out) if agreement >= AGREEMENT else None
        loss = None if score is None or best_score is None else best_score - score
        refused = _objection(agreement, loss)
        # With nothing to choose between, there is nothing to time.
        timed = refused is None and len(names) > 1
        pace = _pace(lambda: proxy.answers(texts, everything=True), len(texts)) if timed else None
        lost = None if loss is None else round(loss, 4)
        measured.append((Candidate(name, pace, round(agreement, 4), lost, refused), session))
    fit = [(c, s) for c, s in measured if c.refused is None]
    if not fit:
        refused = "; ".join(f"{c.name}: {c.refused}" for c, _ in measured)
        raise ProxyError(f"no backend decides like the original ({refused}); use backend='torch'")
    best, session = max(fit, key=lambda pair: pair[0].texts_per_second or 0.0)
    return BackendChoice(best.name, best.agreement, tuple(c for c, _ in measured), machine()), session


def _score(proxy: Proxy, held_out: Sequence[Annotation]) -> float | None:
    """The mean over steps of F1 or accuracy; None where no step is annotated."""
    predicted = proxy.answers([a.text for a in held_out], everything=True)
    try:
        steps = evaluate_plan(proxy.plan, [a.answers for a in held_out], predicted).steps.values()
    except AnnotationError:
        return None
    return statistics.mean(step.score.value for step in steps)


def _objection(agreement: float, loss: float | None) -> str | None:
    """Why a backend will not do; None if it will."""
    if agreement < AGREEMENT:
        return f"only {agreement:.1%} of its decisions are those of float32"
    if loss is not None and loss > LOSS:
        return f"it scores {loss:.1%} less than float32 against the annotations"
    return None


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
    exported = proxy.path is not None and _onnx_file(proxy.path).is_file()
    names = ["onnx", "onnx-int8"] if exported else ["torch"]
    if has_cuda():
        names.append("cuda")
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
        return OnnxSession(_exported(proxy), name, threads)
    if name == "onnx-int8":
        return OnnxSession(_quantised(proxy), name, threads)
    if name == "openvino":
        return OpenVinoSession(_exported(proxy), threads)
    if name == "cuda":
        if not has_cuda():
            raise ProxyError(NO_CUDA)
        return proxy.torch_session(device="cuda")
    return proxy.bf16_session(threads) if name == "torch-bf16" else proxy.torch_session()


def _onnx_file(folder: Path) -> Path:
    return folder / FILES["onnx"]


def _exported(proxy: Proxy) -> Path:
    if proxy.path is None:
        raise ProxyError("a proxy runs on ONNX once it is saved and exported; save it first, or use backend='torch'")
    file = _onnx_file(proxy.path)
    if not file.is_file():
        proxy.export()
    return file


def _quantised(proxy: Proxy) -> Path:
    """The int8 model, made when it is first asked for."""
    file = _exported(proxy).with_name(FILES["int8"])
    if not file.is_file():
        proxy.quantize()
    return file


class OpenVinoSession:
    """OpenVINO on the exported model, in bf16 where the processor multiplies it (extra ``openvino``)."""

    name = "openvino"
    at_once = 1

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


def has_cuda() -> bool:
    """Whether torch can compute on a GPU."""
    import torch

    return torch.cuda.is_available()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
