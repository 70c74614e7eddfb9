"""Quantisation of an exported graph to 8 bits in blocks, which keeps the decisions of float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from langchain_falconer.errors import ProxyError, first_line

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

BLOCK = 64
"""Weights that share a scale; the activations of as many are quantised together."""


def quantize_blocks(path: Path, target: Path) -> None:
    """Write an exported graph with its weights in 8 bits, one scale for each block of 64 along the input.

    ONNX Runtime quantises the activations in blocks too, so that one large value costs the others no precision.

    Raises:
        ProxyError: The graph has no matrix product with weights, or a file cannot be read or written.
    """
    import onnx
    from onnx import helper

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises its own
        raise ProxyError(f"{path} cannot be quantised ({first_line(error)}); export the proxy again") from error
    initializers = {one.name: one for one in model.graph.initializer if len(one.dims) == 2}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in initializers]
    if not products:
        raise ProxyError(f"{path} has no weights that can be quantised; run it with backend='onnx'")
    for node in products:
        new, tensors = _in_blocks(node, initializers[node.input[1]])
        node.CopyFrom(new)
        model.graph.initializer.extend(tensors)
    used = {name for node in model.graph.node for name in node.input}
    for one in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(one)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    partial = target.with_name(f".partial.{target.name}")
    onnx.save(model, partial)
    partial.replace(target)


def _in_blocks(node: NodeProto, weight: TensorProto) -> tuple[NodeProto, list[TensorProto]]:
    """Return the node that replaces a matrix product, with its new tensors."""
    from onnx import helper, numpy_helper

    values = numpy_helper.to_array(weight).astype(np.float32).T  # (outputs, inputs)
    outputs, inputs = values.shape
    blocks = np.pad(values, ((0, 0), (0, -inputs % BLOCK))).reshape(outputs, -1, BLOCK)
    scales = np.abs(blocks).max(-1, keepdims=True) / 127
    rounded = np.round(blocks / np.where(scales == 0, 1, scales)) + 128
    tensors = [
        numpy_helper.from_array(rounded.astype(np.uint8), f"{weight.name}.blocks"),
        numpy_helper.from_array(scales.reshape(-1).astype(np.float32), f"{weight.name}.scales"),
    ]
    names = [node.input[0], *(one.name for one in tensors)]
    sizes = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
    domain = "com.microsoft"
    return helper.make_node("MatMulNBits", names, list(node.output), node.name, domain=domain, **sizes), tensors
