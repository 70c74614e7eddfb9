"""Tiny encoders with random weights, made once: they train in a second, and everything around them is real."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"  # read when langgraph is imported: checkpoints hold nothing but JSON
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"

import laptops
import pytest

from langchain_falconer.graph import MineSettings
from langchain_falconer.proxy import Proxy, TrainSettings, train_proxy

_SENTENCES = [*laptops.reviews(30), "Is this a positive review? Extract the price of every laptop."]
_SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TRAIN = TrainSettings(epochs=30, learning_rate=5e-3)


def _bert(folder: Path) -> None:
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = BertWordPieceTokenizer()
    words.train_from_iterator(_SENTENCES, vocab_size=300, min_frequency=1, show_progress=False)
    words.save_model(str(folder))
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), **_SIZE)).save_pretrained(folder)


def _roberta(folder: Path) -> None:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(_SENTENCES, vocab_size=400, special_tokens=special, show_progress=False)
    pieces.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=514, pad_token_id=1, **_SIZE)
    RobertaModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a BERT with 32 hidden units and a WordPiece vocabulary."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    _bert(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a RoBERTa with 32 hidden units and a byte-level BPE vocabulary."""
    folder = tmp_path_factory.mktemp("tiny-roberta")
    _roberta(folder)
    return str(folder)


@pytest.fixture(scope="session")
def proxy_folder(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proxy that has learned the laptop reviews, exported. Not to be changed: copy it first."""
    proxy = train_proxy(laptops.PLAN, laptops.annotations(laptops.reviews(48)), base=tiny_bert, settings=TRAIN)
    folder = proxy.save(tmp_path_factory.mktemp("proxies") / "laptops")
    proxy.export()
    return folder


@pytest.fixture
def proxy(proxy_folder: Path) -> Proxy:
    """That proxy, loaded anew."""
    return Proxy.load(proxy_folder)


@pytest.fixture
def settings(tiny_bert: str) -> MineSettings:
    """Mining in seconds: a tiny encoder, thirty annotations, two texts a call, a fixed backend."""
    return MineSettings.model_validate(
        {
            "base": tiny_bert,
            "annotations": 30,
            "train": TRAIN,
            "annotate": {"texts_per_call": 2},
            "run": {"backend": "onnx", "shard_texts": 20},
        }
    )
