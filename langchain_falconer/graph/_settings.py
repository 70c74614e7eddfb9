"""Settings of a whole run, one object a room."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from langchain_falconer.annotate import AnnotateSettings, BudgetSettings
from langchain_falconer.corpus import CorpusSettings
from langchain_falconer.evaluate import Metric
from langchain_falconer.execute import RunSettings, Targets
from langchain_falconer.proxy import DEFAULT_BASE, PASSAGE_CHARS, UNLABELLED, TrainSettings


class MineSettings(BaseModel):
    """How an instruction is mined. The defaults need no thought; each room's own settings hang below."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: int = Field(default=300, ge=10)
    """Texts that the LLM annotates in the first round."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the annotated texts, drawn uniformly, that the proxy is measured on and never trained on. Fifty of them
    or more also say whether training went on for too long; a run in which they did so says it."""
    unlabelled: int = Field(default=UNLABELLED, ge=0)
    """Texts that nobody annotated and the proxy learns from as well: better proxies, twice the seconds of training."""
    targets: Targets = Targets()
    """What the rows are to reach, certified. While the agreement measured on held-out texts is below its target, more
    texts are annotated to train on, the least sure first; what the proxy is not sure of then goes to the LLM."""
    round_annotations: int = Field(default=100, ge=1)
    max_rounds: int = Field(default=4, ge=1)
    seed: int = 0
    base: str = DEFAULT_BASE
    passage_chars: int = Field(default=PASSAGE_CHARS, ge=50)
    """Longer texts are read in passages of at most this many characters."""
    corpus: CorpusSettings = CorpusSettings()
    annotate: AnnotateSettings = AnnotateSettings()
    budget: BudgetSettings = BudgetSettings()
    train: TrainSettings = TrainSettings()
    metrics: dict[str, str] = {}
    """What the threshold of a yes/no or multi-label step is to serve, by its id: ``f1``, ``precision:P`` or
    ``recall:R``. It is chosen on held-out texts, without a promise (``targets`` make one)."""
    run: RunSettings = RunSettings()

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, told: dict[str, str]) -> dict[str, str]:
        return {step: str(Metric.parse(metric)) for step, metric in told.items()}

    @model_validator(mode="after")
    def _room_for_both(self) -> MineSettings:
        held_out = round(self.annotations * self.held_out)
        if not 1 <= held_out < self.annotations:
            raise ValueError("held_out leaves no text to train or to measure on; raise annotations or change held_out")
        return self
