"""The network: one encoding of the text, read by a slot vector per question."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SPAN_STATES = 3  # outside, begin, inside
_START_SCALE = 16.0


class SlotModel(nn.Module):
    """Scores every slot in one pass over the text.

    A span slot is three vectors (outside, begin, inside) that score each token; a label slot is one vector that
    scores the pooled text. Slots are made from an instruction's embedding by two linear maps, plus a correction that
    training learns for each of its own steps. Inputs and outputs:

    - ``input_ids``, ``attention_mask``: (B, T)
    - ``span_weight`` (3S, d), ``span_bias`` (3S); ``label_weight`` (L, d), ``label_bias`` (L)
    - returns token scores (B, T, 3S) and label scores (B, L)
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        d = int(encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.hidden_size = d
        self.span_map = nn.Linear(d, SPAN_STATES * d, bias=False)
        self.label_map = nn.Linear(d, d, bias=False)
        nn.init.normal_(self.span_map.weight, std=0.02)
        # The identity makes an untrained label score the cosine of text and label: zero-shot from the start.
        nn.init.eye_(self.label_map.weight)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        span_weight: Tensor,
        span_bias: Tensor,
        label_weight: Tensor,
        label_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Token scores and label scores of every slot."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        span_scores = states @ span_weight.T + span_bias
        label_scores = _START_SCALE * (pooled(states, attention_mask) @ label_weight.T) + label_bias
        return span_scores, label_scores

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Unit sentence vectors (B, d)."""
        return pooled(
            self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask
        )


def pooled(states: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of the token states, at unit length (the pooling that all-MiniLM-L6-v2 was trained with)."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1.0)
    return functional.normalize(mean, dim=-1)


class Slots(nn.Module):
    """The slots of a set of steps: instruction vectors through the model's maps, plus learned corrections."""

    span_vectors: Tensor
    label_vectors: Tensor

    def __init__(self, span_vectors: Tensor, label_vectors: Tensor) -> None:
        super().__init__()
        d = span_vectors.shape[-1]
        self.register_buffer("span_vectors", span_vectors)
        self.register_buffer("label_vectors", label_vectors)
        self.span_shift = nn.Parameter(torch.zeros(len(span_vectors) * SPAN_STATES, d))
        self.span_bias = nn.Parameter(torch.zeros(len(span_vectors) * SPAN_STATES))
        self.label_shift = nn.Parameter(torch.zeros(len(label_vectors), d))
        self.label_bias = nn.Parameter(torch.zeros(len(label_vectors)))

    def weights(self, model: SlotModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``span_weight, span_bias, label_weight, label_bias`` for :meth:`SlotModel.forward`."""
        d = model.hidden_size
        span = model.span_map(self.span_vectors).reshape(-1, d) + self.span_shift
        return span, self.span_bias, model.label_map(self.label_vectors) + self.label_shift, self.label_bias


def state_tensors(model: SlotModel, slots: Slots) -> dict[str, Any]:
    """Every tensor of a proxy by name, ready for safetensors."""
    named = {f"model.{k}": v for k, v in model.state_dict().items()} | {
        f"slots.{k}": v for k, v in slots.state_dict().items()
    }
    return {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in named.items() if v.is_floating_point()}
