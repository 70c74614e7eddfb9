"""What a run knows of single texts beside its rows: two answers about held-out texts, and quotes without a place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from langchain_falconer.annotate import Annotation, UnplacedQuote
from langchain_falconer.files import read_json, write_json
from langchain_falconer.records import Answers, FrozenModel, JsonObject

_COMPARISONS, _UNPLACED = "comparisons.json", "unplaced_quotes.json"


class Comparison(FrozenModel):
    """A held-out text and two answers about it, in the shape of a result row's ``labels`` and ``spans``.

    Attributes:
        text: The text.
        annotator: Answers of the annotator.
        proxy: Answers of a proxy that did not learn from the text, to all steps, whatever their ``where``.
    """

    text: str
    annotator: JsonObject
    proxy: JsonObject


class Evidence(FrozenModel):
    """What the folder of a run holds of single texts.

    Attributes:
        comparisons: Held-out texts, drawn uniformly, with two answers each.
        unplaced: Quotes of the LLM that do not occur in their text, as far as they are known.
    """

    comparisons: tuple[Comparison, ...] = ()
    unplaced: tuple[UnplacedQuote, ...] = ()

    @classmethod
    def of(cls, run: Path) -> Evidence:
        """Read the evidence of a run from its folder; empty where there is none."""
        comparisons = (read_json(run / _COMPARISONS) or {}).get("rows", ())
        return cls.model_validate({"comparisons": comparisons, "unplaced": _unplaced(run)})


NO_EVIDENCE = Evidence()


def write_comparisons(run: Path, annotations: Sequence[Annotation], predicted: Sequence[Answers]) -> None:
    """Write the answers of annotator and proxy about held-out texts, in their order, into the folder of a run."""
    rows = [
        Comparison(text=a.text, annotator=a.answers.to_dict(), proxy=p.to_dict())
        for a, p in zip(annotations, predicted, strict=True)
    ]
    write_json(run / _COMPARISONS, {"rows": [row.model_dump(mode="json") for row in rows]})


def add_unplaced(run: Path, quotes: Iterable[UnplacedQuote]) -> None:
    """Add quotes without a place to those in the folder of a run."""
    if added := [quote.model_dump(mode="json") for quote in quotes]:
        known = _unplaced(run)
        write_json(run / _UNPLACED, {"quotes": [*known, *(quote for quote in added if quote not in known)]})


def _unplaced(run: Path) -> list[JsonObject]:
    return list((read_json(run / _UNPLACED) or {}).get("quotes", ()))
