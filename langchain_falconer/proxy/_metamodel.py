"""The metamodel on disk: an encoder with the networks that make slots, which any plan can start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_falconer.errors import ProxyError
from langchain_falconer.proxy._base import base_folder, empty_encoder, keep_layers, load_encoder

_WEIGHTS = "model.safetensors"


def load_model(base: str, layers: int | None = None) -> Any:
    """The network that training starts from (a :class:`SlotModel`, float32, evaluation mode).

    A metamodel or a proxy's folder brings everything it has learnt; a bare encoder, by folder or hub name, gets
    fresh networks for slots.

    Raises:
        ProxyError: there is no encoder, or its weights do not fit its config.json.
    """
    from langchain_falconer.proxy._model import SlotModel

    source = base_folder(base)
    if not _is_metamodel(Path(source)):
        return SlotModel(load_encoder(source, layers)).eval()
    model = SlotModel(empty_encoder(source))
    fill(model, Path(source))
    if layers is not None:
        keep_layers(model.encoder, layers, source)
    return model.eval()


def fill(model: Any, folder: Path) -> None:
    """Set a model's weights to those in a folder. Raises ``ProxyError`` where they are broken or do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        missing, unexpected = model.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ProxyError(
            f"the weights at {folder} are broken ({str(error).splitlines()[0][:160]}); train again"
        ) from None
    if unexpected or any("position_ids" not in name for name in missing):
        raise ProxyError(f"the weights at {folder} do not fit its config.json; train again")


def save_metamodel(model: Any, tokenizer: Any, folder: Path, card: dict[str, Any]) -> None:
    """Write a metamodel: float16 safetensors, config, tokenizer, and ``recipe.json`` (how it was made)."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    halves = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    save_file(halves, folder / _WEIGHTS)
    model.encoder.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def _is_metamodel(folder: Path) -> bool:
    """Whether a folder's weights include the networks that make slots."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / _WEIGHTS, "np") as weights:
            return "span_map.0.weight" in weights.keys()  # noqa: SIM118 (no container)
    except (OSError, SafetensorError):
        return False
