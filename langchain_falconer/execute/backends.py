"""Inference backends and their automatic choice: the fastest that decides like torch float32 on this machine."""

from __future__ import annotations

import importlib.util
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.errors import AnnotationError, ProxyError, SettingsError, first_line
from langchain_falconer.evaluate import evaluate_plan
from langchain_falconer.files import digest
from langchain_falconer.model import (
    FILES,
    HeadWeights,
    OnnxSession,
    Proxy,
    Session,
    cores,
    cpu_flags,
    may_have_gpu,
    resolve_device,
)
from langchain_falconer.records import Answers, FrozenModel, Label, Span
from langchain_falconer.settings import BackendName, DeviceName, RunSettings

MIN_AGREEMENT = 0.99
"""Minimum share of decisions that a backend must have in common with float32."""
MAX_LOSS = 0.005
"""Maximum loss of a backend against annotations, as the mean over steps of F1 or accuracy."""
BACKENDS = get_args(BackendName)[1:]
NO_OPENVINO = "OpenVINO is not installed; run: pip install 'langchain-falconer[openvino]'"
_NO_RAY = "Ray is not installed; run: pip install 'langchain-falconer[ray]', or choose the engine local"
_FLOAT32 = ("onnx", "torch")  # an export was checked against torch when it was made
BACKEND_TEXTS = 256
"""Texts of a corpus that :func:`choose_backend` is given to choose from."""
_SAMPLE_TEXTS, _SAMPLE_CHARS, _CHARS_EACH = 192, 40_000, 2_400
_REPEATS, _SECONDS = 3, 1.0
_CACHE_VERSION = 4
"""Incremented when a backend changes, so that choices of earlier versions are measured again."""


class Candidate(FrozenModel):
    """The measurement of a backend.

    Attributes:
        name: Name of the backend.
        texts_per_second: Throughput; None where there was nothing to compare with, or the backend was refused.
        agreement: Share of decisions in common with float32; None where it could not compute.
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
        agreement: Share of decisions in common with float32; None where nothing was measured.
        candidates: Every backend that was measured.
        machine: Hash of processor, cores and library versions that the choice holds for.
    """

    name: str
    agreement: float | None = None
    candidates: tuple[Candidate, ...] = ()
    machine: str = ""


def check_run(settings: RunSettings) -> None:
    """Check early that engine, backend and device are available. Raises ``SettingsError`` if one is not."""
    if settings.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise SettingsError(_NO_RAY, field="run.engine")
    check_backend(settings.backend, settings.device)


def check_backend(name: str, device: str = "auto") -> None:
    """Check early that a backend is available on a device. Raises ``SettingsError`` if it is not."""
    if name not in ("auto", *BACKENDS):
        raise SettingsError(f"there is no backend '{name}'; choose auto, {', '.join(BACKENDS)}", field="run.backend")
    if name.startswith("openvino") and importlib.util.find_spec("openvino") is None:
        raise SettingsError(NO_OPENVINO, field="run.backend")
    if device in ("auto", "cpu"):
        return
    if name not in ("auto", "torch", "torch-bf16"):
        raise SettingsError(
            f"the backend {name} computes on the CPU; choose torch, torch-bf16 or auto with the device {device}",
            field="run.backend",
        )
    try:
        resolve_device(device)
    except ProxyError as error:
        raise SettingsError(str(error), field="run.device") from error


