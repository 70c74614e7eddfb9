"""Target metrics of a run, and early checks that targets can be certified, before an LLM is paid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_falconer.errors import SettingsError
from langchain_falconer.evaluate import (
    Certificate,
    Population,
    can_certify,
    certify,
    certify_jointly,
    min_texts_to_certify,
    tolerated_failures,
)
from langchain_falconer.plan import Plan, SpanStep
from langchain_falconer.settings import Targets


def check_targets(targets: Targets, plan: Plan) -> None:
    """Check that every target applies to a plan. Raises ``SettingsError`` where one does not."""
    if (targets.recall or targets.precision) and not plan.is_filter:
        raise SettingsError(
            "a target recall or precision needs a plan that filters, but every text matches this one; "
            "set a target agreement instead",
            field="targets",
        )
    if targets.spans and not any(isinstance(step, SpanStep) for step in plan.steps):
        raise SettingsError(
            "a target for spans needs a get_span step; set a target agreement instead", field="targets.spans"
        )


def families(targets: Targets) -> list[tuple[str, ...]]:
    """Return the names of targets that are certified together: those over all texts; each of the others is alone.

    Nothing is known of the drawn texts here, so that the choice cannot favour any outcome.
    """
    joint = tuple(name for name in targets.shares if TARGET_METRICS[name].over_all_texts)
    return [names for names in (joint, *((name,) for name in targets.shares if name not in joint)) if names]


def required_annotations(targets: Targets, n_drawn: int, n_texts: int) -> int:
    """Return how many of the drawn texts must be annotated at least so that every target can be certified.

    Args:
        targets: The targets.
        n_drawn: Texts drawn from the corpus.
        n_texts: Texts in the corpus.

    Raises:
        SettingsError: All of them would be too few.
    """
    required = 0
    population = Population(n_texts, n_texts)
    for name, share, confidence in _levels(targets):
        minimum = min_texts_to_certify(share, confidence)
        is_over_all = TARGET_METRICS[name].over_all_texts
        if is_over_all and n_drawn < minimum and can_certify(share, confidence, n_drawn, population):
            minimum = n_drawn
        if n_drawn < minimum:
            raise SettingsError(
                f"a target {name} of {share:g} at {confidence:.4g} confidence takes at least {minimum} "
                f"annotated texts to certify, and {n_drawn} are drawn; raise --certify, or lower the target",
                field="targets.annotations",
            )
        required = max(required, minimum)
    return required


def target_hints(targets: Targets, n_drawn: int) -> list[str]:
    """Return sentences on what each target requires, before anything is paid: of the proxy, or of the corpus."""
    hints = []
    for name, share, confidence in _levels(targets):
        if TARGET_METRICS[name].over_all_texts:
            tolerated = max(0, tolerated_failures(share, confidence, n_drawn)) / n_drawn
            hints.append(
                f"a target {name} of {share:g} with {n_drawn} texts: what the proxy fails on beyond {tolerated:.0%} of "
                f"the texts, at least, goes to the LLM, and --escalate allows {targets.escalate:.0%}: it cannot be "
                f"reached with a proxy that fails on more than {tolerated + targets.escalate:.0%}"
            )
        else:
            minimum = min_texts_to_certify(share, confidence)
            hints.append(
                f"a {name} of {share:g} can be certified if at least {minimum} of the {n_drawn} texts drawn for it "
                f"match ({minimum / n_drawn:.0%}); if fewer do, raise --certify"
            )
    return hints


def escalation_forecast(targets: Targets, n_drawn: int, agreement: float) -> str | None:
    """Return what a target agreement will cost with a proxy of the measured agreement; None if that is nothing.

    However well the scores rank, the LLM must decide the share of texts on which the proxy fails beyond the failures
    that the exact test tolerates: m - f / n. (Conformal risk control, where such texts leave the share, gives
    (m - a) / (1 - a): arXiv 2606.29054.)
    """
    share = targets.agreement
    if share is None:
        return None
    confidence = next(level for name, _, level in _levels(targets) if name == "agreement")
    tolerated = max(0, tolerated_failures(share, confidence, n_drawn)) / n_drawn
    excess = 1 - agreement - tolerated
    if excess <= 0:
        return None
    uncertain = excess - targets.escalate
    advice = (
        f"more than --escalate allows ({targets.escalate:.0%}): about {uncertain:.0%} would be marked uncertain; raise "
        "it, annotate more, or lower the target"
        if uncertain > 0
        else f"--escalate allows {targets.escalate:.0%}"
    )
    return (
        f"the proxy alone cannot be certified at {share:g} with {n_drawn} texts, for it differs from the LLM on about "
        f"{1 - agreement:.0%}: about {excess:.0%} of the texts, at least, would go to the LLM; {advice}"
    )


def _levels(targets: Targets) -> Iterator[tuple[str, float, float]]:
    """Yield name, share and confidence of each target."""
    for names in families(targets):
        yield from ((name, targets.shares[name], targets.confidence_of(len(names))) for name in names)


def certify_targets(targets: Targets, comparisons: list[Comparison], population: Population) -> dict[str, Certificate]:
    """Return a certificate for each target, by its name, from the proxy's decisions on the drawn texts.

    The families share the error budget by the number of their targets. One whose targets hold although the proxy
    decides everywhere leaves its part to the others, as in the procedure of Holm (1979): while no target is certified
    wrongly, the budgets of those that do not hold add up to that of the whole at most.
    """
    certificates: dict[str, Certificate] = {}
    remaining = families(targets)
    while remaining:
        n_targets = sum(map(len, remaining))
        unfinished = []
        for names in remaining:
            confidence = 1 - (1 - targets.confidence) * len(names) / n_targets
            family = _certify(names, confidence, targets, comparisons, population)
            certificates |= family
            if not all(one.certified and one.threshold is None for one in family.values()):
                unfinished.append(names)
        if unfinished == remaining:
            break
        remaining = unfinished
    return {name: certificates[name] for name in targets.shares}


def _certify(
    names: Sequence[str],
    confidence: float,
    targets: Targets,
    comparisons: list[Comparison],
    population: Population,
) -> dict[str, Certificate]:
    """Certify a family; a target that so many texts cannot certify, whatever they show, is not part of it."""
    certificates = {
        name: TARGET_METRICS[name].certify(comparisons, targets.shares[name], confidence, population) for name in names
    }
    if len(names) == 1:
        return certificates
    n = len(comparisons)
    able = [name for name in names if can_certify(targets.shares[name], confidence, n, population)]
    return certificates | certify_jointly({name: certificates[name] for name in able})


@dataclass(frozen=True, slots=True)
class Comparison:
    """The proxy's decision on a text, compared with the LLM's.

    Attributes:
        confidence: The proxy's confidence in it, in [0, 1].
        match: Whether the text matches by the proxy's answers.
        is_match: Whether it matches by the LLM's; None if the LLM left a step unanswered, which counts against the
            proxy.
        equal: Whether all answers are equal.
        missed: Whether the proxy lacks a span that the LLM extracts.
    """

    confidence: float
    match: bool
    is_match: bool | None
    equal: bool
    missed: bool

    @classmethod
    def of(cls, confidence: float, row: Mapping[str, Any], llm_row: Mapping[str, Any] | None) -> Comparison:
        """Compare the proxy's result row with the LLM's; ``llm_row`` is None if the LLM left a step unanswered."""
        if llm_row is None:
            return cls(confidence, row["match"], None, equal=False, missed=True)
        predicted, reference = bare_answers(row), bare_answers(llm_row)
        return cls(
            confidence, row["match"], llm_row["match"], predicted == reference, _misses_span(predicted, reference)
        )


@dataclass(frozen=True)
class TargetMetric:
    """The definition of a target.

    Attributes:
        promise: The guarantee in words, with a placeholder for the share.
        concerns: Whether it bears on a text that matches, or not, by the proxy's answers.
        in_scope: Whether a drawn text counts for the share.
        failed: Whether the proxy's decision on it is a failure.
        over_all_texts: Whether the share is of all texts.
        drops_out: Whether a failure drops out of the share where the LLM decides it: a text that the LLM rejects is not
            a match any more.
    """

    promise: str
    concerns: Callable[[bool], bool]
    in_scope: Callable[[Comparison], bool]
    failed: Callable[[Comparison], bool]
    over_all_texts: bool = True
    drops_out: bool = False

    def certify(
        self, comparisons: list[Comparison], share: float, confidence: float, population: Population
    ) -> Certificate:
        """Return what the drawn texts allow the proxy to decide."""
        counted = [one for one in comparisons if self.in_scope(one)]
        return certify(
            [one.confidence for one in counted],
            [self.failed(one) for one in counted],
            share,
            confidence,
            drops_out=self.drops_out,
            population=population if self.over_all_texts else None,
        )


TARGET_METRICS = {
    "agreement": TargetMetric(
        "{share} of the texts have the answers that the LLM gives",
        concerns=lambda match: True,
        in_scope=lambda one: True,
        failed=lambda one: not one.equal,
    ),
    "recall": TargetMetric(
        "{share} of the texts that match by the LLM's answers match in the result",
        concerns=lambda match: not match,
        in_scope=lambda one: not one.match if one.is_match is None else one.is_match,
        failed=lambda one: not one.match,
        over_all_texts=False,
    ),
    "precision": TargetMetric(
        "{share} of the texts that match in the result match by the LLM's answers",
        concerns=lambda match: match,
        in_scope=lambda one: one.match,
        failed=lambda one: not one.is_match,
        over_all_texts=False,
        drops_out=True,
    ),
    "spans": TargetMetric(
        "{share} of the texts lack no span that the LLM extracts",
        concerns=lambda match: True,
        in_scope=lambda one: True,
        failed=lambda one: one.missed,
    ),
}
"""Target metrics by the name of their field in :class:`Targets`."""


def bare_answers(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers of a row, or of a span in it, without scores: labels by step, spans by step and offsets."""
    labels = {step: label["value"] for step, label in answers.get("labels", {}).items()}
    spans = {
        step: {(span["start"], span["end"]): bare_answers(span) for span in step_spans}
        for step, step_spans in answers.get("spans", {}).items()
    }
    return {"labels": labels, "spans": spans}


def _misses_span(predicted: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """Return whether a span of the reference, or one inside it, is not predicted."""
    for step, spans in reference["spans"].items():
        candidates = predicted["spans"].get(step, {})
        if any(
            offsets not in candidates or _misses_span(candidates[offsets], inner) for offsets, inner in spans.items()
        ):
            return True
    return False
