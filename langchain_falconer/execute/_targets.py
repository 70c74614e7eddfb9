"""What a run is to guarantee, and whether that can be done at all: said before anything is paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langchain_falconer.errors import SettingsError
from langchain_falconer.evaluate import Certificate, Population, can_certify, certify, fewest_to_certify
from langchain_falconer.plan import Plan, SpanStep

Share = Annotated[float, Field(gt=0, lt=1)]


class Targets(BaseModel):
    """What the rows of a run are to reach, against the LLM; texts of which the proxy is not sure enough go to the LLM.

    Several targets split the error budget evenly: two at 95% hold at 97.5% each.

    Attributes:
        agreement: share of texts with the very same answers: labels, and spans at their offsets.
        recall: share of the texts that match by the LLM's answers which match in the result.
        precision: share of the texts that match in the result which match by the LLM's answers.
        spans: share of texts in which no span that the LLM extracts is missed (one minus the missed-span rate).
        confidence: how often all these promises hold together, over draws of the sample.
        annotations: texts that the LLM annotates for the certificates alone, drawn uniformly over all rows.
        escalate: share of the texts that may go to the LLM because the proxy is not sure; the rest are marked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agreement: Share | None = None
    recall: Share | None = None
    precision: Share | None = None
    spans: Share | None = None
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    annotations: int = Field(default=300, ge=1)
    escalate: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _has_a_target(self) -> Targets:
        if self.model_fields_set and not self.shares:
            given = ", ".join(sorted(self.model_fields_set))
            raise ValueError(f"{given} without a target guarantees nothing; add one, such as agreement of 0.95")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The targets that were set, by kind."""
        return {kind: share for kind in KINDS if (share := getattr(self, kind)) is not None}

    @property
    def each(self) -> float:
        """The confidence of each target: their chances to fail add up to that of the whole."""
        return 1 - (1 - self.confidence) / max(1, len(self.shares))

    def check_plan(self, plan: Plan) -> None:
        """Raises ``SettingsError`` where a target says nothing about this plan."""
        if (self.recall or self.precision) and not plan.is_filter:
            raise SettingsError(
                "a target recall or precision needs a plan that filters, but every text matches this one; "
                "set a target agreement instead"
            )
        if self.spans and not any(isinstance(step, SpanStep) for step in plan.steps):
            raise SettingsError("a target for spans needs a get_span step; set a target agreement instead")

    def fewest(self, drawn: int, texts: int) -> int:
        """How many of ``drawn`` texts must be annotated at least so that every target can be certified.

        Args:
            drawn: texts drawn from the corpus.
            texts: texts in the corpus.

        Raises:
            SettingsError: all of them would be too few.
        """
        needed = 0
        for kind, share in self.shares.items():
            fewest = fewest_to_certify(share, self.each)
            if KINDS[kind].of_all and drawn < fewest and can_certify(share, self.each, drawn, Population(texts, texts)):
                fewest = drawn
            if drawn < fewest:
                raise SettingsError(
                    f"a target {kind} of {share:g} at {self.each:.4g} confidence takes at least {fewest} annotated "
                    f"texts to certify, and {drawn} are drawn; raise --certify, or lower the target"
                )
            needed = max(needed, fewest)
        return needed

    def hints(self, drawn: int) -> list[str]:
        """What the corpus must be like for the targets that are about some of the texts only."""
        found = []
        for kind, share in self.shares.items():
            if not KINDS[kind].of_all:
                fewest = fewest_to_certify(share, self.each)
                found.append(
                    f"a {kind} of {share:g} can be certified if at least {fewest} of the {drawn} texts drawn for it "
                    f"match ({fewest / drawn:.0%}); if fewer do, raise --certify"
                )
        return found

    def certify(self, judged: list[Judged], population: Population) -> dict[str, Certificate]:
        """A certificate for each target, by kind, from the proxy's decisions on the drawn texts."""
        return {kind: KINDS[kind].certify(judged, share, self.each, population) for kind, share in self.shares.items()}


@dataclass(frozen=True, slots=True)
class Judged:
    """The proxy's decision on a text, and what the LLM says.

    Attributes:
        sure: how sure the proxy is of it, in [0, 1].
        match: whether the text matches by the proxy's answers.
        wanted: whether it matches by the LLM's; None if the LLM left something open, which counts against the proxy.
        same: whether all answers are the same.
        missed: whether the proxy lacks a span that the LLM extracts.
    """

    sure: float
    match: bool
    wanted: bool | None
    same: bool
    missed: bool

    @classmethod
    def of(cls, sure: float, row: Mapping[str, Any], told: Mapping[str, Any] | None) -> Judged:
        """From the proxy's result row and the LLM's; None where the LLM left something open."""
        if told is None:
            return cls(sure, row["match"], None, same=False, missed=True)
        return cls(sure, row["match"], told["match"], said(row) == said(told), _lacks(said(row), said(told)))


@dataclass(frozen=True)
class Kind:
    """What a target is about.

    Attributes:
        promise: what is promised of a share, in words.
        concerns: whether it bears on a text that matches, or not, by the proxy's answers.
        counted: whether a drawn text is in the share.
        failed: whether the proxy's decision on it is a failure.
        of_all: whether the share is of all texts.
        leaving: whether a failure leaves the share where the LLM decides it: what it declines is no match any more.
    """

    promise: str
    concerns: Callable[[bool], bool]
    counted: Callable[[Judged], bool]
    failed: Callable[[Judged], bool]
    of_all: bool = True
    leaving: bool = False

    def certify(self, judged: list[Judged], share: float, confidence: float, population: Population) -> Certificate:
        """What the drawn texts allow the proxy to decide."""
        drawn = [one for one in judged if self.counted(one)]
        return certify(
            [one.sure for one in drawn],
            [self.failed(one) for one in drawn],
            share,
            confidence,
            leaving=self.leaving,
            population=population if self.of_all else None,
        )


KINDS = {
    "agreement": Kind(
        "{share} of the texts have the answers that the LLM gives",
        concerns=lambda match: True,
        counted=lambda one: True,
        failed=lambda one: not one.same,
    ),
    "recall": Kind(
        "{share} of the texts that match by the LLM's answers match in the result",
        concerns=lambda match: not match,
        counted=lambda one: not one.match if one.wanted is None else one.wanted,
        failed=lambda one: not one.match,
        of_all=False,
    ),
    "precision": Kind(
        "{share} of the texts that match in the result match by the LLM's answers",
        concerns=lambda match: match,
        counted=lambda one: one.match,
        failed=lambda one: not one.wanted,
        of_all=False,
        leaving=True,
    ),
    "spans": Kind(
        "{share} of the texts lack no span that the LLM extracts",
        concerns=lambda match: True,
        counted=lambda one: True,
        failed=lambda one: one.missed,
    ),
}
"""What can be promised, by the name of its target."""


def said(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers of a row, or of a span in it, without scores: labels by step, spans by step and offsets."""
    labels = {step: label["value"] for step, label in answers.get("labels", {}).items()}
    spans = {
        step: {(span["start"], span["end"]): said(span) for span in found}
        for step, found in answers.get("spans", {}).items()
    }
    return {"labels": labels, "spans": spans}


def _lacks(own: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether a span that was told is not among one's own, or lacks one inside."""
    for step, found in told["spans"].items():
        mine = own["spans"].get(step, {})
        if any(at not in mine or _lacks(mine[at], inner) for at, inner in found.items()):
            return True
    return False
