"""The demo's plan, and annotations that stand in for those of an LLM."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.demo.reviews import film_reviews
from langchain_falconer.falconer import Falconer, MiningResult, ProgressCallback
from langchain_falconer.graph.costs import CostModel
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan
from langchain_falconer.settings import MineSettings

_HERE = Path(__file__).parent
_MEAN_CHARS = 412
SETTINGS = MineSettings.model_validate({"annotate": {"texts_per_call": 1}})


@dataclass(frozen=True)
class Recording:
    """A plan and annotations that were made by hand, as hashes, offsets and labels without the reviews' text.

    Attributes:
        source: Source that the annotations are attributed to.
        date: Date of the annotations.
        texts: Number of annotated texts: a uniform draw from the corpus.
        plan: The plan.
        answers: File of the annotations.
    """

    source: str
    date: str
    texts: int
    plan: Plan
    answers: Path

    @classmethod
    def shipped(cls) -> Recording:
        """Return the recording of the package."""
        facts = json.loads((_HERE / "recording.json").read_text("utf-8"))
        return cls(**{**facts, "plan": Plan.parse(facts["plan"]), "answers": _HERE / "answers.jsonl.gz"})

    def mine(
        self,
        output: Path,
        llm: LLM | None = None,
        *,
        home: str | Path | None = None,
        on_event: ProgressCallback | None = None,
    ) -> MiningResult:
        """Mine the reviews.

        Args:
            output: The file of result rows.
            llm: Plans and annotates; without one this recording is imported into the home's annotation store.
            home: The home.
            on_event: Receives progress events.
        """
        falconer = Falconer(llm, home=home, settings=SETTINGS)
        corpus, plan, source = film_reviews(falconer.home.corpora), None, None
        if llm is None:
            plan, source = self.plan, self.source
            with falconer.home.store() as store:
                store.import_answers(self.answers)
        return falconer.mine(self.plan.instruction, corpus, output, plan=plan, recorded=source, on_event=on_event)

    def llm_tokens(self, texts: int) -> int:
        """Estimate the tokens that an LLM would take to annotate this many reviews."""
        costs = CostModel(texts, _MEAN_CHARS, len(self.plan.steps), texts, texts_per_call=1)
        return costs.strategy("llm", texts).tokens
