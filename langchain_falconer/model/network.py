"""The network: one encoding of the text, read by the head of each question."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.sessions import LABEL_SCALE

SPAN_STATES = 3  # outside, begin, inside
ReadWords = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Words as ``input_ids, attention_mask``."""
ScoreTexts = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``input_ids, attention_mask`` (B, T) of texts to token scores (B, T, 3S) and label scores (B, L)."""


class QueryHeadModel(nn.Module):
    """Scores every head in one pass over the text.

    A span head is three vectors (outside, begin, inside) that score each token; a label head is one vector that
    scores the pooled text. Heads are made from embedded words by two small networks (:meth:`span_heads`,
    :meth:`label_heads`), plus a correction that training learns for each of its own steps. Inputs and outputs:

    - ``input_ids``, ``attention_mask``: (B, T)
    - ``span_weight`` (3S, d), ``span_bias`` (3S); ``label_weight`` (L, d), ``label_bias`` (L)
    - returns token scores (B, T, 3S) and label scores (B, L)
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        d = int(encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.hidden_size = d
        to_span, to_label = nn.Linear(d, SPAN_STATES * (d + 1)), nn.Linear(d, d + 1)
        self.span_map = nn.Sequential(nn.Linear(d, d), nn.GELU(), to_span)
        self.label_map = nn.Sequential(nn.Linear(2 * d, d), nn.GELU(), to_label)
        nn.init.normal_(to_span.weight, std=0.02)
        nn.init.zeros_(to_span.bias)
        # Zeros make an untrained label score the cosine of text and label: zero-shot from the start.
        nn.init.zeros_(to_label.weight)
        nn.init.zeros_(to_label.bias)

    def span_heads(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """``span_weight, span_bias`` from unit vectors (S, d) of what each step asks for."""
        made = self.span_map(asked * math.sqrt(self.hidden_size)).reshape(-1, self.hidden_size + 1)
        return made[:, :-1], made[:, -1]

    def label_heads(self, options: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """``label_weight, label_bias`` from unit vectors (L, d) of each option, and of what is asked of it."""
        made = self.label_map(torch.cat([options, asked], -1) * math.sqrt(self.hidden_size))
        return options + made[:, :-1], made[:, -1]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        span_weight: Tensor,
        span_bias: Tensor,
        label_weight: Tensor,
        label_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Token scores and label scores of every head."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        span_scores = states @ span_weight.T + span_bias
        label_scores = LABEL_SCALE * (pooled(states, attention_mask) @ label_weight.T) + label_bias
        return span_scores, label_scores

    def scorer(self, index: HeadIndex, read: ReadWords) -> ScoreTexts:
        """Return a function that scores texts by the questions of an index, with heads made from their words alone.

        Gradients go into the encoder that reads those words.
        """
        words = (index.span_texts, index.label_texts, index.asked_texts)
        unique = sorted({text for texts in words for text in texts})
        vectors = self.embed(*read(unique)).to(next(self.span_map.parameters()).dtype)
        spans, options, asked = (vectors[[unique.index(text) for text in texts]] for texts in words)
        heads = (*self.span_heads(spans), *self.label_heads(options, asked))
        return lambda input_ids, attention_mask: self(input_ids, attention_mask, *heads)

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


class QueryHeads(nn.Module):
    """The heads of a set of steps: made by the model from embedded words, plus learned corrections.

    Args:
        spans: Unit vectors (S, d) of what span steps ask for.
        options: Unit vectors (L, d) of the options of label steps.
        asked: Unit vectors (L, d) of the instructions that those options answer.
    """

    span_vectors: Tensor
    option_vectors: Tensor
    asked_vectors: Tensor

    def __init__(self, spans: Tensor, options: Tensor, asked: Tensor) -> None:
        super().__init__()
        d = spans.shape[-1]
        self.register_buffer("span_vectors", spans)
        self.register_buffer("option_vectors", options)
        self.register_buffer("asked_vectors", asked)
        self.span_shift = nn.Parameter(torch.zeros(len(spans) * SPAN_STATES, d))
        self.span_bias = nn.Parameter(torch.zeros(len(spans) * SPAN_STATES))
        self.label_shift = nn.Parameter(torch.zeros(len(options), d))
        self.label_bias = nn.Parameter(torch.zeros(len(options)))

    def weights(self, model: QueryHeadModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``span_weight, span_bias, label_weight, label_bias`` for :meth:`QueryHeadModel.forward`."""
        made = (*model.span_heads(self.span_vectors), *model.label_heads(self.option_vectors, self.asked_vectors))
        learned = (self.span_shift, self.span_bias, self.label_shift, self.label_bias)
        span, span_bias, label, label_bias = (a + b for a, b in zip(made, learned, strict=True))
        return span, span_bias, label, label_bias
