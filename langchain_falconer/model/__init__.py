"""The network of a proxy: encoder, query heads, tokenization, decoding, export and inference sessions.

``falconer-small``, the metamodel, lies beside the modules. Inference needs neither torch nor transformers.
"""

from langchain_falconer.model.artifact import FILES, check_destination
from langchain_falconer.model.decoding import Scores
from langchain_falconer.model.devices import may_have_gpu, resolve_device
from langchain_falconer.model.encoder import PLAIN_BASE
from langchain_falconer.model.examples import Example
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.marking import mark
from langchain_falconer.model.metamodel import save_metamodel
from langchain_falconer.model.proxy import PASSAGE_CHARS, Embedder, Proxy, confidence_of
from langchain_falconer.model.query_heads import ZeroShotEncoder
from langchain_falconer.model.scoring import text_groups
from langchain_falconer.model.sessions import (
    LABEL_SCALE,
    HeadWeights,
    OnnxSession,
    Session,
    TorchSession,
    cores,
    cpu_flags,
)
from langchain_falconer.model.tokenization import Tokenizer

__all__ = [
    "FILES",
    "LABEL_SCALE",
    "PASSAGE_CHARS",
    "PLAIN_BASE",
    "Embedder",
    "Example",
    "HeadIndex",
    "HeadWeights",
    "OnnxSession",
    "Proxy",
    "Scores",
    "Session",
    "Tokenizer",
    "TorchSession",
    "ZeroShotEncoder",
    "check_destination",
    "confidence_of",
    "cores",
    "cpu_flags",
    "mark",
    "may_have_gpu",
    "resolve_device",
    "save_metamodel",
    "text_groups",
]
