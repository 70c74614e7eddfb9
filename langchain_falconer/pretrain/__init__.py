"""Pretraining of the metamodel: recipe, datasets, tasks, the training loop, bundles for GPU machines."""

from langchain_falconer.pretrain.assembly import adopt, make, write_bundle
from langchain_falconer.pretrain.batches import Anchors, Mixture, Step, StepMaker
from langchain_falconer.pretrain.datasets import WRITTEN, read_datasets, read_rows, read_written
from langchain_falconer.pretrain.pretraining import PretrainProgress, PretrainSettings, pretrain
from langchain_falconer.pretrain.recipe import SHIPPED, Recipe
from langchain_falconer.pretrain.tasks import (
    LabelQuestion,
    LabelSource,
    QuestionSource,
    Source,
    SpanQuestion,
    SpanSource,
    Task,
)

__all__ = [
    "SHIPPED",
    "WRITTEN",
    "Anchors",
    "LabelQuestion",
    "LabelSource",
    "Mixture",
    "PretrainProgress",
    "PretrainSettings",
    "QuestionSource",
    "Recipe",
    "Source",
    "SpanQuestion",
    "SpanSource",
    "Step",
    "StepMaker",
    "Task",
    "adopt",
    "make",
    "pretrain",
    "read_datasets",
    "read_rows",
    "read_written",
    "write_bundle",
]
