"""Loading and saving of a metamodel: an encoder with the generator of query heads, the start of any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import ProxyError, first_line
from langchain_falconer.model.encoder import (
    MODEL_INIT_LOCK,
    base_folder,
    empty_encoder,
    is_metamodel,
    keep_layers,
    load_encoder,
    load_tokenizer,
    max_tokens,
)
from langchain_falconer.model.onnx_export import export_sharing
from langchain_falconer.model.query_heads import HeadGenerator, ZeroShotEncoder
from langchain_falconer.model.sessions import OnnxSession, TorchSession
from langchain_falconer.model.tokenization import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from langchain_falconer.model.network import QueryHeadModel

_WEIGHTS, _ONNX = "model.safetensors", "model.onnx"


def load_model(base: str, layers: int | None = None) -> Any:
    """Load the network that training starts from (a :class:`QueryHeadModel`, float32, evaluation mode).

    A bare encoder, by folder or hub name, gets a randomly initialised generator of query heads.

    Args:
        base: A metamodel, the folder of a proxy, or a bare encoder.
        layers: Keep only the first layers of the encoder; by default all.

    Raises:
        ProxyError: There is no encoder, or its weights do not fit its config.json.
    """
    from langchain_falconer.model.network import QueryHeadModel

    source = base_folder(base)
    with MODEL_INIT_LOCK:
        if not is_metamodel(Path(source)):
            return QueryHeadModel(load_encoder(source, layers)).eval()
        model = QueryHeadModel(empty_encoder(source))
        load_weights(model, Path(source))
        if layers is not None:
            keep_layers(model.encoder, layers, source)
        return model.eval()


def load_zero_shot_encoder(base: str) -> tuple[ZeroShotEncoder, int]:
    """Load a zero-shot encoder with the weights of a base, and the number of tokens of one encoder pass.

    A metamodel with an ONNX export runs on ONNX Runtime, and torch is not imported.

    Raises:
        ProxyError: The base cannot be loaded.
    """
    folder = Path(base_folder(base))
    if is_metamodel(folder) and (folder / _ONNX).is_file():
        config = json.loads((folder / "config.json").read_text("utf-8"))
        encoder = ZeroShotEncoder(
            OnnxSession(folder / _ONNX), Tokenizer.read(folder), HeadGenerator.read(folder / _WEIGHTS)
        )
        return encoder, max_tokens(config)
    model = load_model(base)
    encoder = ZeroShotEncoder(TorchSession(model), load_tokenizer(base), HeadGenerator.of(model))
    return encoder, max_tokens(model.encoder.config.to_dict())


def load_weights(model: Any, folder: Path) -> None:
    """Load the weights in a folder into a model.

    Raises:
        ProxyError: They are broken, or do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        missing, unexpected = model.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ProxyError(f"the weights at {folder} are broken ({first_line(error)}); train again") from error
    if unexpected or any("position_ids" not in name for name in missing):
        raise ProxyError(f"the weights at {folder} do not fit its config.json; train again")


def halves(model: QueryHeadModel) -> dict[str, Tensor]:
    """Return the weights of a model in float16, as they are stored."""
    import torch

    weights = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    return {name: value.detach().to(torch.float16).contiguous() for name, value in weights.items()}


def save_metamodel(model: Any, tokenizer: Tokenizer, folder: Path, card: dict[str, Any]) -> None:
    """Write a metamodel: float16 safetensors, an ONNX graph that reads them, config, tokenizer, and ``recipe.json``.

    Args:
        model: A :class:`QueryHeadModel`.
        tokenizer: Its tokenizer.
        folder: The folder to write to.
        card: The content of ``recipe.json``: how the metamodel was trained.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(halves(model), folder / _WEIGHTS)
    model.encoder.config.save_pretrained(folder)
    tokenizer.save(folder)
    export_sharing(load_model(str(folder)), folder / _ONNX, folder / _WEIGHTS)
    (folder / "recipe.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")
