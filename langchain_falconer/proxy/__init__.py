"""The proxy room: the small encoder that learns a plan, kept as safetensors and exported through Optimum."""

from langchain_falconer.proxy._base import DEFAULT_BASE, PLAIN_BASE
from langchain_falconer.proxy._entry import Entry
from langchain_falconer.proxy._examples import Example
from langchain_falconer.proxy._folder import FILES, check_place
from langchain_falconer.proxy._layout import Layout
from langchain_falconer.proxy._learn import UNLABELLED, train_proxy
from langchain_falconer.proxy._marking import mark
from langchain_falconer.proxy._memory import Past
from langchain_falconer.proxy._metamodel import save_metamodel
from langchain_falconer.proxy._pretrain import PretrainProgress, PretrainSettings, Task, pretrain
from langchain_falconer.proxy._proxy import PASSAGE_CHARS, Embedder, Proxy, check_metrics, sureness
from langchain_falconer.proxy._registry import Registry
from langchain_falconer.proxy._scorer import text_groups
from langchain_falconer.proxy._session import (
    OnnxSession,
    Session,
    SlotWeights,
    TorchSession,
    cores,
)
from langchain_falconer.proxy._tokens import Tokenizer
from langchain_falconer.proxy._train import TrainSettings

__all__ = [
    "DEFAULT_BASE",
    "FILES",
    "PASSAGE_CHARS",
    "PLAIN_BASE",
    "UNLABELLED",
    "Embedder",
    "Entry",
    "Example",
    "Layout",
    "OnnxSession",
    "Past",
    "PretrainProgress",
    "PretrainSettings",
    "Proxy",
    "Registry",
    "Session",
    "SlotWeights",
    "Task",
    "Tokenizer",
    "TorchSession",
    "TrainSettings",
    "check_metrics",
    "check_place",
    "cores",
    "mark",
    "pretrain",
    "save_metamodel",
    "sureness",
    "text_groups",
    "train_proxy",
]
