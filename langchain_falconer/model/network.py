"""The network: one encoding of the text, scored by the query heads of all steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from langchain_falconer.model.sessions import LABEL_SCALE

if TYPE_CHECKING:
    from langchain_falconer.model.head_index import HeadIndex

SPAN_STATES = 3  # outside, begin, inside


class QueryHeadModel(nn.Module):
    """An encoder and the generator of query heads; scores every head in one pass over the text.

    A span head is three vectors (outside, begin, inside) that score each token; a label head is one vector that
    scores the pooled text. Heads are generated from embedded words by two small networks (:meth:`span_heads`,
    :meth:`label_heads`); training adds a correction for each of its own steps. Inputs and outputs:

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
        # With zeros an untrained label scores the cosine of text and label: zero-shot from the start.
        nn.init.zeros_(to_label.weight)
        nn.init.zeros_(to_label.bias)

    def span_heads(self, questions: Tensor) -> tuple[Tensor, Tensor]:
        """Generate ``span_weight, span_bias`` from unit vectors (S, d) of span questions."""
        heads = self.span_map(questions * math.sqrt(self.hidden_size)).reshape(-1, self.hidden_size + 1)
        return heads[:, :-1], heads[:, -1]

    def label_heads(self, options: Tensor, questions: Tensor) -> tuple[Tensor, Tensor]:
        """Generate ``label_weight, label_bias`` from unit vectors (L, d) of options and of their questions."""
        heads = self.label_map(torch.cat([options, questions], -1) * math.sqrt(self.hidden_size))
        return options + heads[:, :-1], heads[:, -1]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        span_weight: Tensor,
        span_bias: Tensor,
        label_weight: Tensor,
        label_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the token scores and label scores of every head."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.score(states, attention_mask, span_weight, span_bias, label_weight, label_bias)

    @staticmethod
    def score(
        states: Tensor,
        attention_mask: Tensor,
        span_weight: Tensor,
        span_bias: Tensor,
        label_weight: Tensor,
        label_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the token scores and label scores of every head for the encoder's states (B, T, d)."""
        span_scores = states @ span_weight.T + span_bias
        label_scores = LABEL_SCALE * (pooled(states, attention_mask) @ label_weight.T) + label_bias
        return span_scores, label_scores

    def heads(
        self, index: HeadIndex, tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Generate the heads of an index from the words of its questions, with gradients into the encoder.

        Args:
            index: The steps.
            tokenize: Returns ``input_ids, attention_mask`` (B, T) of texts.

        Returns:
            ``span_weight, span_bias, label_weight, label_bias`` for :meth:`forward`.
        """
        words = (index.span_texts, index.label_texts, index.question_texts)
        unique = sorted({text for texts in words for text in texts})
        vectors = self.embed(*tokenize(unique)).to(next(self.span_map.parameters()).dtype)
        spans, options, questions = (vectors[[unique.index(text) for text in texts]] for texts in words)
        return (*self.span_heads(spans), *self.label_heads(options, questions))

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit sentence vectors (B, d)."""
        return pooled(
            self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask
        )


def pooled(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the token states to unit length (the pooling that all-MiniLM-L6-v2 was trained with)."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1.0)
    return functional.normalize(mean, dim=-1)


class QueryHeads(nn.Module):
    """The query heads of a set of steps: generated by the model from embedded words, plus learned corrections.

    Args:
        spans: Unit vectors (S, d) of span questions.
        options: Unit vectors (L, d) of the options of label steps.
        questions: Unit vectors (L, d) of the questions that those options answer.
    """

    span_vectors: Tensor
    option_vectors: Tensor
    question_vectors: Tensor

    def __init__(self, spans: Tensor, options: Tensor, questions: Tensor) -> None:
        super().__init__()
        d = spans.shape[-1]
        self.register_buffer("span_vectors", spans)
        self.register_buffer("option_vectors", options)
        self.register_buffer("question_vectors", questions)
        self.span_shift = nn.Parameter(torch.zeros(len(spans) * SPAN_STATES, d))
        self.span_bias = nn.Parameter(torch.zeros(len(spans) * SPAN_STATES))
        self.label_shift = nn.Parameter(torch.zeros(len(options), d))
        self.label_bias = nn.Parameter(torch.zeros(len(options)))

    def weights(self, model: QueryHeadModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``span_weight, span_bias, label_weight, label_bias`` for :meth:`QueryHeadModel.forward`."""
        generated = (
            *model.span_heads(self.span_vectors),
            *model.label_heads(self.option_vectors, self.question_vectors),
        )
        learned = (self.span_shift, self.span_bias, self.label_shift, self.label_bias)
        span, span_bias, label, label_bias = (a + b for a, b in zip(generated, learned, strict=True))
        return span, span_bias, label, label_bias
