"""The pretrain room: how the metamodel that ships with the package is made."""

from langchain_falconer.pretrain._distil import distil
from langchain_falconer.pretrain._make import ANSWERS, make
from langchain_falconer.pretrain._recipe import SHIPPED, Mixture, Recipe
from langchain_falconer.pretrain._sets import askable, raw_texts, sources
from langchain_falconer.pretrain._tasks import LabelSource, MarkedText, NextTokensSource, PairSource, Source, SpanSource

__all__ = [
    "ANSWERS",
    "SHIPPED",
    "LabelSource",
    "MarkedText",
    "Mixture",
    "NextTokensSource",
    "PairSource",
    "Recipe",
    "Source",
    "SpanSource",
    "askable",
    "distil",
    "make",
    "raw_texts",
    "sources",
]
