"""Export through Optimum, with parity checked: an exported proxy that disagrees with its original is refused."""

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

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.sessions import HeadWeights

PARITY = 1e-3
"""The largest difference in any score that an fp32 export may show against torch fp32."""

_LARGE = 4096  # smaller weights are copied
INPUTS = ("input_ids", "attention_mask", "span_weight", "span_bias", "label_weight", "label_bias")
OUTPUTS = ("span_scores", "label_scores")


def export_onnx(model: Any, path: Path, weights: HeadWeights) -> float:
    """Write ``model`` to ``path`` as ONNX, heads as inputs, so that one file serves any number of steps.

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


def export_sharing(model: Any, path: Path, weights: Path) -> None:
    """Write ``model`` as an ONNX graph whose large weights stay in the float16 safetensors file beside it.

    One copy of the weights serves torch and ONNX Runtime, which turns them to float32 as it loads them.

    Raises:
        ProxyError: Optimum cannot export this architecture.
    """
    import onnx

    try:
        with _quiet():
            _export(model, path)
    except (KeyError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ProxyError(f"Optimum could not export the metamodel ({str(error).splitlines()[0][:160]})") from error
    graph = onnx.load(path)
    _share(graph.graph, weights)
    onnx.save(graph, path)


def quantize(path: Path, to: Path) -> None:
    """Write an exported model with int8 weights, a scale a channel, through Optimum (activations as they come).

    One scale a tensor would lose accuracy. Query heads are inputs of the graph, and stay float32.

    Raises:
        ProxyError: ONNX Runtime cannot quantise this architecture.
    """
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        try:
            with _quiet():
                how = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
                ORTQuantizer(path).quantize(how, folder, file_suffix=None)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ProxyError(
                f"the proxy cannot be quantised ({str(error).splitlines()[0][:160]}); run it with backend='onnx'"
            ) from error
        (Path(folder) / path.name).replace(to)


def _share(graph: Any, weights: Path) -> None:
    """Turn each large initializer that stands in ``weights`` (as it is, or transposed) into a reference to it."""
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    kept = load_file(weights)
    places = _places(weights)
    nodes = []
    for index, initializer in enumerate(graph.initializer):
        array = numpy_helper.to_array(initializer)
        found = _same(array, kept) if array.size >= _LARGE and array.dtype == np.float32 else None
        if found is None:
            continue
        name, turned = found
        shared = TensorProto(name=f"{initializer.name}.half", data_type=TensorProto.FLOAT16, dims=kept[name].shape)
        shared.data_location = TensorProto.EXTERNAL
        offset, length = places[name]
        for key, value in (("location", weights.name), ("offset", str(offset)), ("length", str(length))):
            shared.external_data.add(key=key, value=value)
        full = f"{initializer.name}.full" if turned else initializer.name
        nodes.append(helper.make_node("Cast", [shared.name], [full], to=TensorProto.FLOAT))
        if turned:
            nodes.append(helper.make_node("Transpose", [full], [initializer.name], perm=[1, 0]))
        graph.initializer[index].CopyFrom(shared)
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _same(array: np.ndarray, kept: Mapping[str, np.ndarray]) -> tuple[str, bool] | None:
    """The weight that an initializer holds, and whether it holds it transposed."""
    half = array.astype(np.float16)
    for name, weight in kept.items():
        if weight.shape == half.shape and np.array_equal(weight, half):
            return name, False
        if weight.ndim == 2 and weight.T.shape == half.shape and np.array_equal(weight.T, half):
            return name, True
    return None


def _places(weights: Path) -> dict[str, tuple[int, int]]:
    """Offset and length in bytes of each tensor of a safetensors file."""
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
        """Head weights and biases of a made-up plan, for tracing."""

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
