"""The annotations that a person should look at: a uniform part, and those that are likely wrong."""

from __future__ import annotations

from langchain_falconer.annotate import AnnotationStore
from langchain_falconer.annotate.noise import Suspect, likely_errors, write_review
from langchain_falconer.files import read_json, write_json
from langchain_falconer.graph.context import NodeContext
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import Proxy
from langchain_falconer.records import FrozenModel

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
    if state.get("annotations"):
        return  # a person's own
    plan, sample = context.plan(state), context.sample(state)
    held_out = context.annotations(store, state, sample.held_out)
    predicted = proxy.answers([a.text for a in held_out], apply_conditions=False)
    found = likely_errors(plan, held_out, predicted)[:_SUSPECTS]
    review = context.folder(state) / "review.jsonl"
    write_review(review, plan, held_out[:_UNIFORM], held_out[_UNIFORM:], found)
    data = Suspects(likely_errors=tuple(found), review=str(review)).model_dump(mode="json")
    write_json(context.folder(state) / "suspects.json", data)


def read_suspects(state: FalconerState, context: NodeContext) -> Suspects:
    """Read what :func:`write_suspects` wrote; empty where nothing was annotated."""
    return Suspects.model_validate(read_json(context.folder(state) / "suspects.json") or {})
