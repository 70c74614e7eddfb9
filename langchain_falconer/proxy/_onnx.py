"""Export through Optimum, with parity checked: an exported proxy that disagrees with its original is refused."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from langchain_falconer.errors import ProxyError
from langchain_falconer.proxy._session import SlotWeights

PARITY = 1e-3
"""The largest difference in any score that an fp32 export may show against torch fp32."""

INPUTS = ("input_ids", "attention_mask", "span_weight", "span_bias", "label_weight", "label_bias")
OUTPUTS = ("span_scores", "label_scores")


def export_onnx(model: Any, path: Path, weights: SlotWeights) -> float:
    """Write ``model`` to ``path`` as ONNX, slots as inputs, so that one file serves any number of steps.

    Returns the largest difference of any score against torch (ONNX Runtime, fp32).

    Raises:
        ProxyError: Optimum cannot export this architecture, or the difference is over :data:`PARITY`.
    """
    try:
        with _quiet():
            _export(model, path)
    except (KeyError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ProxyError(
            f"Optimum could not export the proxy ({str(error).splitlines()[0][:160]}); run it with backend='torch'"
        ) from error
    difference = _difference(model, path, weights)
    if not difference <= PARITY:
        raise ProxyError(
            f"the exported proxy differs from its original by {difference:.2g} (at most {PARITY:g}); "
            "run it with backend='torch'"
        )
    return difference


def _export(model: Any, path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import BertOnnxConfig
    from optimum.utils.input_generators import DummyInputGenerator

    class SlotInputs(DummyInputGenerator):  # type: ignore[misc]
        """Slot weights and biases of a made-up plan, for tracing."""

        SUPPORTED_INPUT_NAMES = INPUTS[2:]

        def __init__(self, task: str, normalized_config: Any, **_: Any) -> None:
            self.width = normalized_config.hidden_size

        def generate(self, input_name: str, framework: str = "pt", **_: Any) -> Any:
            rows = 6 if input_name.startswith("span") else 2
            shape = [rows, self.width] if input_name.endswith("weight") else [rows]
            return self.random_float_tensor(shape, framework=framework)

    class SlotOnnxConfig(BertOnnxConfig):  # type: ignore[misc]
        """Text inputs, slot inputs, two outputs; every axis but the hidden one is dynamic."""

        DUMMY_INPUT_GENERATOR_CLASSES = (*BertOnnxConfig.DUMMY_INPUT_GENERATOR_CLASSES, SlotInputs)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            text = {0: "batch", 1: "tokens"}
            return dict(
                zip(
                    INPUTS,
                    (text, text, *({0: f"{kind}_slots"} for kind in ("span", "span", "label", "label"))),
                    strict=True,
                )
            )

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {
                "span_scores": {0: "batch", 1: "tokens", 2: "span_slots"},
                "label_scores": {0: "batch", 1: "label_slots"},
            }

    export(_named_outputs(model), SlotOnnxConfig(model.encoder.config, task="feature-extraction"), path, opset=18)


def _named_outputs(model: Any) -> Any:
    """The model as Optimum wants it: with a config, and answering by name."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.config = model.encoder.config
            self.dtype = torch.float32

        def forward(
            self,
            input_ids: Any,
            attention_mask: Any,
            span_weight: Any,
            span_bias: Any,
            label_weight: Any,
            label_bias: Any,
        ) -> dict[str, Any]:
            scores = self.inner(input_ids, attention_mask, span_weight, span_bias, label_weight, label_bias)
            return dict(zip(OUTPUTS, scores, strict=True))

    return Named()


def _difference(model: Any, path: Path, weights: SlotWeights) -> float:
    from langchain_falconer.proxy._session import OnnxSession, TorchSession

    rng = np.random.default_rng(0)
    ids = rng.integers(5, model.encoder.config.vocab_size, (3, 17))
    mask = np.ones_like(ids)
    mask[1, 11:] = 0
    originals = TorchSession(model).run(ids, mask, weights)
    exported = OnnxSession(path).run(ids, mask, weights)
    valid = mask.astype(bool)
    differences = [np.abs(originals[0] - exported[0])[valid], np.abs(originals[1] - exported[1])]
    return float(max((d.max() for d in differences if d.size), default=0.0))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns at length about shapes that we do keep dynamic."""
    loggers = [logging.getLogger(name) for name in ("optimum", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
