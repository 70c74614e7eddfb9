"""The pretrain room: how the metamodel that ships with the package is made."""

from langchain_falconer.pretrain.assembly import ANSWERS, gathered, make
from langchain_falconer.pretrain.distillation import LABELS, MARKS, Survey, distil
from langchain_falconer.pretrain.pretraining import PretrainProgress, PretrainSettings, Task, pretrain
from langchain_falconer.pretrain.recipe import SHIPPED, Mixture, Recipe
from langchain_falconer.pretrain.task_sources import askable, markable, raw_texts, sources
from langchain_falconer.pretrain.tasks import (
    LabelSource,
    MarkedText,
    NextTokensSource,
    OpenSource,
    PairSource,
    Source,
    SpanSource,
)
from langchain_falconer.pretrain.templates import filled, named, sections

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
    "PretrainProgress",
    "PretrainSettings",
    "Recipe",
    "Source",
    "SpanSource",
    "Survey",
    "Task",
    "askable",
    "distil",
    "filled",
    "gathered",
    "make",
    "markable",
    "named",
    "pretrain",
    "raw_texts",
    "sections",
    "sources",
]
