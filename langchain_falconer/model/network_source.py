"""Source of a network's weights: memory, a folder, or a base; each form is loaded on first use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_falconer.model.artifact import FILES
from langchain_falconer.model.encoder import MODEL_INIT_LOCK, empty_encoder
from langchain_falconer.model.metamodel import load_model, load_weights
from langchain_falconer.model.query_heads import HeadGenerator


@dataclass(frozen=True)
class NetworkSource:
    """The place of a network's weights: exactly one of the three is set.

    Attributes:
        loaded: A :class:`QueryHeadModel` in memory.
        folder: The folder of a saved proxy.
        base: A base that was not trained further.
    """

    loaded: Any = None
    folder: Path | None = None
    base: str | None = None

    @cached_property
    def module(self) -> Any:
        """The torch module, in evaluation mode."""
        if self.loaded is not None:
            return self.loaded
        if self.folder is None:
            return load_model(self.base or "")
        from langchain_falconer.model.network import QueryHeadModel

        with MODEL_INIT_LOCK:
            module = QueryHeadModel(empty_encoder(str(self.folder)))
            load_weights(module, self.folder)
            return module.eval()

    @property
    def config(self) -> dict[str, Any]:
        """The encoder's config.json."""
        if self.folder is None:
            config: dict[str, Any] = self.module.encoder.config.to_dict()
            return config
        return dict(json.loads((self.folder / FILES["config"]).read_text("utf-8")))

    @property
    def tensors(self) -> dict[str, Any]:
        """The weights by name; those in a folder are read without transformers."""
        from safetensors.torch import load_file

        return load_file(self.folder / FILES["weights"]) if self.folder else self.module.state_dict()

    @cached_property
    def head_generator(self) -> HeadGenerator:
        """The generator of query heads from the words of a question."""
        return HeadGenerator.read(self.folder / FILES["weights"]) if self.folder else HeadGenerator.of(self.module)
