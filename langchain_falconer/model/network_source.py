"""Source of a network's weights: memory, a folder, or a base; each form is loaded on first use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer.model.artifact import FILES
from langchain_falconer.model.encoder import MODEL_INIT_LOCK, base_folder, empty_encoder, is_metamodel
from langchain_falconer.model.metamodel import load_model, load_weights
from langchain_falconer.model.query_heads import HeadGenerator

if TYPE_CHECKING:
    from torch import Tensor


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
    def exported(self) -> Path | None:
        """The exported graph beside the weights; None if there is none."""
        file = self._files / FILES["onnx"] if self._files else None
        return file if file and file.is_file() else None

    @property
    def config(self) -> Mapping[str, object]:
        """The encoder's config.json."""
        if self._files is None:
            config: Mapping[str, object] = self.module.encoder.config.to_dict()
            return config
        return dict(json.loads((self._files / FILES["config"]).read_text("utf-8")))

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The weights by name; those in a folder are read without transformers."""
        from safetensors.torch import load_file

        return load_file(self._files / FILES["weights"]) if self._files else self.module.state_dict()

    @cached_property
    def head_generator(self) -> HeadGenerator:
        """The generator of query heads from the words of a question."""
        return HeadGenerator.read(self._files / FILES["weights"]) if self._files else HeadGenerator.of(self.module)

    @cached_property
    def _files(self) -> Path | None:
        """The folder of the weights: that of a proxy or a metamodel; None if they are elsewhere or in memory."""
        if self.loaded is not None or self.folder:
            return self.folder
        folder = Path(base_folder(self.base or ""))
        return folder if is_metamodel(folder) else None
