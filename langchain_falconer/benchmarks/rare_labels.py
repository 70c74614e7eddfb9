"""A label that few posts have: what is found of it after a few hundred answers, beside uniformly drawn ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_falconer.annotate import has_answers
from langchain_falconer.benchmarks.human_labels import rows_of
from langchain_falconer.benchmarks.step_count import short_posts
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.evaluate import Proportion, proportion
from langchain_falconer.falconer import Falconer, ProgressCallback
from langchain_falconer.files import write_whole
from langchain_falconer.llm import LLM
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.settings import MineSettings

_GOAL = 0.85


@dataclass(frozen=True)
class Kind:
    """A kind of text that is planted among posts: rows of a set (of one class), and the question that finds them."""

    name: str
    label: tuple[str, str] | None
    question: str

    @property
    def plan(self) -> Plan:
        """The plan that asks the question."""
        return Plan(instruction=self.question, steps=(LabelStep(id="planted", instruction=self.question),))

    def texts(self, data: Path) -> list[str]:
        """Return the distinct training rows. Raises ``CorpusError`` if the data is not there."""
        rows = rows_of(data, self.name, "train")
        of_class = (row["text"] for row in rows if not self.label or row["labels"][self.label[0]] == self.label[1])
        return list(dict.fromkeys(of_class))


KINDS = (
    Kind("sms_spam", ("spam", "spam"), "Is this message spam: unwanted advertising, a scam or a premium service?"),
    Kind("mit_movie_trivia", None, "Is this a question about a movie?"),
    Kind("semeval14_restaurants", None, "Is this a review of a restaurant?"),
    Kind("skillspan", None, "Does this job advertisement state a required skill or task?"),
)
"""The sampling was designed on others (snips, clinc150, cr), and changed once after a look at films and restaurants."""


class Oracle(BaseChatModel):
    """An LLM that is always right: true about planted texts, false about all others.

    Attributes:
        planted: The planted texts.
        model: A name of its own: the store tells answers apart by it.
    """

    planted: frozenset[str]
    model: str

    @property
    def _llm_type(self) -> str:
        return "oracle"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "oracle", "ls_model_name": self.model, "ls_model_type": "chat"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        texts = json.JSONDecoder().raw_decode(str(messages[-1].content).rpartition("\nTexts: ")[2])[0]
        reply = json.dumps({key: text in self.planted for key, text in texts.items()})
        return ChatResult(generations=[ChatGeneration(message=AIMessage(reply))])


@dataclass(frozen=True)
class Planting:
    """How much is planted, and where.

    Attributes:
        data: The folder of the data sets.
        home: The home: what was embedded and answered in it is not embedded and answered again.
        texts: Size of the corpus.
        share: Share of planted texts.
        seeds: Number of draws of each kind.
        kinds: Names of the kinds; empty for all.
        settings: How to mine; seeds and the index are set for each run.
        on_event: Receives progress events.
    """

    data: Path
    home: Path
    texts: int = 50_000
    share: float = 0.005
    seeds: int = 1
    kinds: tuple[str, ...] = ()
    settings: MineSettings = field(default_factory=MineSettings)
    on_event: ProgressCallback | None = None

    def corpora(self) -> Iterator[tuple[Kind, int, Path, frozenset[str]]]:
        """Yield kind, seed, corpus file and planted texts. Raises ``CorpusError`` if the data is not there."""
        n = round(self.texts * self.share)
        posts = short_posts(self.data, self.texts - n)
        for kind in (kind for kind in KINDS if not self.kinds or kind.name in self.kinds):
            rows = kind.texts(self.data)
            for seed in range(self.seeds):
                planted = random.Random(seed).sample(rows, n)
                file = self.home / "planted" / f"{kind.name}-{seed}-{self.texts}-{n}.jsonl"
                if not file.is_file():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(file, "".join(json.dumps({"text": text}) + "\n" for text in [*posts, *planted]))
                yield kind, seed, file, frozenset(planted)


@dataclass(frozen=True)
class Finding:
    """What was found of the planted texts.

    Attributes:
        positives: Planted texts among those that were annotated.
        recall: Share of the planted texts that were found.
        unseen: The same among those that were not annotated.
        precision: Share of planted texts among those that were found; None where nothing was.
    """

    positives: int
    recall: Proportion
    unseen: Proportion
    precision: Proportion | None

    @property
    def is_enough(self) -> bool:
        """Whether recall and precision reach 0.85."""
        return self.precision is not None and min(self.recall.value, self.precision.value) >= _GOAL


def run(planting: Planting, on_score: Callable[..., None] = lambda *a, **scores: None) -> BenchmarkTable:
    """Mine each corpus twice with 300 answers: with candidates from the index, and with uniform texts alone.

    Raises:
        CorpusError: The data is not there.
    """
    rows: list[tuple[str, ...]] = []
    reached = total = 0
    for kind, seed, file, planted in planting.corpora():
        for arm, indexed in (("index", planting.texts), ("uniform", 0)):
            oracle = Oracle(planted=planted, model=f"{kind.name}-{seed}-{arm}")
            found = _mined(planting, kind, seed, file, oracle, indexed)
            precision = found.precision.value if found.precision else 0.0
            on_score(f"{kind.name} {arm}", seed, recall=found.recall.value, precision=precision)
            shown = [_shown(part) for part in (found.recall, found.unseen, found.precision)]
            rows.append((kind.name, str(seed), arm, str(found.positives), *shown))
            if indexed:
                total += 1
                reached += found.is_enough
    return {
        "title": f"{planting.share:.1%} of {planting.texts:,} posts, 300 answers",
        "columns": ["planted", "seed", "texts", "annotated", "recall", "of those not annotated", "precision"],
        "rows": rows,
        "verdict": f"with the index {reached} of {total} reach recall and precision {_GOAL}",
    }


def _mined(planting: Planting, kind: Kind, seed: int, file: Path, oracle: Oracle, indexed: int) -> Finding:
    seeds = {"seed": seed, "train": planting.settings.train.model_copy(update={"seed": seed})}
    settings = planting.settings.model_copy(update={**seeds, "indexed": indexed})
    llm, planted = LLM(oracle), sorted(oracle.planted)
    falconer = Falconer(llm, home=planting.home, settings=settings)
    result = falconer.mine(kind.question, file, plan=kind.plan, on_event=planting.on_event)
    found = [str(row["text"]) for row in result.rows() if row["labels"]["planted"]["value"]]
    with falconer.home.store() as store:
        answered = has_answers(store, kind.plan, planted, llm.name)
    return _finding(planted, answered, found)


def _finding(planted: Sequence[str], answered: Sequence[bool], found: Sequence[str]) -> Finding:
    texts = {*found}
    hits = [text in texts for text in planted]
    unseen = [hit for hit, is_answered in zip(hits, answered, strict=True) if not is_answered]
    precision = proportion(sum(hits), len(found)) if found else None
    return Finding(sum(answered), proportion(sum(hits), len(hits)), proportion(sum(unseen), len(unseen)), precision)


def _shown(part: Proportion | None) -> str:
    if part is None:
        return "nothing found"
    low, high = part.interval
    return f"{part.value:.2f} ({low:.2f} to {high:.2f})"
