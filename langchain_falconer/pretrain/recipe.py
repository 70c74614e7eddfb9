"""The recipe of a metamodel: what it starts from, what it learns from, and how."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_falconer.errors import SettingsError, first_fault
from langchain_falconer.model import PLAIN_BASE, Embedder
from langchain_falconer.pretrain.batches import Anchors, Mixture
from langchain_falconer.pretrain.datasets import read_datasets, read_written
from langchain_falconer.pretrain.pretraining import PretrainSettings
from langchain_falconer.pretrain.tasks import Source

SHIPPED = Path(__file__).parent / "falconer-small.json"
_LARGE = 4_000
_ANCHOR_CHARS = 300


class Recipe(BaseModel):
    """The recipe of a metamodel.

    A dataset weighs as much as the square root of its size, up to 4,000 rows: none drowns the others.

    Attributes:
        name: Its name.
        base: What it starts from: a metamodel or an encoder, by folder or name.
        settings: Settings of pretraining.
        holdout: Names of datasets that it never reads: those that it is measured on.
        written_share: Share of the tasks that are drawn from the texts written for this project.
        anchors: Texts whose sentence vectors are to stay those of the plain encoder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base: str = PLAIN_BASE
    settings: PretrainSettings
    holdout: tuple[str, ...] = ()
    written_share: float = Field(default=0.25, ge=0, lt=1)
    anchors: int = Field(default=3_000, ge=0)

    @classmethod
    def read(cls, file: Path = SHIPPED) -> Recipe:
        """Read a recipe from a JSON file.

        Raises:
            SettingsError: It cannot be read, or a field is wrong.
        """
        try:
            return cls.model_validate_json(file.read_text("utf-8"))
        except OSError as error:
            raise SettingsError(f"the recipe {file} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            field, fault = first_fault(error)
            raise SettingsError(f"recipe {file}: {field}: {fault}", field=field) from error

    def lasting(self, minutes: float | None) -> Recipe:
        """Return the recipe with another duration, or as it is."""
        if minutes is None:
            return self
        settings = replace(self.settings, steps=None, seconds=60 * minutes)
        return self.model_copy(update={"settings": settings})

    def mixture(self, folders: Sequence[Path]) -> Mixture:
        """Return what the recipe draws from: the datasets in folders, and the written texts.

        Raises:
            CorpusError: A dataset cannot be read.
        """
        datasets = read_datasets(folders, self.holdout)
        weights = {name: math.sqrt(min(len(source), _LARGE)) for name, source in datasets.items()}
        if not self.written_share:
            return Mixture(datasets, weights)
        written = read_written()
        scale = self.written_share / (1 - self.written_share) * (sum(weights.values()) or 1.0)
        texts = sum(map(len, written.values()))
        weights |= {name: scale * len(source) / texts for name, source in written.items()}
        return Mixture(datasets | written, weights)

    def anchor_texts(self, mixture: Mixture) -> Anchors:
        """Draw texts of every source, and embed them with the plain encoder.

        Raises:
            ProxyError: The plain encoder is not installed.
        """
        rng = random.Random(self.settings.seed)
        each = math.ceil(self.anchors / max(1, len(mixture.sources)))
        texts = [text for _, source in sorted(mixture.sources.items()) for text in _texts(source, rng, each)]
        texts = rng.sample(texts, min(self.anchors, len(texts)))
        return Anchors(texts, Embedder(PLAIN_BASE)(texts).astype(np.float16) if texts else np.zeros((0, 1), np.float16))


def _texts(source: Source, rng: random.Random, size: int) -> list[str]:
    texts: list[str] = []
    while len(texts) < min(size, len(source)):
        texts += source.draw(rng, size).texts
    return [text[:_ANCHOR_CHARS] for text in texts[:size]]
