"""Query heads generated from the words of questions, without torch: answers to questions without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.sessions import LABEL_SCALE, HeadWeights, Session, make_executor
from langchain_falconer.model.tokenization import Tokenizer, length_batches, pad_ids

_MAPS = tuple(
    f"{name}_map.{layer}.{part}" for name in ("span", "label") for layer in (0, 2) for part in ("weight", "bias")
)

MAX_TOKENS = 256
"""Tokens of a text that count in its sentence vector: as many as the base was trained with."""
_CHARS_PER_TOKEN = 8  # what is further on is not among the first tokens, and need not be tokenised


class HeadGenerator:
    """The two small networks of a :class:`QueryHeadModel` that generate query heads, in numpy.

    Args:
        arrays: Their weights, by their names in the model.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = {name: np.asarray(arrays[name], np.float32) for name in _MAPS}
        self.width = int(self._arrays["label_map.0.bias"].shape[0])

    @classmethod
    def read(cls, file: Path) -> HeadGenerator:
        """Read the two networks from a safetensors file, and no other weights of it."""
        from safetensors import safe_open

        with safe_open(file, "np") as weights:
            return cls({name: weights.get_tensor(name) for name in _MAPS})

    @classmethod
    def of(cls, model: Any) -> HeadGenerator:
        """Copy the two networks of a torch model."""
        state = model.state_dict()
        return cls({name: state[name].detach().float().numpy() for name in _MAPS})

    def __call__(self, spans: np.ndarray, options: np.ndarray, questions: np.ndarray) -> HeadWeights:
        """Generate query heads from unit vectors.

        Args:
            spans: Vectors of span questions (S, d).
            options: Vectors of label options (L, d).
            questions: Vectors of the questions that the options answer (L, d).
        """
        span = self._map("span", spans).reshape(-1, self.width + 1)
        label = self._map("label", np.concatenate([options, questions], -1))
        return HeadWeights(
            np.ascontiguousarray(span[:, :-1]),
            np.ascontiguousarray(span[:, -1]),
            np.ascontiguousarray(options + label[:, :-1]),
            np.ascontiguousarray(label[:, -1]),
        )

    def _map(self, name: str, vectors: np.ndarray) -> np.ndarray:
        from scipy.special import erf

        first, first_bias, last, last_bias = (
            self._arrays[f"{name}_map.{layer}.{part}"] for layer in (0, 2) for part in ("weight", "bias")
        )
        hidden = vectors * np.float32(np.sqrt(self.width)) @ first.T + first_bias
        gelu = (0.5 * hidden * (1 + erf(hidden / np.sqrt(2.0)))).astype(np.float32)
        mapped: np.ndarray = gelu @ last.T + last_bias
        return mapped


@dataclass(frozen=True)
class ZeroShotEncoder:
    """Embeds texts as sentence vectors, and questions as query heads.

    Attributes:
        session: Computes the network.
        tokenizer: Reads the words.
        generator: Generates query heads from sentence vectors.
    """

    session: Session
    tokenizer: Tokenizer
    generator: HeadGenerator

    def embed(self, texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> np.ndarray:
        """Return unit sentence vectors (n, d), float32; of a long text only the first ``max_tokens`` count.

        They are computed as the scores of d label heads, each a unit vector.
        """
        width = self.generator.width
        rows = np.zeros((len(texts), width), np.float32)
        units = HeadWeights(
            np.zeros((0, width), np.float32),
            np.zeros(0, np.float32),
            np.eye(width, dtype=np.float32),
            np.zeros(width, np.float32),
        )
        beginnings = [text[: _CHARS_PER_TOKEN * max_tokens] for text in texts]
        ids = [encoding.ids for encoding in self.tokenizer.encode(beginnings, max_tokens, 0)]
        batches = list(length_batches([len(own) for own in ids], self.session.tokens_per_batch))

        def compute(batch: Sequence[int]) -> np.ndarray:
            padded = pad_ids([ids[i] for i in batch], self.tokenizer.pad_id)
            return self.session.run(*padded, units)[1] / LABEL_SCALE

        with make_executor(self.session.n_parallel) as executor:
            for batch, vectors in zip(batches, executor.map(compute, batches), strict=True):
                rows[batch] = vectors
        return rows

    def vectors(self, index: HeadIndex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embed the words of an index: span questions (S, d), options (L, d) and the question of each option (L, d)."""
        words = (index.span_texts, index.label_texts, index.question_texts)
        unique = list(dict.fromkeys(text for texts in words for text in texts))
        vectors = dict(zip(unique, self.embed(unique), strict=True))
        spans, options, questions = (
            np.stack([vectors[t] for t in texts]) if texts else np.zeros((0, self.generator.width), np.float32)
            for texts in words
        )
        return spans, options, questions

    def heads(self, index: HeadIndex) -> HeadWeights:
        """Generate the query heads of an index from its words alone, without training."""
        return self.generator(*self.vectors(index))
