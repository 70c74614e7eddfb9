"""ONNX export and quantisation, with a parity check: an export that differs from its original is rejected.

Optimum exports where it is installed (extra ``optimum``), torch elsewhere. Both trace, so both give the same kind of
graph: named inputs, dynamic axes, float32 weights.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_falconer.errors import ProxyError, first_line
from langchain_falconer.model.encoder import max_tokens
from langchain_falconer.model.sessions import HeadWeights, OnnxSession, TorchSession

if TYPE_CHECKING:
    from onnx import GraphProto
    from torch import Tensor

    from langchain_falconer.model.network import QueryHeadModel

PARITY = 1e-3
"""The largest difference in any score that an fp32 export may show against torch fp32."""

_LARGE = 4096  # smaller weights are copied
_OPSET = 18
_PARITY_TOKENS = 160  # so much padding that a local attention sees nothing else, which some exporters turn into NaN
_TEXT, _SPAN, _LABEL = {0: "batch", 1: "tokens"}, {0: "span_heads"}, {0: "label_heads"}
INPUTS: dict[str, dict[int, str]] = {
    "input_ids": _TEXT,
    "attention_mask": _TEXT,
    "span_weight": _SPAN,
    "span_bias": _SPAN,
    "label_weight": _LABEL,
    "label_bias": _LABEL,
}
"""Inputs of the graph, in order, with their dynamic axes; every axis but the hidden one is."""
OUTPUTS: dict[str, dict[int, str]] = {
    "span_scores": {**_TEXT, 2: "span_heads"},
    "label_scores": {0: "batch", 1: "label_heads"},
}
"""Outputs of the graph, in order, with their dynamic axes."""


def export_onnx(model: QueryHeadModel, path: Path, weights: HeadWeights) -> float:
    """Write ``model`` to ``path`` as ONNX, heads as inputs, so that one file serves any number of steps.

    Args:
        model: The network, on the CPU.
        path: The file to write.
        weights: Query heads for the parity check.

    Returns:
        The largest difference of any score against torch (ONNX Runtime, fp32).

    Raises:
        ProxyError: This architecture cannot be exported, or the difference is over :data:`PARITY`.
    """
    _export(model, path)
    difference = _difference(model, path, weights)
    if not difference <= PARITY:
        raise ProxyError(
            f"the exported proxy differs from its original by {difference:.2g} (at most {PARITY:g}); "
            "run it with backend='torch'"
        )
    return difference


def export_sharing(model: QueryHeadModel, path: Path, weights: Path) -> None:
    """Write ``model`` as an ONNX graph whose large weights stay in the float16 safetensors file beside it.

    One copy of the weights serves torch and ONNX Runtime, which converts them to float32 on loading.

    Raises:
        ProxyError: This architecture cannot be exported.
    """
    import onnx

    _export(model, path)
    graph = onnx.load(path)
    _share(graph.graph, weights)
    onnx.save(graph, path)


def _share(graph: GraphProto, weights: Path) -> None:
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


def _export(model: QueryHeadModel, path: Path) -> None:
    """Write ``model`` to ``path``.

    Raises:
        ProxyError: The exporter does not know an operator, or cannot trace this architecture.
    """
    try:
        with _quiet():
            _exporter()(model, path)
    except Exception as error:  # whatever tracing the code of an unknown architecture raises
        raise ProxyError(
            f"the network cannot be exported to ONNX ({first_line(error)}); run it with backend='torch'"
        ) from error


def _exporter() -> Callable[[QueryHeadModel, Path], None]:
    """Return Optimum's exporter, or torch's where Optimum is not installed or made for another transformers."""
    try:
        import optimum.exporters.onnx.model_configs  # noqa: F401
    except ImportError:
        return _export_by_torch
    return _export_by_optimum


def _export_by_torch(model: QueryHeadModel, path: Path) -> None:
    """Write ``model`` with torch's exporter that traces.

    The exporter of ``dynamo=True`` needs onnxscript, takes eight times as long, and names no output axis.
    """
    import torch

    torch.onnx.export(
        model,
        _examples(model),
        str(path),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes=INPUTS | OUTPUTS,
        opset_version=_OPSET,
        dynamo=False,
    )


def _examples(model: QueryHeadModel) -> tuple[Tensor, ...]:
    """Return inputs for tracing: two texts of sixteen tokens, two span heads, two label heads."""
    import torch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, _config(model).vocab_size, (2, 16), generator=generator)
    shapes = [(6, model.hidden_size), (6,), (2, model.hidden_size), (2,)]
    return (ids, torch.ones_like(ids), *(torch.randn(shape, generator=generator) for shape in shapes))


def _export_by_optimum(model: QueryHeadModel, path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import BertOnnxConfig
    from optimum.utils.input_generators import DummyInputGenerator

    class HeadInputs(DummyInputGenerator):  # type: ignore[misc]
        """Random weights and biases of query heads, for tracing."""

        SUPPORTED_INPUT_NAMES = tuple(INPUTS)[2:]

        def __init__(self, task: str, normalized_config: Any, **_: Any) -> None:
            self.width = normalized_config.hidden_size

        def generate(self, input_name: str, framework: str = "pt", **_: Any) -> Any:
            rows = 6 if input_name.startswith("span") else 2
            shape = [rows, self.width] if input_name.endswith("weight") else [rows]
            return self.random_float_tensor(shape, framework=framework)

    class HeadOnnxConfig(BertOnnxConfig):  # type: ignore[misc]
        """Text inputs, head inputs, two outputs."""

        DUMMY_INPUT_GENERATOR_CLASSES = (*BertOnnxConfig.DUMMY_INPUT_GENERATOR_CLASSES, HeadInputs)
        inputs = INPUTS
        outputs = OUTPUTS

    config = HeadOnnxConfig(_config(model), task="feature-extraction")
    export(_named_outputs(model), config, path, opset=_OPSET)


def _named_outputs(model: QueryHeadModel) -> Any:
    """Wrap the model as Optimum needs it: with a config, and outputs by name."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.config = _config(model)
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


def _config(model: QueryHeadModel) -> Any:
    return model.encoder.config


def _difference(model: QueryHeadModel, path: Path, weights: HeadWeights) -> float:
    rng = np.random.default_rng(0)
    config = _config(model)
    ids = rng.integers(5, config.vocab_size, (3, min(_PARITY_TOKENS, max_tokens(config.to_dict()))))
    mask = np.ones_like(ids)
    mask[1, 11:] = 0
    originals = TorchSession(model).run(ids, mask, weights)
    exported = OnnxSession(path).run(ids, mask, weights)
    valid = mask.astype(bool)
    spans, labels = np.abs(originals[0] - exported[0])[valid], np.abs(originals[1] - exported[1])
    return float(np.concatenate([spans.ravel(), labels.ravel()]).max(initial=0.0))  # NaN where any is


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of tracing, which concern shapes that stay dynamic, and what quantisation logs to root."""

    def drop(_: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in ("optimum", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    logging.getLogger().addFilter(drop)  # sees what is logged to root itself, nothing of other loggers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeFilter(drop)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
