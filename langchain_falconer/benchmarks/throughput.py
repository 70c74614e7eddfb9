"""The run of a trained plan: its pace beside a plain pipeline and the machine's ceiling, its memory, its start."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from langchain_falconer.benchmarks.step_count import plans, restricted, reviews, short_posts
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.errors import RunError
from langchain_falconer.model import Proxy, cpu_flags
from langchain_falconer.plan import Plan
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import train_proxy

FEW = 1_000
PIPELINE_TEXTS = 2_000
_STEPS = ("aspect", "food", "feeling")
_CLI = """
from langchain_falconer.cli import main
try:
    main()
finally:
    # Not ru_maxrss, which starts from what the parent held.
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), flush=True)
"""


def run(data: Path, *, texts: int, rounds: int, on_score: Callable[..., None]) -> BenchmarkTable:
    """Run over short posts with a plan of three steps, in turns with a Hugging Face pipeline on the same weights.

    Ours is timed as a process, from its start to the written file. The pipeline does one text classification, batches
    of 32, float32, its loading not counted. The ceiling is that of matrix products of 2,048 x 2,048 (bf16 where the
    processor has AMX, else float32), counted on real tokens.

    Args:
        data: the folder of the data sets.
        texts: posts to read.
        rounds: how often, for medians.
        on_score: receives each round: ``on_score(name, round, **figures)``.

    Raises:
        CorpusError: the data is not there.
        RunError: a run failed.
    """
    posts = short_posts(data, texts)
    with TemporaryDirectory() as name:
        setup = _Setup(Path(name), _trained(data, Path(name) / "proxy"))
        setup.predict(posts[:FEW])  # the choice of a backend is made once
        few, start = setup.predict(posts[:FEW]), setup.predict(posts[:1])
        measured = []
        for at in range(rounds):
            timing, pipeline, ceiling = (
                setup.predict(posts),
                _pipeline_pace(setup.proxy, posts[:PIPELINE_TEXTS]),
                _gemm(),
            )
            measured.append(_Round(len(posts) / timing.seconds, pipeline, ceiling, timing.peak_mb))
            on_score("texts/s", at, ours=measured[-1].pace, pipeline=pipeline)
        tokens, flops = _tokens(setup.proxy, posts), _flops_a_token(setup.proxy)
    return _table(measured, few, start, tokens, flops, len(posts))


@dataclass(frozen=True)
class _Timing:
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class _Round:
    """Texts a second of ours and of the pipeline, FLOP/s of the machine, MB at our peak."""

    pace: float
    pipeline: float
    gemm: float
    peak_mb: float


@dataclass(frozen=True)
class _Setup:
    folder: Path
    proxy: Path

    def predict(self, posts: Sequence[str]) -> _Timing:
        """Run ``falconer predict`` in a new process with a new home."""
        corpus = self.folder / f"{len(posts)}.jsonl"
        if not corpus.is_file():
            corpus.write_text("".join(json.dumps({"text": t}) + "\n" for t in posts), "utf-8")
        with TemporaryDirectory(dir=self.folder) as home, (self.folder / "output").open("w+b") as file:
            arguments = [str(self.proxy), str(corpus), "-o", f"{home}/rows.jsonl", "--home", home, "--json"]
            command = [sys.executable, "-c", _CLI, "predict", *arguments]
            began = time.perf_counter()
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)  # noqa: S603
            seconds = time.perf_counter() - began
            file.seek(0)
            output = file.read().decode(errors="replace")
        if done.returncode:
            raise RunError(f"a run failed: {output[-300:]}")
        return _Timing(seconds, int(output.split()[-2]) / 1024)


def _trained(data: Path, folder: Path) -> Path:
    annotations, six = reviews(data)[:200], plans()[1]
    plan = Plan(instruction="three steps", steps=tuple(six[name] for name in _STEPS))
    proxy = train_proxy(plan, restricted(plan, annotations), settings=TrainSettings(epochs=3))
    proxy.save(folder)
    proxy.export()
    return folder


_PIPELINE = """
import json, sys, time
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast, pipeline
folder, texts = sys.argv[1], json.load(sys.stdin)
model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder)).eval()
weights = {k.removeprefix("encoder."): v for k, v in load_file(folder + "/model.safetensors").items()}
model.base_model.load_state_dict(weights, strict=False)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=folder + "/tokenizer.json", pad_token="[PAD]", model_max_length=256
)
classify = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=32, truncation=True)
classify(texts[:64])
began = time.perf_counter()
for _ in classify(text for text in texts):
    pass
print(len(texts) / (time.perf_counter() - began))
"""


def _pipeline_pace(folder: Path, posts: Sequence[str]) -> float:
    command = [sys.executable, "-c", _PIPELINE, str(folder)]
    done = subprocess.run(command, input=json.dumps(posts), capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RunError(f"the pipeline failed: {done.stderr[-300:]}")
    return float(done.stdout.split()[-1])


def _has_amx() -> bool:
    return "amx_bf16" in cpu_flags()


def _gemm(size: int = 2_048, repeats: int = 5) -> float:
    """FLOP/s of matrix products, the best of a few: in bf16 where the processor has AMX, else in float32."""
    import torch

    a, b = (torch.randn(size, size, dtype=torch.bfloat16 if _has_amx() else torch.float32) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        torch.matmul(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def _tokens(folder: Path, posts: Sequence[str]) -> int:
    """Real tokens of all posts, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(int(Proxy.load(folder).manifest["max_tokens"]))
    return sum(len(e.ids) for e in tokenizer.encode_batch_fast(list(posts)))


def _flops_a_token(folder: Path) -> int:
    """Two for each weight of the encoder's linear layers; attention's products, few on short texts, left out."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    return 2 * sum(
        int(np.prod(shape))
        for name, shape in shapes.items()
        if name.startswith("encoder.") and ".layer" in name and len(shape) == 2
    )


def _table(
    rounds: Sequence[_Round], few: _Timing, start: _Timing, tokens: int, flops: int, texts: int
) -> BenchmarkTable:
    ratios = [one.pace / one.pipeline for one in rounds]
    shares = [one.pace * tokens / texts * flops / one.gemm for one in rounds]
    growth = [one.peak_mb - few.peak_mb for one in rounds]
    ceiling = "bf16" if _has_amx() else "float32"
    rows = [
        ["texts a second, reading to writing, start included", _shown([one.pace for one in rounds], ".0f"), ""],
        ["texts a second of the pipeline", _shown([one.pipeline for one in rounds], ".0f"), ""],
        ["times the pipeline's pace", _shown(ratios, ".1f"), "12" if _has_amx() else "5"],
        [f"share of the {ceiling} ceiling", _shown(shares, ".0%"), "45%" if _has_amx() else "65%"],
        [f"MB more at the peak than over {FEW:,} posts", _shown(growth, ".0f"), "100 at most"],
        ["seconds from process start to the first row's file", f"{start.seconds:.1f}", "4 at most"],
    ]
    return {
        "title": f"{texts:,} posts ({tokens / texts:.0f} tokens each), a plan of 3 steps, {len(rounds)} round(s)",
        "columns": ["what", "median (range)", "target"],
        "rows": rows,
        "verdict": f"{statistics.median(ratios):.1f} times the pace of a pipeline on the same weights",
        "rounds": [vars(one) for one in rounds],
    }


def _shown(values: Sequence[float], style: str) -> str:
    low, middle, high = (f"{v:{style}}" for v in (min(values), statistics.median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"