def choose_backend(
    proxy: Proxy,
    texts: Sequence[str],
    wanted: str = "auto",
    development: Sequence[Annotation] = (),
    *,
    device: DeviceName = "auto",
) -> BackendChoice:
    """Set the session of ``proxy`` to the fastest backend that decides as float32 does on ``texts``.

    The float32 original is the exported graph on ONNX Runtime, which was checked against torch when it was made, else
    torch on the CPU. A backend that raises, decides differently or loses against the annotations is refused. An earlier
    automatic choice on this machine is read from the manifest. Timings are medians of up to three passes over at most
    192 texts and 40,000 characters. An untrained proxy for fewer texts computes as it is: measuring would take longer.

    Args:
        proxy: The proxy; its session is replaced.
        texts: Texts of the corpus.
        wanted: One backend, which is refused too if it decides differently; or ``auto``.
        development: Annotations that the backend must answer as well as float32.
        device: ``auto`` is a GPU where there is one, except for backends of the CPU.

    Raises:
        SettingsError: No such backend or device, or it is not available here.
        ProxyError: No backend, or not the wanted one, decides like float32.
    """
    check_backend(wanted, device)
    original = "onnx" if proxy.exported else "torch"
    if wanted == "auto" and proxy.path is None and device in ("auto", "cpu") and len(texts) < _SAMPLE_TEXTS:
        return BackendChoice(name=original)
    names = list(_candidates(proxy, original, wanted, _device(wanted, device)))
    cached = proxy.manifest.get("backend")
    if cached and cached["machine"] == machine() and (cached["name"] in names):
        proxy.set_session(make_session(proxy, cached["name"]))
        return BackendChoice.model_validate(cached)
    if len(names) == 1 and names[0] in _FLOAT32:
        proxy.set_session(make_session(proxy, names[0]))
        return BackendChoice(name=names[0], agreement=1.0, machine=machine())
    choice, session = _measure(proxy, original, names, list(_sample(texts)), development)
    proxy.set_session(session)
    if wanted == "auto":
        proxy.update_manifest(backend=choice.model_dump(mode="json"))
    return choice


def _device(wanted: str, device: str) -> str:
    """Return the device that is computed on; torch is not imported where there can be no GPU."""
    if device == "cpu" or wanted not in ("auto", "torch", "torch-bf16") or (device == "auto" and not may_have_gpu()):
        return "cpu"
    return resolve_device(device).type


def _candidates(proxy: Proxy, original: str, wanted: str, device: str) -> Iterator[str]:
    """Yield the backends to choose from; ``NAME:DEVICE`` is torch on a GPU."""
    if device != "cpu":
        yield from (f"{name}:{device}" for name in ("torch", "torch-bf16") if wanted in ("auto", name))
        return
    if wanted != "auto":
        yield wanted
        return
    yield original
    if proxy.exported:
        if proxy.path:
            yield "onnx-int8"
        if importlib.util.find_spec("openvino"):
            yield "openvino"
            if _has_bf16():
                yield "openvino-bf16"
    if _has_bf16():
        yield "torch-bf16"


