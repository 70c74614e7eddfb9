"""The making of a metamodel, from data sets and answers of an LLM to a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langchain_falconer.model import save_metamodel
from langchain_falconer.pretrain.distillation import distilled
from langchain_falconer.pretrain.pretraining import PretrainProgress, pretrain
from langchain_falconer.pretrain.recipe import Mixture, Recipe
from langchain_falconer.pretrain.task_sources import askable, markable, raw_texts, sources
from langchain_falconer.pretrain.tasks import Source

ANSWERS = Path(__file__).parent / "answers.jsonl.gz"


def make(
    recipe: Recipe,
    data: Path,
    folder: Path,
    answers: Path = ANSWERS,
    on_progress: Callable[[PretrainProgress], None] | None = None,
) -> dict[str, Any]:
    """Make the metamodel of a recipe in ``folder``; the same call again goes on from the last checkpoint.

    Args:
        recipe: Settings and sources of the metamodel.
        data: The folder of the data sets.
        folder: Where the metamodel goes; checkpoints lie in its ``checkpoints``.
        answers: What an LLM said about raw texts (:func:`distil`).
        on_progress: Told every 20 steps.

    Returns:
        Its card: recipe, sizes of the sources, hash of the answers, versions.

    Raises:
        CorpusError: the data is not there.
        SettingsError: the recipe names a source that there is not.
    """
    settings = recipe.settings
    if recipe.start:
        make(recipe.start, data, folder / "start", answers, on_progress)
        settings = settings.model_copy(update={"base": str(folder / "start")})
    sources = gathered(recipe, data, answers)
    mixture = Mixture(sources, recipe.mix)
    model, tokenizer = pretrain(mixture.draw, raw_texts(data), settings, folder / "checkpoints", on_progress)
    card = {
        "recipe": recipe.model_dump(mode="json"),
        "answers_sha256": hashlib.sha256(answers.read_bytes()).hexdigest(),
        "sources": {name: len(sources[name]) for name in recipe.mix},
        "versions": {name: version(name) for name in ("torch", "transformers", "langchain-falconer")},
    }
    save_metamodel(model, tokenizer, folder, card)
    return card


def gathered(recipe: Recipe, data: Path, answers: Path = ANSWERS) -> dict[str, Source]:
    """The sources that a recipe mixes, by name.

    Raises:
        CorpusError: the data is not there.
    """
    return sources(data, recipe.holdout, recipe.mix) | distilled(answers, [*askable(data), *markable(data)])
