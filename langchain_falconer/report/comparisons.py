"""Held-out texts with the answers of annotator and measured proxy side by side, in a file of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_falconer.annotate import Annotation
from langchain_falconer.files import read_json, write_json
from langchain_falconer.records import Answers, FrozenModel, JsonObject


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


def write_comparisons(path: Path, annotations: Sequence[Annotation], predicted: Sequence[Answers]) -> None:
    """Write the answers of annotator and proxy about held-out texts, which were drawn uniformly, in their order."""
    rows = [
        Comparison(text=a.text, annotator=_row(a.answers), proxy=_row(p))
        for a, p in zip(annotations, predicted, strict=True)
    ]
    write_json(path, {"rows": [row.model_dump(mode="json") for row in rows]})


def read_comparisons(path: Path) -> list[Comparison]:
    """Read what :func:`write_comparisons` wrote; nothing where there is no file."""
    return [Comparison.model_validate(row) for row in (read_json(path) or {}).get("rows", ())]


def _row(answers: Answers) -> JsonObject:
    labels = {step: label.to_dict() for step, label in answers.labels.items()}
    spans = {step: [span.to_dict() for span in found] for step, found in answers.spans.items()}
    return {"labels": labels, "spans": spans}  # type: ignore[dict-item]
