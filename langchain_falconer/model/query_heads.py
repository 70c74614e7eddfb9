"""From the words of questions to heads, without torch: what answers a question that nothing was trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.sessions import LABEL_SCALE, HeadWeights, Session
from langchain_falconer.model.tokenization import Tokenizer, WindowSplitter, pad

_MAPS = tuple(
    f"{name}_map.{layer}.{part}" for name in ("span", "label") for layer in (0, 2) for part in ("weight", "bias")
)


class HeadGenerator:
    """The two small networks of a :class:`QueryHeadModel` that make heads, in numpy.

    Args:
        arrays: Their weights, by the names that the model has for them.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = {name: np.asarray(arrays[name], np.float32) for name in _MAPS}
        self.width = int(self._arrays["label_map.0.bias"].shape[0])

    @classmethod
    def read(cls, file: Path) -> HeadGenerator:
        """The maps in a safetensors file; nothing else of it is read."""
        from safetensors import safe_open

        with safe_open(file, "np") as weights:
            return cls({name: weights.get_tensor(name) for name in _MAPS})

    @classmethod
    def of(cls, model: Any) -> HeadGenerator:
        """The maps of a torch model, as they are now."""
        state = model.state_dict()
        return cls({name: state[name].detach().float().numpy() for name in _MAPS})

    def __call__(self, spans: np.ndarray, options: np.ndarray, asked: np.ndarray) -> HeadWeights:
        """Make query heads from unit vectors.

        Args:
            spans: Vectors of span questions (S, d).
            options: Vectors of label options (L, d).
            asked: Vectors of the questions that the options answer (L, d).
        """
        span = self._through("span", spans).reshape(-1, self.width + 1)
        label = self._through("label", np.concatenate([options, asked], -1))
        return HeadWeights(
            np.ascontiguousarray(span[:, :-1]),
            np.ascontiguousarray(span[:, -1]),
            np.ascontiguousarray(options + label[:, :-1]),
            np.ascontiguousarray(label[:, -1]),
        )

    def _through(self, name: str, vectors: np.ndarray) -> np.ndarray:
        from scipy.special import erf

        first, first_bias, last, last_bias = (
            self._arrays[f"{name}_map.{layer}.{part}"] for layer in (0, 2) for part in ("weight", "bias")
        )
        hidden = vectors * np.float32(np.sqrt(self.width)) @ first.T + first_bias
        gelu = (0.5 * hidden * (1 + erf(hidden / np.sqrt(2.0)))).astype(np.float32)
        made: np.ndarray = gelu @ last.T + last_bias
        return made


@dataclass(frozen=True)
class ZeroShotEncoder:
    """Reads words: into sentence vectors, and questions into heads."""

    session: Session
    tokenizer: Tokenizer
    maps: HeadGenerator

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit sentence vectors (n, d), float32; of a long text only the first 256 tokens count.

        They are read off as the scores of d label heads, each a unit vector.
        """
        width = self.maps.width
        rows = np.zeros((len(texts), width), np.float32)
        units = HeadWeights(
            np.zeros((0, width), np.float32),
            np.zeros(0, np.float32),
            np.eye(width, dtype=np.float32),
            np.zeros(width, np.float32),
        )
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for at in range(0, len(order), 64):
            batch = order[at : at + 64]
            windows = WindowSplitter(self.tokenizer, 256)([texts[i][:2000] for i in batch])
            firsts = {w.text: w for w in reversed(windows)}
            ids, mask = pad([firsts[i] for i in range(len(batch))], self.tokenizer.pad_id)
            rows[batch] = self.session.run(ids, mask, units)[1] / LABEL_SCALE
        return rows

    def vectors(self, index: HeadIndex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The words of an index embedded: span questions, options, and the question of each option."""
        words = (index.span_texts, index.label_texts, index.asked_texts)
        unique = list(dict.fromkeys(text for texts in words for text in texts))
        vectors = dict(zip(unique, self.embed(unique), strict=True))
        spans, options, asked = (
            np.stack([vectors[t] for t in texts]) if texts else np.zeros((0, self.maps.width), np.float32)
            for texts in words
        )
        return spans, options, asked

    def heads(self, index: HeadIndex) -> HeadWeights:
        """Query heads made from words alone, nothing learned for them yet."""
        return self.maps(*self.vectors(index))
