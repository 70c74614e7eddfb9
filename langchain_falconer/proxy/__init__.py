"""The proxy room: the small encoder that learns a plan, kept as safetensors and exported through Optimum."""

import importlib
from typing import TYPE_CHECKING, Any

from langchain_falconer.proxy._asked import Asked
from langchain_falconer.proxy._base import DEFAULT_BASE, PLAIN_BASE
from langchain_falconer.proxy._compare import Comparison, SharedStep
from langchain_falconer.proxy._entry import Entry
from langchain_falconer.proxy._examples import Example
from langchain_falconer.proxy._folder import FILES, check_place
from langchain_falconer.proxy._layout import Layout
from langchain_falconer.proxy._learn import UNLABELLED, train_proxy
from langchain_falconer.proxy._marking import mark
from langchain_falconer.proxy._memory import Past
from langchain_falconer.proxy._metamodel import load_model, save_metamodel
from langchain_falconer.proxy._pretrain import PretrainProgress, PretrainSettings, Task, pretrain
from langchain_falconer.proxy._proxy import PASSAGE_CHARS, Embedder, Proxy, check_metrics, sureness
from langchain_falconer.proxy._registry import Registry
from langchain_falconer.proxy._scorer import text_groups
from langchain_falconer.proxy._session import (
    LABEL_SCALE,
    OnnxSession,
    Session,
    SlotWeights,
    TorchSession,
    cores,
)
from langchain_falconer.proxy._tokens import Tokenizer
from langchain_falconer.proxy._train import TrainSettings, autocast, bf16_pays

if TYPE_CHECKING:
    from langchain_falconer.proxy._model import ReadWords, ScoreTexts, SlotModel, pooled

__all__ = [
    "DEFAULT_BASE",
    "FILES",
    "LABEL_SCALE",
    "PASSAGE_CHARS",
    "PLAIN_BASE",
    "UNLABELLED",
    "Asked",
    "Comparison",
    "Embedder",
    "Entry",
    "Example",
    "Layout",
    "OnnxSession",
    "Past",
    "PretrainProgress",
    "PretrainSettings",
    "Proxy",
    "ReadWords",
    "Registry",
    "ScoreTexts",
    "Session",
    "SharedStep",
    "SlotModel",
    "SlotWeights",
    "Task",
    "Tokenizer",
    "TorchSession",
    "TrainSettings",
    "autocast",
    "bf16_pays",
    "check_metrics",
    "check_place",
    "cores",
    "load_model",
    "mark",
    "pooled",
    "pretrain",
    "save_metamodel",
    "sureness",
    "text_groups",
    "train_proxy",
]


def __getattr__(name: str) -> Any:
    if name not in ("ReadWords", "ScoreTexts", "SlotModel", "pooled"):  # these load torch
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}._model"), name)
