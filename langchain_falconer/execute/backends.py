"""Inference backends and their automatic choice: the fastest that decides like torch float32 on this machine."""

from __future__ import annotations

import importlib.util
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.errors import AnnotationError, ProxyError, SettingsError
from langchain_falconer.evaluate import evaluate_plan
from langchain_falconer.files import digest
from langchain_falconer.model import FILES, HeadWeights, OnnxSession, Proxy, Session, cores
from langchain_falconer.records import Answers, FrozenModel
from langchain_falconer.settings import BackendName, RunSettings

MIN_AGREEMENT = 0.99
"""Minimum share of decisions that a backend must have in common with torch float32."""
MAX_LOSS = 0.005
"""Maximum loss of a backend against annotations, as the mean over steps of F1 or accuracy."""
BACKENDS = get_args(BackendName)[1:]
NO_CUDA = "torch finds no GPU here (CUDA); choose another backend, or auto"
NO_OPENVINO = "OpenVINO is not installed; run: pip install 'langchain-falconer[openvino]'"
_NO_RAY = "Ray is not installed; run: pip install 'langchain-falconer[ray]', or choose the engine local"
_SAMPLE_TEXTS = 192
_REPEATS = 3
_CACHE_VERSION = 3
"""Incremented when a backend changes, so that choices of earlier versions are measured again."""


class Candidate(FrozenModel):
    """The measurement of a backend.

    Attributes:
        name: Name of the backend.
        texts_per_second: Throughput; None where there was nothing to compare with, or the backend was refused.
        agreement: Share of decisions in common with torch float32; None where it could not compute.
        loss: Loss against annotations, as the mean over steps of F1 or accuracy; None without annotations.
        refused: Why the backend was refused; None if it was not.
    """

    name: str
    texts_per_second: float | None = None
    agreement: float | None = None
    loss: float | None = None
    refused: str | None = None


class BackendChoice(FrozenModel):
    """The backend chosen for a proxy on this machine, with all measurements.

    Attributes:
        name: Name of the backend.
        agreement: Share of decisions in common with torch float32.
        candidates: Every backend that was measured.
        machine: Hash of processor, cores and library versions that the choice holds for.
    """

    name: str
    agreement: float | None = None
    candidates: tuple[Candidate, ...] = ()
    machine: str = ""


def check_run(settings: RunSettings) -> None:
    """Check early that backend and engine are available. Raises ``SettingsError`` if one is not."""
    if settings.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise SettingsError(_NO_RAY, field="run.engine")
    check_backend(settings.backend)


def check_backend(name: str) -> None:
    """Check early that a backend is available. Raises ``SettingsError`` if it is not."""
    if name not in ("auto", *BACKENDS):
        raise SettingsError(f"there is no backend '{name}'; choose auto, {', '.join(BACKENDS)}", field="run.backend")
    if name == "openvino" and importlib.util.find_spec("openvino") is None:
        raise SettingsError(NO_OPENVINO, field="run.backend")
    if name == "cuda" and not has_cuda():
        raise SettingsError(NO_CUDA, field="run.backend")


def choose_backend(
    proxy: Proxy, texts: Sequence[str], wanted: str = "auto", development: Sequence[Annotation] = ()
) -> BackendChoice:
    """Set the session of ``proxy`` to the fastest backend that decides as torch float32 does on ``texts``.

    A backend that raises, decides differently or loses against the annotations is refused. An earlier automatic choice
    on this machine is read from the manifest. Timings are medians of three passes over at most 192 texts.

    Args:
        proxy: The proxy; its session is replaced.
        texts: Texts of the corpus.
        wanted: One backend, which is refused too if it decides differently; or ``auto``.
        development: Annotations that the backend must answer as well as torch float32.

    Raises:
        SettingsError: No such backend, or it is not available here.
        ProxyError: No backend, or not the wanted one, decides like torch float32.
    """
    check_backend(wanted)
    cached = proxy.manifest.get("backend")
    if cached and cached["machine"] == machine() and wanted in ("auto", cached["name"]):
        proxy.set_session(make_session(proxy, cached["name"]))
        return BackendChoice.model_validate(cached)
    names = _available(proxy) if wanted == "auto" else [wanted]
    choice, session = _measure(proxy, names, texts[:_SAMPLE_TEXTS], development)
    proxy.set_session(session)
    if wanted == "auto":
        proxy.update_manifest(backend=choice.model_dump(mode="json"))
    return choice


def machine() -> str:
    """Return a digest of what a choice of backend depends on: processor, cores, library and cache versions."""
    facts = [platform.machine(), platform.processor(), _cpu_flags(), str(cores()), str(_CACHE_VERSION)]
    facts += [f"{name} {_version(name)}" for name in ("torch", "onnxruntime", "openvino")]
    return digest(*facts)


