"""The recipe of a metamodel: its settings, and how often each source is drawn from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_falconer.errors import SettingsError
from langchain_falconer.pretrain.pretraining import PretrainSettings, Task
from langchain_falconer.pretrain.tasks import Source

SHIPPED = Path(__file__).parent / "falconer-small.json"


class Recipe(BaseModel):
    """The recipe of a metamodel.

    ``mix`` gives each source's weight; ``holdout`` names sets that it never sees. A recipe that has a ``start`` goes on
    from what that one makes, in place of ``settings.base``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    settings: PretrainSettings
    holdout: tuple[str, ...] = ()
    mix: Mapping[str, float] = Field(min_length=1)
    start: Recipe | None = None

    @classmethod
    def read(cls, file: Path = SHIPPED) -> Recipe:
        """The recipe in a JSON file. Raises ``SettingsError`` saying what is wrong with it."""
        try:
            return cls.model_validate_json(file.read_text("utf-8"))
        except OSError as error:
            raise SettingsError(f"the recipe {file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            fault = error.errors()[0]
            raise SettingsError(f"recipe {file}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


class Mixture:
    """Sources drawn from in proportion to their weights.

    Raises:
        SettingsError: the mix names a source that there is not.
    """

    def __init__(self, sources: Mapping[str, Source], mix: Mapping[str, float]) -> None:
        if unknown := sorted(set(mix) - set(sources)):
            raise SettingsError(f"the mix names {', '.join(unknown)}: no such source, or it is held out")
        self._names = sorted(name for name, weight in mix.items() if weight > 0)
        self._sources = sources
        self._upto = list(accumulate(mix[name] for name in self._names))

    def draw(self, rng: random.Random, size: int) -> tuple[str, Task]:
        """A task of about ``size`` texts, and the name of its source."""
        name = rng.choices(self._names, cum_weights=self._upto)[0]
        return name, self._sources[name].draw(rng, size)
