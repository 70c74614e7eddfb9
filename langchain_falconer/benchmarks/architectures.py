"""Three ways to put questions to one encoder, pretrained alike: what they answer untrained, and how fast."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from langchain_falconer.benchmarks._trial import SETS, Trial, question, score_of, scored_rows
from langchain_falconer.benchmarks.steps import plans, short_posts
from langchain_falconer.pretrain import Mixture, Recipe, gathered
from langchain_falconer.proxy import (
    Asked,
    PretrainProgress,
    PretrainSettings,
    Task,
    Tokenizer,
    bf16_pays,
    load_model,
    pretrain,
)

ROWS = 250
TEXTS = 1_000
ROUNDS = 3
_NAMES = ("crossner_politics", "semeval14_restaurants", "ag_news", "snips")
ASKED = tuple(s for s in SETS if s.name in _NAMES or (s.name == "sst" and s.classes))
_KEPT_EVERY = 25


@dataclass(frozen=True)
class Budget:
    """What each architecture is pretrained with: settings, and what draws the tasks."""

    settings: PretrainSettings
    draw: Callable[[Random, int], tuple[str, Task]]

    @classmethod
    def of(cls, data: Path, steps: int) -> Budget:
        """The first part of the shipped recipe, cut to ``steps``.

        The base's sentence space is not kept alive, for none of them: only slots could use it.

        Raises:
            CorpusError: the data is not there.
        """
        recipe = Recipe.read()
        while recipe.start:
            recipe = recipe.start
        changed = {"steps": steps, "keep": 0.0, "checkpoint_every": _KEPT_EVERY}
        draw = Mixture(gathered(recipe, data), recipe.mix).draw
        return cls(recipe.settings.model_copy(update=changed), draw)

    def seeded(self, seed: int) -> Budget:
        """The same with another seed."""
        return replace(self, settings=self.settings.model_copy(update={"seed": seed}))


@dataclass(frozen=True)
class _Pretrained:
    network: Any
    tokenizer: Tokenizer
    seconds: float


def run(trial: Trial, budget: Budget, folder: Path) -> dict[str, Any]:
    """Pretrain each architecture with the same tasks in the same order, and score it on sets it was not trained for.

    Scores are of at most 250 test rows a set, F1 of exact spans or accuracy; pace is of 1,000 short posts and the first
    seed's networks, the median of three rounds in turns, in torch (bfloat16 where the CPU has it, as for the scores).
    Seconds of pretraining are CPU time. Checkpoints lie in ``folder``, from which the same call goes on.

    Raises:
        CorpusError: the data is not there.
    """
    made: dict[str, list[_Pretrained]] = {}
    scores: dict[str, dict[str, list[float]]] = {}
    for seed in range(trial.seeds):
        for name, make in architectures().items():
            place = folder / f"{name}-{budget.settings.steps}-steps-seed-{seed}"
            one = _pretrained(make, budget.seeded(seed), place, _teller(trial, name, seed))
            made.setdefault(name, []).append(one)
            for title, score in _scores(trial, one).items():
                scores.setdefault(name, {}).setdefault(title, []).append(score)
                trial.on_score(f"{name}, {title}", seed, score=score)
    pace = _pace(trial, {name: of_seeds[0] for name, of_seeds in made.items()})
    seconds = {name: statistics.mean(one.seconds for one in of_seeds) for name, of_seeds in made.items()}
    return _table(trial, budget, {"scores": scores, "pace": pace, "seconds": seconds})


def architectures() -> dict[str, Callable[[str], Any]]:
    """What makes the network of a base: slots, all questions in one prompt, a pass a question."""
    from langchain_falconer.benchmarks._networks import one_by_one, prompted

    return {"slots": load_model, "prompt": prompted, "one-by-one": one_by_one}


def _pretrained(
    make: Callable[[str], Any], budget: Budget, place: Path, tell: Callable[[PretrainProgress], None]
) -> _Pretrained:
    """A network, and the CPU seconds of all its steps by those that this call took."""
    drawn = 0

    def draw(rng: Random, size: int) -> tuple[str, Task]:
        nonlocal drawn
        drawn += 1
        return budget.draw(rng, size)

    settings, spent, began = budget.settings, place / "seconds.json", time.process_time()
    network, tokenizer = pretrain(draw, (), settings, place, tell, make)
    if drawn:
        seconds = (time.process_time() - began) * settings.steps * settings.tasks / drawn
        spent.write_text(json.dumps(seconds), "utf-8")
    return _Pretrained(network, tokenizer, float(json.loads(spent.read_text("utf-8"))))


def _scores(trial: Trial, made: _Pretrained) -> dict[str, float]:
    found = {}
    for task in trial.of(ASKED):
        plan, test = question(trial.data, task), scored_rows(trial.data, task)[:ROWS]
        asked = Asked(made.network, made.tokenizer, plan, bf16=bf16_pays())
        found[task.title] = score_of(asked, plan, test).value
    return found


def _pace(trial: Trial, made: Mapping[str, _Pretrained]) -> dict[str, list[float]]:
    """Texts a second of each, for a plan of one step and of six."""
    texts = short_posts(trial.data, TEXTS)
    asked = {
        name: [Asked(one.network, one.tokenizer, plan, bf16=bf16_pays()) for plan in plans()]
        for name, one in made.items()
    }
    taken: dict[str, list[list[float]]] = {name: [[], []] for name in made}
    for _ in range(ROUNDS):
        for name, both in asked.items():
            for seconds, one in zip(taken[name], both, strict=True):
                began = time.perf_counter()
                one.answers(texts)
                seconds.append(time.perf_counter() - began)
    return {name: [len(texts) / statistics.median(s) for s in both] for name, both in taken.items()}


def _teller(trial: Trial, name: str, seed: int) -> Callable[[PretrainProgress], None]:
    return lambda p: trial.on_score(name, seed, step=p.step, loss=statistics.mean(p.loss.values()), seconds=p.seconds)


def _table(trial: Trial, budget: Budget, found: dict[str, Any]) -> dict[str, Any]:
    tasks, settings = trial.of(ASKED), budget.settings
    kinds = {
        "mean span F1": [t.title for t in tasks if not t.label],
        "mean label accuracy": [t.title for t in tasks if t.label],
    }
    kinds = {what: titles for what, titles in kinds.items() if titles}
    rows, overall = [], {}
    for name, sets in found["scores"].items():
        scores = {title: statistics.mean(of_seeds) for title, of_seeds in sets.items()}
        means = [statistics.mean(scores[title] for title in titles) for titles in kinds.values()]
        overall[name] = statistics.mean(means)
        shown = [f"{value:.3f}" for value in (*means, *scores.values())]
        rows.append([name, *shown, *(f"{p:,.0f}" for p in found["pace"][name]), f"{found['seconds'][name]:,.0f}"])
    told = ["texts/s, 1 step", "texts/s, 6 steps", "pretraining CPU s"]
    return {
        "title": f"{settings.base}, {settings.steps} steps of pretraining, {trial.seeds} seed(s), "
        f"{'bfloat16' if bf16_pays() else 'float32'}",
        "columns": ["architecture", *kinds, *(t.title for t in tasks), *told],
        "rows": rows,
        "verdict": f"best on the mean of spans and labels: {max(overall, key=overall.__getitem__)}",
        **found,
    }
