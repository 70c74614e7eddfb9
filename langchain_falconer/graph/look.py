"""A look at a corpus before it is planned: a few of its texts, and its columns."""

from __future__ import annotations

from itertools import islice

from langchain_falconer.annotate.isolation import addresses_the_llm
from langchain_falconer.corpus import BadRow, Corpus, sample_uniform
from langchain_falconer.errors import CorpusError
from langchain_falconer.plan import Background

_READ = 1_000
"""Rows that are read: the look takes no pass over a large corpus."""
_SHOWN = 5
_DRAWN = 20


def look_at(corpus: Corpus, seed: int) -> Background:
    """Return a few texts drawn from the first thousand, and the names of the other columns.

    A text that speaks to the LLM is not shown. A corpus that cannot be read shows nothing: the stage that reads all of
    it says why.
    """
    try:
        rows = [row for row in islice(corpus, _READ) if not isinstance(row, BadRow)]
    except CorpusError:
        return Background()
    drawn = sample_uniform((row.text for row in rows), _DRAWN, seed, key=str)
    texts = [text for text in drawn if not addresses_the_llm(text)]
    columns = dict.fromkeys(name for row in rows for name in row.metadata)
    return Background(tuple(texts[:_SHOWN]), tuple(columns))
