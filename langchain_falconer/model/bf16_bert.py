"""A BERT on the CPU in bfloat16: weights laid out as oneDNN wants them, and few passes over memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langchain_falconer.model.sessions import LABEL_SCALE, HeadWeights, cores

_PLAIN = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_ROWS = 1024  # what weights are laid out for; other numbers of rows do as well
_LEAST_ROWS = 64


class BertSession:
    """Scores as torch's own bfloat16 does, faster on short texts, and without transformers.

    Weights are laid out once, GELU and residual sums are part of the matrix products, and softmax, whose rows are
    short, is an exponential: the sum to divide by is one more column of the product that follows. A whole batch is one
    call (TorchScript) that needs no interpreter lock, so that threads which compute wait for none that runs Python.

    Args:
        weights: The tensors of a :class:`QueryHeadModel`, by name.
        config: The encoder's config.json, one that :meth:`fits`.
        threads: The cores it is to keep busy, a batch each; by default all of this process.
    """

    name = "torch-bf16"

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
        """Whether an encoder of this config.json can be computed here: a plain BERT, where torch has oneDNN."""
        plain = all(config.get(name, wanted) == wanted for name, wanted in _PLAIN.items())
        onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return plain and onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def run(self, ids: np.ndarray, mask: np.ndarray, weights: HeadWeights) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Session`."""
        rows = _rows(ids.size)
        text = (torch.from_numpy(a) for a in (_filled(ids, rows, 0), _filled(mask, rows, 1)))
        heads = [torch.from_numpy(a) for a in weights.arrays().values()]
        with torch.inference_mode():
            sizes = [rows, *_room(rows, ids.shape[1]), self._heads]
            spans, labels = self._scores(*text, sizes, self._embeddings, self._layers, heads, self._eps, LABEL_SCALE)
        return spans[: len(ids)].numpy(), labels[: len(ids)].numpy()


def _rows(tokens: int) -> int:
    """A number of rows that holds so many tokens, one of few: oneDNN keeps code for each that it meets."""
    return max(_LEAST_ROWS, 1 << (tokens - 1).bit_length())


def _room(rows: int, length: int) -> tuple[int, int]:
    """How many texts of how many tokens attention has room for, where texts of ``length`` fill ``rows``: one of few.

    oneDNN keeps about a megabyte for each size of a product of matrices; a corpus has texts of all lengths.
    """
    step = 1 << max(0, (length - 1).bit_length() - 4)
    longest = -(-length // step) * step
    return rows // (longest - step + 1), longest


def _filled(batch: np.ndarray, rows: int, filler: int) -> np.ndarray:
    """A batch (B, T) with as many texts of ``filler`` behind it as ``rows`` have room for."""
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
    """Token and label scores of texts that nearly fill ``rows``; TorchScript, so all that it needs is an argument.

    ``sizes`` are rows, the texts and tokens that attention has room for (see :func:`_room`), and attention heads;
    ``embeddings`` are those of words and positions, and the weight and bias of their layer norm.
    """
    rows, most, longest, heads = sizes[0], sizes[1], sizes[2], sizes[3]
    batch, length = ids.shape
    width = embeddings[0].shape[1]
    each = width // heads
    blank = (mask.view(-1) == 0).nonzero().squeeze(1)
    states = torch.embedding(embeddings[0], ids) + embeddings[1][:length]
    states = torch.layer_norm(states, [width], embeddings[2], embeddings[3], eps)
    tokens = batch * length
    states = torch.nn.functional.pad(states.view(-1, width), (0, 0, 0, rows - tokens))
    # What is beyond the texts stays zero.
    asking = states.new_zeros([2, most, heads, longest, each])
    values = states.new_zeros([most, heads, longest, each + 1])
    for w in layers:
        # A blank token's values are zeros, those of the last column included: nobody sees it.
        asked = torch.ops.mkldnn._linear_pointwise(states, w[0], w[1], "none", [], "").index_fill_(0, blank, 0.0)
        asked = asked[:tokens].view(batch, length, -1)
        queries_keys, own = asked[..., : 2 * width], asked[..., 2 * width :]
        asking[:, :batch, :, :length] = queries_keys.view(batch, length, 2, heads, each).permute(2, 0, 3, 1, 4)
        values[:batch, :, :length] = own.view(batch, length, heads, each + 1).transpose(1, 2)
        query, key = asking[0].view(-1, longest, each), asking[1].view(-1, longest, each)
        # e^80, summed over 512 tokens, is still a number of bfloat16; a BERT's own scores stay far below 80.
        weights = torch.bmm(query, key.transpose(1, 2)).clamp_(-80.0, 80.0).exp_()
        seen = torch.bmm(weights, values.view(-1, longest, each + 1)).view(most, heads, longest, each + 1)
        seen = seen[:batch, :, :length].transpose(1, 2)
        seen = (seen[..., :each] / seen[..., each:]).reshape(-1, width)
        seen = torch.nn.functional.pad(seen, (0, 0, 0, rows - tokens))
        seen = torch.ops.mkldnn._linear_pointwise(seen, states, w[2], w[3], "add")
        states = torch.layer_norm(seen, [width], w[4], w[5], eps)
        risen = torch.ops.mkldnn._linear_pointwise(states, w[6], w[7], "gelu", [], "none")
        states = torch.ops.mkldnn._linear_pointwise(risen, states, w[8], w[9], "add")
        states = torch.layer_norm(states, [width], w[10], w[11], eps)
    states = states[:tokens].view(batch, length, width).float()
    spans = torch.nn.functional.linear(states, head_weights[0], head_weights[1])
    # The sum over a text's tokens points where their mean does.
    text = torch.nn.functional.normalize(mask.float().unsqueeze(1).matmul(states).squeeze(1), dim=-1)
    return spans, label_scale * text.matmul(head_weights[2].t()) + head_weights[3]


@cache
def _compiled() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile, which is to follow it, takes minutes
        return torch.jit.script(_scores)


def _layer(own: Mapping[str, Tensor], name: str, heads: int) -> list[Tensor]:
    """The weights of a layer, in the order of their use.

    Queries (scaled), keys and values are one product. Each head's values have one column more, which is always one:
    what a token sees in it is the sum of its attention weights.
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
    return torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), _ROWS), bias.bfloat16()


def _norm(own: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return own[f"{name}.weight"].bfloat16(), own[f"{name}.bias"].bfloat16()