def _measure(
    proxy: Proxy, names: Sequence[str], texts: Sequence[str], development: Sequence[Annotation]
) -> tuple[BackendChoice, Session]:
    original = proxy.torch_session()
    proxy.set_session(original)
    reference = _Reference(texts, development, proxy.answers(texts, apply_conditions=False), _score(proxy, development))
    measured: list[tuple[Candidate, Session]] = []
    for name in names:
        try:
            session = original if name == "torch" else make_session(proxy, name)
            measured.append((reference.measure(proxy, name, session, timed=len(names) > 1), session))
        except Exception as error:  # a private operator that changed, an export that does not load: try the next one
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            measured.append((Candidate(name=name, refused=f"it failed: {reason[:200]}"), original))
    accepted = [(c, s) for c, s in measured if c.refused is None]
    if not accepted:
        reasons = "; ".join(f"{c.name}: {c.refused}" for c, _ in measured)
        raise ProxyError(f"no backend decides like the original ({reasons}); use backend='torch'")
    best, session = max(accepted, key=lambda pair: pair[0].texts_per_second or 0.0)
    candidates = tuple(c for c, _ in measured)
    return BackendChoice(name=best.name, agreement=best.agreement, candidates=candidates, machine=machine()), session


@dataclass(frozen=True)
class _Reference:
    """The decisions of torch float32, and its score against annotations."""

    texts: Sequence[str]
    development: Sequence[Annotation]
    answers: Sequence[Answers]
    score: float | None

    def measure(self, proxy: Proxy, name: str, session: Session, *, timed: bool) -> Candidate:
        proxy.set_session(session)
        agreement = share_of_equal_decisions(self.answers, proxy.answers(self.texts, apply_conditions=False))
        score = _score(proxy, self.development) if agreement >= MIN_AGREEMENT else None
        loss = None if score is None or self.score is None else self.score - score
        refused = _refusal(agreement, loss)
        pace = None
        if timed and refused is None:
            pace = _throughput(lambda: proxy.answers(self.texts, apply_conditions=False), len(self.texts))
        return Candidate(
            name=name,
            texts_per_second=pace,
            agreement=round(agreement, 4),
            loss=None if loss is None else round(loss, 4),
            refused=refused,
        )


def _score(proxy: Proxy, development: Sequence[Annotation]) -> float | None:
    """Return the mean over steps of F1 or accuracy; None if no step is annotated."""
    predicted = proxy.answers([a.text for a in development], apply_conditions=False)
    try:
        steps = evaluate_plan(proxy.plan, [a.answers for a in development], predicted).steps.values()
    except AnnotationError:
        return None
    return statistics.mean(step.score.value for step in steps)


def _refusal(agreement: float, loss: float | None) -> str | None:
    """Return why a backend is refused; None if it is not."""
    if agreement < MIN_AGREEMENT:
        return f"only {agreement:.1%} of its decisions are those of float32"
    if loss is not None and loss > MAX_LOSS:
        return f"it scores {loss:.1%} less than float32 against the annotations"
    return None


def _throughput(work: Callable[[], object], texts: int) -> float:
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(texts / max(1e-9, statistics.median(seconds)), 1)


def share_of_equal_decisions(one: Sequence[Answers], other: Sequence[Answers]) -> float:
    """Return the share of (text, step) decisions that are equal: the same label, the same set of spans."""
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


def make_session(proxy: Proxy, name: str, threads: int | None = None) -> Session:
    """Create a session of a proxy.

    Args:
        proxy: The proxy.
        name: Name of the backend.
        threads: Number of threads; None for all cores of this process. The thread count of torch belongs to the whole
            process and is not changed.

    Raises:
        ProxyError: The backend needs an export or a GPU that is missing.
    """
    if name == "onnx":
        return OnnxSession(_exported_file(proxy), name, threads)
    if name == "onnx-int8":
        return OnnxSession(_quantized_file(proxy), name, threads)
    if name == "openvino":
        return OpenVinoSession(_exported_file(proxy), threads)
    if name == "cuda":
        if not has_cuda():
            raise ProxyError(NO_CUDA)
        return proxy.torch_session(device="cuda")
    return proxy.bf16_session(threads) if name == "torch-bf16" else proxy.torch_session()


def _onnx_file(folder: Path) -> Path:
    return folder / FILES["onnx"]


def _exported_file(proxy: Proxy) -> Path:
    if proxy.path is None:
        raise ProxyError("ONNX needs a proxy that is saved and exported; save it first, or use backend='torch'")
    file = _onnx_file(proxy.path)
    if not file.is_file():
        proxy.export()
    return file


def _quantized_file(proxy: Proxy) -> Path:
    """Return the int8 model, quantised on first use."""
    file = _exported_file(proxy).with_name(FILES["int8"])
    if not file.is_file():
        proxy.quantize()
    return file


class OpenVinoSession:
    """OpenVINO on the exported model, in bf16 where the processor multiplies it (extra ``openvino``)."""

    name = "openvino"
    n_parallel = 1

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise ProxyError(NO_OPENVINO) from None
        hints = {"INFERENCE_NUM_THREADS": threads or cores(), "PERFORMANCE_HINT": "LATENCY"}
        hints |= {"INFERENCE_PRECISION_HINT": "bf16" if _has_bf16() else "f32"}
        self._model = openvino.Core().compile_model(str(path), "CPU", hints)

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """Compute scores; see :class:`langchain_falconer.model.Session`."""
        outputs = self._model({"input_ids": ids, "attention_mask": mask, **weights.arrays()})
        return np.array(outputs["span_scores"]), np.array(outputs["label_scores"])


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _has_bf16() -> bool:
    return any(flag in _cpu_flags().split() for flag in ("amx_bf16", "avx512_bf16"))


def has_cuda() -> bool:
    """Return whether torch can compute on a GPU."""
    import torch

    return torch.cuda.is_available()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
