"""Runs a pretraining bundle: ``python run.py --seconds 600``; needs torch, transformers, tokenizers and safetensors.

A bundle holds this file as ``run.py`` beside its weights, its sources and the few modules that it needs. Cut short, the
same command resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import lzma
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_falconer.pretrain.batches import StepMaker
    from langchain_falconer.pretrain.pretraining import PretrainProgress, PretrainSettings

HERE = Path(__file__).resolve().parent
RESULT = "result"
"""The folder of a bundle in which its result lies."""


def main() -> None:
    """Pretrain as the bundle says, and write the weights to its ``result`` folder."""
    options = _options()

    import torch
    from safetensors.torch import load_file, save_file

    from langchain_falconer.model.encoder import empty_encoder
    from langchain_falconer.model.network import QueryHeadModel
    from langchain_falconer.pretrain.pretraining import PretrainSettings, pretrain

    settings = PretrainSettings(**json.loads((HERE / "card.json").read_text("utf-8"))["recipe"]["settings"])
    if options.seconds:
        settings = dataclasses.replace(settings, steps=None, seconds=options.seconds)
    model = QueryHeadModel(empty_encoder(str(HERE)))
    model.load_state_dict({name: w.float() for name, w in load_file(HERE / "model.safetensors").items()}, strict=False)
    result, device = HERE / RESULT, options.device
    ran = pretrain(
        model,
        _maker(settings),
        result / "checkpoints",
        device=device,
        workers=options.workers,
        on_progress=_report,
    )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    halves = {name: p.detach().to(torch.float16).contiguous() for name, p in trained.items()}
    result.mkdir(exist_ok=True)
    save_file(halves, result / "weights.safetensors")
    about = {"ran": ran, "device": torch.cuda.get_device_name() if device.startswith("cuda") else device}
    (result / "ran.json").write_text(json.dumps(about) + "\n", "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="duration over all resumptions (default: that of the recipe)")
    parser.add_argument("--device", default="cuda", help="a device of torch (default: cuda)")
    cores = os.cpu_count() or 2
    parser.add_argument("--workers", type=int, default=max(1, cores - 1), help="processes that make batches")
    return parser.parse_args()


def _maker(settings: PretrainSettings) -> StepMaker:
    from safetensors.numpy import load_file

    from langchain_falconer.model.tokenization import Tokenizer
    from langchain_falconer.pretrain.batches import Anchors, Mixture, StepMaker
    from langchain_falconer.pretrain.tasks import KINDS

    with lzma.open(HERE / "sources.jsonl.xz", "rt", encoding="utf-8") as lines:
        texts = json.loads(next(lines))
        rows = [json.loads(line) for line in lines]
    return StepMaker(
        Mixture(
            {row["name"]: KINDS[row["kind"]](**row["fields"]) for row in rows},
            {row["name"]: row["weight"] for row in rows},
        ),
        Anchors(texts, load_file(HERE / "anchors.safetensors")["vectors"]),
        Tokenizer.read(HERE),
        settings,
    )


def _report(progress: PretrainProgress) -> None:
    done = f"step {progress.step}, {progress.share:.0%}, {progress.seconds:.0f} s"
    losses = ", ".join(f"{name} {loss:.2f}" for name, loss in progress.loss.items())
    print(f"{done}: {losses}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
