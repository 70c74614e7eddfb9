"""ONNX export through Optimum, with a parity check: an export that differs from its original is rejected."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from langchain_falconer.errors import ProxyError, first_line
from langchain_falconer.model.sessions import HeadWeights

PARITY = 1e-3
"""The largest difference in any score that an fp32 export may show against torch fp32."""

_LARGE = 4096  # smaller weights are copied
INPUTS = ("input_ids", "attention_mask", "span_weight", "span_bias", "label_weight", "label_bias")
OUTPUTS = ("span_scores", "label_scores")


def export_onnx(model: Any, path: Path, weights: HeadWeights) -> float:
    """Write ``model`` to ``path`` as ONNX, heads as inputs, so that one file serves any number of steps.

    Args:
        model: A :class:`QueryHeadModel`.
        path: The file to write.
        weights: Query heads for the parity check.

    Returns:
        The largest difference of any score against torch (ONNX Runtime, fp32).

    Raises:
        ProxyError: Optimum cannot export this architecture, or the difference is over :data:`PARITY`.
    """
    try:
        with _quiet():
            _export(model, path)
    except (KeyError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ProxyError(
            f"Optimum could not export the proxy ({first_line(error)}); run it with backend='torch'"
        ) from error
    difference = _difference(model, path, weights)
    if not difference <= PARITY:
        raise ProxyError(
            f"the exported proxy differs from its original by {difference:.2g} (at most {PARITY:g}); "
            "run it with backend='torch'"
        )
    return difference


def export_sharing(model: Any, path: Path, weights: Path) -> None:
    """Write ``model`` as an ONNX graph whose large weights stay in the float16 safetensors file beside it.

    One copy of the weights serves torch and ONNX Runtime, which converts them to float32 on loading.

    Raises:
        ProxyError: Optimum cannot export this architecture.
    """
    import onnx

    try:
        with _quiet():
            _export(model, path)
    except (KeyError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ProxyError(f"Optimum could not export the metamodel ({first_line(error)})") from error
    graph = onnx.load(path)
    _share(graph.graph, weights)
    onnx.save(graph, path)


def quantize(path: Path, target: Path) -> None:
    """Write an exported model with int8 weights, one scale per channel, through Optimum (dynamic activations).

    One scale per tensor would lose accuracy. Query heads are inputs of the graph, and stay float32.

    Raises:
        ProxyError: ONNX Runtime cannot quantise this architecture.
    """
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            with _quiet():
                config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
                ORTQuantizer(path).quantize(config, folder, file_suffix=None)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ProxyError(
                f"the proxy cannot be quantised ({first_line(error)}); run it with backend='onnx'"
            ) from error
        (Path(folder) / path.name).replace(target)


def _share(graph: Any, weights: Path) -> None:
    """Replace each large initializer that ``weights`` contains (as it is, or transposed) by a reference."""
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    stored = load_file(weights)
    locations = _locations(weights)
    nodes = []
    for index, initializer in enumerate(graph.initializer):
        array = numpy_helper.to_array(initializer)
        match = _matching(array, stored) if array.size >= _LARGE and array.dtype == np.float32 else None
        if match is None:
            continue
        name, is_transposed = match
        shared = TensorProto(name=f"{initializer.name}.half", data_type=TensorProto.FLOAT16, dims=stored[name].shape)
        shared.data_location = TensorProto.EXTERNAL
        offset, length = locations[name]
        for key, value in (("location", weights.name), ("offset", str(offset)), ("length", str(length))):
            shared.external_data.add(key=key, value=value)
        full = f"{initializer.name}.full" if is_transposed else initializer.name
        nodes.append(helper.make_node("Cast", [shared.name], [full], to=TensorProto.FLOAT))
        if is_transposed:
            nodes.append(helper.make_node("Transpose", [full], [initializer.name], perm=[1, 0]))
        graph.initializer[index].CopyFrom(shared)
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _matching(array: np.ndarray, stored: Mapping[str, np.ndarray]) -> tuple[str, bool] | None:
    """Return the name of the weight equal to an initializer, and whether it is transposed."""
    half = array.astype(np.float16)
    for name, weight in stored.items():
        if weight.shape == half.shape and np.array_equal(weight, half):
            return name, False
        if weight.ndim == 2 and weight.T.shape == half.shape and np.array_equal(weight.T, half):
            return name, True
    return None


def _locations(weights: Path) -> dict[str, tuple[int, int]]:
    """Return the offset and length in bytes of each tensor of a safetensors file."""
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: (8 + size + at["data_offsets"][0], at["data_offsets"][1] - at["data_offsets"][0])
        for name, at in header.items()
    }


def _export(model: Any, path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import BertOnnxConfig
    from optimum.utils.input_generators import DummyInputGenerator

    class HeadInputs(DummyInputGenerator):  # type: ignore[misc]
        """Random weights and biases of query heads, for tracing."""

        SUPPORTED_INPUT_NAMES = INPUTS[2:]

        def __init__(self, task: str, normalized_config: Any, **_: Any) -> None:
            self.width = normalized_config.hidden_size

        def generate(self, input_name: str, framework: str = "pt", **_: Any) -> Any:
            rows = 6 if input_name.startswith("span") else 2
            shape = [rows, self.width] if input_name.endswith("weight") else [rows]
            return self.random_float_tensor(shape, framework=framework)

    class HeadOnnxConfig(BertOnnxConfig):  # type: ignore[misc]
        """Text inputs, head inputs, two outputs; every axis but the hidden one is dynamic."""

        DUMMY_INPUT_GENERATOR_CLASSES = (*BertOnnxConfig.DUMMY_INPUT_GENERATOR_CLASSES, HeadInputs)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            text = {0: "batch", 1: "tokens"}
            return dict(
                zip(
                    INPUTS,
                    (text, text, *({0: f"{kind}_heads"} for kind in ("span", "span", "label", "label"))),
                    strict=True,
                )
            )

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {
                "span_scores": {0: "batch", 1: "tokens", 2: "span_heads"},
                "label_scores": {0: "batch", 1: "label_heads"},
            }

    export(_named_outputs(model), HeadOnnxConfig(model.encoder.config, task="feature-extraction"), path, opset=18)


def _named_outputs(model: Any) -> Any:
    """Wrap the model as Optimum needs it: with a config, and outputs by name."""
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


def _difference(model: Any, path: Path, weights: HeadWeights) -> float:
    from langchain_falconer.model.sessions import OnnxSession, TorchSession

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
    """Silence the warnings of tracing, which concern shapes that stay dynamic."""
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
