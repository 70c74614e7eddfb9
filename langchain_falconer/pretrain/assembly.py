"""The making of a metamodel from a recipe: here, or as a bundle on another machine."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import langchain_falconer
from langchain_falconer.errors import ProxyError
from langchain_falconer.model import cores, resolve_device, save_metamodel
from langchain_falconer.model.encoder import load_tokenizer
from langchain_falconer.model.metamodel import halves, load_model
from langchain_falconer.model.network import QueryHeadModel
from langchain_falconer.pretrain.batches import Mixture, StepMaker
from langchain_falconer.pretrain.pretraining import PretrainProgress, pretrain
from langchain_falconer.pretrain.recipe import Recipe
from langchain_falconer.pretrain.run_bundle import RESULT
from langchain_falconer.pretrain.tasks import fields_of
from langchain_falconer.settings import DeviceName

MAX_BUNDLE_BYTES = 60 * 2**20
_MODULES = (
    "errors",
    "files",
    "model/encoder",
    "model/network",
    "model/sessions",
    "model/tokenization",
    "model/words",
    "pretrain/batches",
    "pretrain/pretraining",
    "pretrain/tasks",
    "pretrain/wordings",
    "train/frozen",
    "train/precision",
)
"""What a bundle takes along; none of them needs more than torch, transformers, tokenizers, safetensors and numpy."""


def make(
    recipe: Recipe,
    data: Sequence[Path],
    folder: Path,
    *,
    device: DeviceName = "auto",
    on_progress: Callable[[PretrainProgress], None] | None = None,
) -> dict[str, JsonValue]:
    """Make the metamodel of a recipe in ``folder``; the same call again resumes from the last checkpoint.

    Args:
        recipe: The recipe.
        data: Folders of datasets.
        folder: Where the metamodel goes; its checkpoints lie in ``checkpoints``.
        device: Where to train; ``auto`` is a GPU where there is one.
        on_progress: Called every 20 steps.

    Returns:
        Its card: recipe, sizes of the sources, duration, versions.

    Raises:
        CorpusError: A dataset cannot be read.
        ProxyError: There is no such device, the base cannot be loaded, or the weights are no longer numbers.
    """
    where = resolve_device(device).type
    mixture = recipe.mixture(data)
    model, maker = _start(recipe), _maker(recipe, mixture)
    workers = max(1, cores() - 1) if where == "cuda" else 0  # a GPU waits for batches; a CPU has no time to spare
    ran = pretrain(model, maker, folder / "checkpoints", device=where, workers=workers, on_progress=on_progress)
    card = _card(recipe, mixture) | {"ran": dict(ran), "device": where}
    save_metamodel(model, maker.tokenizer, folder, card)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return card


def write_bundle(recipe: Recipe, data: Sequence[Path], folder: Path) -> int:
    """Write all that a recipe needs to a folder which a machine with a GPU runs without network or this package.

    ``python run.py --seconds 600`` there needs torch, transformers, tokenizers and safetensors alone; cut short, the
    same command resumes. :func:`adopt` takes the result home.

    Returns:
        The size of the folder in bytes.

    Raises:
        CorpusError: A dataset cannot be read.
        ProxyError: The base cannot be loaded, or the bundle would be larger than 60 MiB.
    """
    mixture = recipe.mixture(data)
    model, maker = _start(recipe), _maker(recipe, mixture)
    folder.mkdir(parents=True, exist_ok=True)
    _write_modules(folder)
    model.encoder.config.save_pretrained(folder)  # type: ignore[union-attr,operator]
    maker.tokenizer.save(folder)
    save_file(halves(model), folder / "model.safetensors")
    save_file({"vectors": torch.from_numpy(maker.anchors.vectors)}, folder / "anchors.safetensors")
    with lzma.open(folder / "sources.jsonl.xz", "wt", encoding="utf-8") as out:
        print(json.dumps(list(maker.anchors.texts), ensure_ascii=False), file=out)
        for name, source in sorted(mixture.sources.items()):
            row = {"name": name, "weight": mixture.weights[name], "kind": type(source).__name__}
            print(json.dumps(row | {"fields": fields_of(source)}, ensure_ascii=False), file=out)
    (folder / "card.json").write_text(json.dumps(_card(recipe, mixture), indent=2) + "\n", "utf-8")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if size > MAX_BUNDLE_BYTES:
        raise ProxyError(f"the bundle has {size / 2**20:.0f} MiB, more than 60; hold some datasets out", path=folder)
    return size


def adopt(bundle: Path, folder: Path) -> dict[str, JsonValue]:
    """Make the metamodel in ``folder`` that a bundle trained.

    Args:
        bundle: The folder of the bundle, after it ran.
        folder: Where the metamodel goes.

    Returns:
        Its card.

    Raises:
        ProxyError: The bundle has no result, or one that does not fit.
    """
    result = bundle / RESULT
    try:
        card = json.loads((bundle / "card.json").read_text("utf-8"))
        ran = json.loads((result / "ran.json").read_text("utf-8"))
        weights = load_file(result / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ProxyError(f"{bundle} holds no result; run its run.py first", path=bundle) from error
    model = load_model(str(bundle))
    own = dict(model.named_parameters())
    fits = all(name in own and own[name].shape == w.shape and bool(w.isfinite().all()) for name, w in weights.items())
    if not fits or not weights:
        raise ProxyError(f"the result in {result} does not fit its bundle; run its run.py again", path=result)
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
    card |= ran
    save_metamodel(model, load_tokenizer(str(bundle)), folder, card)
    return dict(card)


def _start(recipe: Recipe) -> QueryHeadModel:
    torch.manual_seed(recipe.settings.seed)  # the weights that a bare encoder lacks are random
    model: QueryHeadModel = load_model(recipe.base)
    return model


def _maker(recipe: Recipe, mixture: Mixture) -> StepMaker:
    return StepMaker(mixture, recipe.anchor_texts(mixture), load_tokenizer(recipe.base), recipe.settings)


def _card(recipe: Recipe, mixture: Mixture) -> dict[str, JsonValue]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "sources": {name: len(source) for name, source in sorted(mixture.sources.items())},
        "versions": {name: version(name) for name in ("torch", "transformers", "langchain-falconer")},
    }


def _write_modules(folder: Path) -> None:
    package = Path(langchain_falconer.__file__).parent
    for name in _MODULES:
        target = folder / "langchain_falconer" / f"{name}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        (target.parent / "__init__.py").touch()
        shutil.copyfile(package / f"{name}.py", target)
    (folder / "langchain_falconer" / "__init__.py").touch()
    shutil.copyfile(package / "pretrain" / "run_bundle.py", folder / "run.py")