def _sample(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first texts, of long ones the beginning, up to the characters that are measured."""
    left = _SAMPLE_CHARS
    for text in islice(texts, _SAMPLE_TEXTS):
        part = text[: min(_CHARS_EACH, left)]
        left -= len(part)
        if part or not text:
            yield part


def machine() -> str:
    """Return a digest of what a choice of backend depends on: processor, cores, library and cache versions."""
    facts = [platform.machine(), platform.processor(), " ".join(cpu_flags()), str(cores()), str(_CACHE_VERSION)]
    facts += [f"{name} {_version(name)}" for name in ("torch", "onnxruntime", "openvino")]
    return digest(*facts)


def _measure(
    proxy: Proxy, original: str, names: Sequence[str], texts: Sequence[str], development: Sequence[Annotation]
) -> tuple[BackendChoice, Session]:
    float32 = make_session(proxy, original)
    proxy.set_session(float32)
    reference = _Reference(texts, development, proxy.answers(texts, apply_conditions=False), _score(proxy, development))
    measured: list[tuple[Candidate, Session]] = []
    for name in names:
        try:
            session = float32 if name == original else make_session(proxy, name)
            measured.append((reference.measure(proxy, name, session, timed=len(names) > 1), session))
        except Exception as error:  # a private operator that changed, an export that does not load: try the next one
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            measured.append((Candidate(name=name, refused=f"it failed: {reason[:200]}"), float32))
    accepted = [(c, s) for c, s in measured if c.refused is None]
    if not accepted:
        reasons = "; ".join(f"{c.name}: {c.refused}" for c, _ in measured)
        raise ProxyError(f"no backend decides like the original ({reasons}); use backend='{original}'")
    best, session = max(accepted, key=lambda pair: pair[0].texts_per_second or 0.0)
    candidates = tuple(c for c, _ in measured)
    return BackendChoice(name=best.name, agreement=best.agreement, candidates=candidates, machine=machine()), session


@dataclass(frozen=True)
class _Reference:
    """The decisions of float32, and its score against annotations."""

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
    seconds: list[float] = []
    while len(seconds) < _REPEATS and sum(seconds) < _SECONDS:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(texts / max(1e-9, statistics.median(seconds)), 1)


def share_of_equal_decisions(one: Sequence[Answers], other: Sequence[Answers]) -> float:
    """Return the share of decisions that are equal.

    A decision is a label (each member of a subset is one), a span, or that there is none; a span is equal at the same
    offsets. One of fifteen spans that moves is one difference in fifteen. Answers about equal spans are compared too.
    """
    counts = [_equal_decisions(a, b) for a, b in zip(one, other, strict=True)]
    total = sum(n for _, n in counts)
    return sum(same for same, _ in counts) / total if total else 1.0


def _equal_decisions(one: Answers | Span, other: Answers | Span) -> tuple[int, int]:
    """Return the number of equal decisions, and of all."""
    pairs = [(_values(label), _values(other.labels.get(step_id))) for step_id, label in one.labels.items()]
    inner: list[tuple[int, int]] = []
    for step_id, spans in one.spans.items():
        ours, theirs = ({(s.start, s.end): s for s in own} for own in (spans, other.spans.get(step_id, ())))
        pairs.append((set(ours), set(theirs)))
        inner += [_equal_decisions(ours[at], theirs[at]) for at in ours.keys() & theirs.keys()]
    same = sum(len(a & b) if a or b else 1 for a, b in pairs) + sum(same for same, _ in inner)
    return same, sum(max(1, len(a), len(b)) for a, b in pairs) + sum(n for _, n in inner)


def _values(label: Label | None) -> set[object]:
    """Return the decisions in a label; that of a step without an answer is like no other."""
    if label is None:
        return {None}
    return set(label.value) if isinstance(label.value, tuple) else {label.value}


def make_session(proxy: Proxy, name: str, threads: int | None = None) -> Session:
    """Create a session of a proxy.

    Args:
        proxy: The proxy.
        name: Name of the backend; ``torch:DEVICE`` and ``torch-bf16:DEVICE`` compute on a GPU.
        threads: Number of threads; None for all cores of this process. The thread count of torch belongs to the whole
            process and is not changed.

    Raises:
        ProxyError: The backend needs an export or a GPU that is missing.
    """
    backend, _, device = name.partition(":")
    if device:
        return proxy.torch_session(bf16=backend == "torch-bf16", device=resolve_device(device).type)
    if backend == "torch-bf16":
        return proxy.bf16_session(threads)
    if backend == "torch":
        return proxy.torch_session()
    if not proxy.exported:
        proxy.export()
    assert proxy.exported
    if backend == "onnx":
        return OnnxSession(proxy.exported, name, threads)
    if backend.startswith("openvino"):
        return OpenVinoSession(proxy.exported, name, threads)
    file = proxy.exported.with_name(FILES["int8"])
    if not file.is_file():
        proxy.quantize()
    return OnnxSession(file, name, threads)


class OpenVinoSession:
    """OpenVINO on the exported graph (extra ``openvino``), in float32 or bfloat16.

    Args:
        path: The ONNX file.
        name: ``openvino`` for float32, ``openvino-bf16`` for bfloat16.
        threads: Threads of a batch; by default the CPUs of this process.

    Raises:
        ProxyError: OpenVINO is not installed, or cannot read the file.
    """

    n_parallel = 1
    tokens_per_batch = 1024

    def __init__(self, path: Path, name: str = "openvino", threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise ProxyError(NO_OPENVINO) from None
        self.name = name
        hints = {"INFERENCE_NUM_THREADS": threads or cores(), "PERFORMANCE_HINT": "LATENCY"}
        hints |= {"INFERENCE_PRECISION_HINT": "bf16" if name.endswith("bf16") else "f32"}
        try:
            self._model = openvino.Core().compile_model(str(path), "CPU", hints)
        except RuntimeError as error:
            raise ProxyError(f"OpenVINO cannot load {path}: {first_line(error)}; use backend='onnx'") from error

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """Compute scores; see :class:`langchain_falconer.model.Session`."""
        outputs = self._model({"input_ids": ids, "attention_mask": mask, **weights.arrays()})
        return np.array(outputs["span_scores"]), np.array(outputs["label_scores"])


def _has_bf16() -> bool:
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(cpu_flags())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
