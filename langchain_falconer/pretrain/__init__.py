"""The pretrain room: how the metamodel that ships with the package is made."""

from langchain_falconer.pretrain._distil import LABELS, MARKS, Survey, distil
from langchain_falconer.pretrain._make import ANSWERS, gathered, make
from langchain_falconer.pretrain._patterns import filled, named, sections
from langchain_falconer.pretrain._recipe import SHIPPED, Mixture, Recipe
from langchain_falconer.pretrain._sets import askable, markable, raw_texts, sources
from langchain_falconer.pretrain._tasks import (
    LabelSource,
    MarkedText,
    NextTokensSource,
    OpenSource,
    PairSource,
    Source,
    SpanSource,
)

__all__ = [
    "ANSWERS",
    "LABELS",
    "MARKS",
    "SHIPPED",
    "LabelSource",
    "MarkedText",
    "Mixture",
    "NextTokensSource",
    "OpenSource",
    "PairSource",
    "Recipe",
    "Source",
    "SpanSource",
    "Survey",
    "askable",
    "distil",
    "filled",
    "gathered",
    "make",
    "markable",
    "named",
    "raw_texts",
    "sections",
    "sources",
]
