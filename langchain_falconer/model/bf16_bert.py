"""A BERT on the CPU in bfloat16: weights in the layout of oneDNN, and few passes over memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langchain_falconer.model.sessions import LABEL_SCALE, TOKENS_PER_BATCH, HeadWeights, cores

_PLAIN = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_PACKED_ROWS = 1024  # weights are packed for this number of rows; others work as well
_MIN_ROWS = 64


class BertSession:
    """A session equivalent to torch's own bfloat16, faster on short texts, and without transformers.

    Weights are packed once, GELU and residual sums are fused into the matrix products, and softmax, whose rows are
    short, is an exponential: its normaliser is one more column of the next product. A batch is a single TorchScript
    call that releases the interpreter lock, so that computing threads do not wait for Python threads.

    Args:
        weights: The tensors of a :class:`QueryHeadModel`, by name.
        config: The encoder's config.json, one that :meth:`fits`.
        threads: Batches computed in parallel, one core each; by default the CPUs of this process.
    """

    name = "torch-bf16"
    tokens_per_batch = TOKENS_PER_BATCH

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any], threads: int | None = None) -> None:
        self.n_parallel = threads or cores()
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])
        self._scores = _compiled()
        own = {name.removeprefix("encoder."): w for name, w in weights.items() if name.startswith("encoder.")}
        with torch.inference_mode():
            words = own["embeddings.word_embeddings.weight"].bfloat16()
            positions = own["embeddings.position_embeddings.weight"] + own["embeddings.token_type_embeddings.weight"][0]
            self._embeddings = [words, positions.bfloat16(), *_norm(own, "embeddings.LayerNorm")]
            self._layers = [_layer(own, f"encoder.layer.{i}.", self._heads) for i in range(config["num_hidden_layers"])]

    @staticmethod
    def fits(config: Mapping[str, Any]) -> bool:
        """Return whether this session supports an encoder of this config.json: a plain BERT, where torch has oneDNN."""
        plain = all(config.get(name, wanted) == wanted for name, wanted in _PLAIN.items())
        onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return plain and onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        rows = _rows(ids.size)
        text = (torch.from_numpy(a) for a in (_padded(ids, rows, 0), _padded(mask, rows, 1)))
        heads = [torch.from_numpy(a) for a in weights.arrays().values()]
        with torch.inference_mode():
            sizes = [rows, *_capacity(rows, ids.shape[1]), self._heads]
            spans, labels = self._scores(*text, sizes, self._embeddings, self._layers, heads, self._eps, LABEL_SCALE)
        return spans[: len(ids)].numpy(), labels[: len(ids)].numpy()


def _rows(tokens: int) -> int:
    """Round a number of tokens up to a power of two: oneDNN caches code for each number of rows."""
    return max(_MIN_ROWS, 1 << (tokens - 1).bit_length())


def _capacity(rows: int, length: int) -> tuple[int, int]:
    """Return the number of texts and tokens per text that attention is computed for, rounded to few different sizes.

    oneDNN caches about a megabyte for each size of a matrix product, and a corpus has texts of all lengths.
    """
    step = 1 << max(0, (length - 1).bit_length() - 4)
    longest = -(-length // step) * step
    return rows // (longest - step + 1), longest


def _padded(batch: np.ndarray, rows: int, filler: int) -> np.ndarray:
    """Pad a batch (B, T) to ``rows`` tokens with texts of ``filler``."""
    texts, length = batch.shape
    return np.pad(batch, ((0, rows // length - texts), (0, 0)), constant_values=filler)


def _scores(
    ids: Tensor,
    mask: Tensor,
    sizes: list[int],
    embeddings: list[Tensor],
    layers: list[list[Tensor]],
    head_weights: list[Tensor],
    eps: float,
    label_scale: float,
) -> tuple[Tensor, Tensor]:
    """Compute token and label scores; TorchScript, so that everything is an argument.

    ``sizes`` are rows, the texts and tokens of attention (see :func:`_capacity`), and attention heads; ``embeddings``
    are those of words and positions, and the weight and bias of their layer norm.
    """
    rows, max_texts, longest, heads = sizes[0], sizes[1], sizes[2], sizes[3]
    batch, length = ids.shape
    width = embeddings[0].shape[1]
    each = width // heads
    blank = (mask.view(-1) == 0).nonzero().squeeze(1)
    states = torch.embedding(embeddings[0], ids) + embeddings[1][:length]
    states = torch.layer_norm(states, [width], embeddings[2], embeddings[3], eps)
    tokens = batch * length
    states = torch.nn.functional.pad(states.view(-1, width), (0, 0, 0, rows - tokens))
    # Rows beyond the texts stay zero.
    queries_keys = states.new_zeros([2, max_texts, heads, longest, each])
    values = states.new_zeros([max_texts, heads, longest, each + 1])
    for w in layers:
        # The values of a padding token are zeros, the last column included: it gets no attention.
        projected = torch.ops.mkldnn._linear_pointwise(states, w[0], w[1], "none", [], "").index_fill_(0, blank, 0.0)
        projected = projected[:tokens].view(batch, length, -1)
        own_qk, own_values = projected[..., : 2 * width], projected[..., 2 * width :]
        queries_keys[:, :batch, :, :length] = own_qk.view(batch, length, 2, heads, each).permute(2, 0, 3, 1, 4)
        values[:batch, :, :length] = own_values.view(batch, length, heads, each + 1).transpose(1, 2)
        query, key = queries_keys[0].view(-1, longest, each), queries_keys[1].view(-1, longest, each)
        # e^80, summed over 512 tokens, is within the range of bfloat16; the scores of a BERT stay far below 80.
        weights = torch.bmm(query, key.transpose(1, 2)).clamp_(-80.0, 80.0).exp_()
        context = torch.bmm(weights, values.view(-1, longest, each + 1)).view(max_texts, heads, longest, each + 1)
        context = context[:batch, :, :length].transpose(1, 2)
        context = (context[..., :each] / context[..., each:]).reshape(-1, width)
        context = torch.nn.functional.pad(context, (0, 0, 0, rows - tokens))
        attended = torch.ops.mkldnn._linear_pointwise(context, states, w[2], w[3], "add")
        states = torch.layer_norm(attended, [width], w[4], w[5], eps)
        hidden = torch.ops.mkldnn._linear_pointwise(states, w[6], w[7], "gelu", [], "none")
        states = torch.ops.mkldnn._linear_pointwise(hidden, states, w[8], w[9], "add")
        states = torch.layer_norm(states, [width], w[10], w[11], eps)
    states = states[:tokens].view(batch, length, width).float()
    spans = torch.nn.functional.linear(states, head_weights[0], head_weights[1])
    # The sum over a text's tokens has the direction of their mean.
    text = torch.nn.functional.normalize(mask.float().unsqueeze(1).matmul(states).squeeze(1), dim=-1)
    return spans, label_scale * text.matmul(head_weights[2].t()) + head_weights[3]


@cache
def _compiled() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor, torch.compile, takes minutes
        return torch.jit.script(_scores)


def _layer(own: Mapping[str, Tensor], name: str, heads: int) -> list[Tensor]:
    """Return the weights of a layer, in the order of their use.

    Queries (scaled), keys and values are one product. The values of each head have one more column, which is always
    one, so that the attention output has the sum of the attention weights there.
    """

    def linear(which: str) -> tuple[Tensor, Tensor]:
        return own[f"{name}{which}.weight"].float(), own[f"{name}{which}.bias"].float()

    (query, query_bias), (key, key_bias), (value, value_bias) = (
        linear(f"attention.self.{which}") for which in ("query", "key", "value")
    )
    each = len(query) // heads
    ones = torch.nn.functional.pad(value_bias.view(heads, each), (0, 1), value=1.0).flatten()
    with_ones = torch.nn.functional.pad(value.view(heads, each, -1), (0, 0, 0, 1)).flatten(0, 1)
    scale = 1 / math.sqrt(each)
    return [
        *_packed(torch.cat([scale * query, key, with_ones]), torch.cat([scale * query_bias, key_bias, ones])),
        *_packed(*linear("attention.output.dense")),
        *_norm(own, f"{name}attention.output.LayerNorm"),
        *_packed(*linear("intermediate.dense")),
        *_packed(*linear("output.dense")),
        *_norm(own, f"{name}output.LayerNorm"),
    ]


def _packed(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), _PACKED_ROWS), bias.bfloat16()


def _norm(own: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return own[f"{name}.weight"].bfloat16(), own[f"{name}.bias"].bfloat16()
