"""The annotations that a person should look at: a uniform part, and those that are likely wrong."""

from __future__ import annotations

from langchain_falconer.annotate import Accuracy, AnnotationStore, stored_annotations
from langchain_falconer.annotate.noise import Suspect, likely_errors, write_review
from langchain_falconer.evaluate import Quality
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext
from langchain_falconer.graph.state import AnnotationState, FalconerState
from langchain_falconer.model import Proxy
from langchain_falconer.records import FrozenModel
from langchain_falconer.report import write_comparisons

_UNIFORM = 30
_SUSPECTS = 20


class Suspects(FrozenModel):
    """Annotations that are likely wrong, and the file in which a person can correct them.

    Attributes:
        likely_errors: The likeliest first.
        review: Path of the file (JSON lines): held-out annotations, drawn uniformly, then the suspects.
    """

    likely_errors: tuple[Suspect, ...] = ()
    review: str | None = None


def write_suspects(state: FalconerState, context: NodeContext, store: AnnotationStore, proxy: Proxy) -> None:
    """Write what the measured proxy, which did not learn from held-out texts, says against their annotations."""
    plan, sample = context.plan(state), context.sample(state)
    held_out = context.annotations(store, state, sample.held_out)
    predicted = proxy.answers([a.text for a in held_out], apply_conditions=False)
    by_text = {a.text: answers for a, answers in zip(held_out, predicted, strict=True)}
    own = stored_annotations(store, plan, by_text, context.stored_source(state), corrected=False)
    write_comparisons(context.folder(state), own, [by_text[a.text] for a in own])
    if state.get("annotations"):
        return  # a person's own
    found = likely_errors(plan, held_out, predicted)[:_SUSPECTS]
    review = context.folder(state) / "review.jsonl"
    write_review(review, plan, held_out[:_UNIFORM], held_out[_UNIFORM:], found)
    suspects = Suspects(likely_errors=tuple(found), review=str(review))
    write_json(context.folder(state) / "suspects.json", suspects.model_dump(mode="json"))


def read_suspects(state: FalconerState, context: NodeContext) -> Suspects:
    """Read what :func:`write_suspects` wrote; empty where nothing was annotated."""
    return Suspects.model_validate(read_json(context.folder(state) / "suspects.json") or {})


def trust_messages(facts: AnnotationState, suspects: Suspects) -> list[str]:
    """Return what is known of how far the LLM can be trusted, one sentence each."""
    messages = []
    if data := facts.get("self_agreement"):
        same = Quality.model_validate(data).agreement
        messages.append(
            f"asked twice, in two wordings, the LLM gave the same answer {same.value:.0%} of the time (95% interval "
            f"{same.low:.0%} to {same.high:.0%}): a proxy cannot be expected to agree with it more"
        )
    if data := facts.get("accuracy"):
        found = Accuracy.model_validate(data)
        right = found.quality.agreement
        drawn = "drawn uniformly" if found.is_uniform else "picked, so that this says nothing about the others"
        messages.append(
            f"the LLM is right {right.value:.0%} of the time (95% interval {right.low:.0%} to {right.high:.0%}) by a "
            f"person's answers about {found.texts} texts, which were {drawn}"
        )
    if n := len(suspects.likely_errors):
        messages.append(
            f"the measured proxy contradicts held-out annotations with confidence; see who is right about the {n} "
            f"strongest in {suspects.review}, and run again with it as --corrections"
        )
    return messages
