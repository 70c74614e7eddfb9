"""Tiny encoders with random weights, made once: they train in a second, and everything around them is real."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path

os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"  # read when langgraph is imported: checkpoints hold nothing but JSON
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"

import laptops
import pytest

from langchain_falconer.model import Proxy
from langchain_falconer.settings import MineSettings, TrainSettings
from langchain_falconer.train import train_proxy


@pytest.fixture(autouse=True)
def _default_home(tmp_path_factory, monkeypatch):
    """Tests that name no home use one of their own, never the person's."""
    monkeypatch.setenv("FALCONER_HOME", str(tmp_path_factory.mktemp("default-home")))


_SENTENCES = [*laptops.reviews(30), "Is this a positive review? Extract the price of every laptop."]
_SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TRAIN = TrainSettings(epochs=30, learning_rate=5e-3)


def _bert(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    text = " ".join(_SENTENCES).lower()
    chars = sorted({*text, *string.printable.lower()} - set(string.whitespace))
    # Words as they are, numbers by their digits: the same vocabulary each time, as no trainer promises.
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *chars, *(f"##{c}" for c in chars)]
    words = sorted(set(re.findall(r"[a-z]{2,}", text)))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*pieces, *words]), "utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(folder)
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


def _cuckoo(folder: Path, begin: str = "", inside: str = "") -> None:
    """A Cuckoo checkpoint with random weights; or with ones that tag these two tokens, wherever they stand."""
    import torch
    from transformers import RobertaConfig, RobertaForTokenClassification, RobertaTokenizerFast

    _roberta(folder)
    config = RobertaConfig.from_pretrained(folder, id2label={0: "B", 1: "I", 2: "O"})
    torch.manual_seed(0)
    tagger = RobertaForTokenClassification(config)
    if begin:
        named = RobertaTokenizerFast.from_pretrained(folder).get_vocab()
        tags = torch.full((len(named),), 2)
        tags[named[begin]], tags[named[inside]] = 0, 1
        with torch.no_grad():
            for name, weights in tagger.named_parameters():
                if "LayerNorm" not in name:
                    weights.zero_()  # nothing but the token itself is seen
            tagger.roberta.embeddings.word_embeddings.weight[torch.arange(len(named)), tags] = 1
            tagger.classifier.weight.fill_diagonal_(1)
            tagger.classifier.bias[2] = 0.01  # an inside without a beginning is no tie of outside and beginning
    tagger.save_pretrained(folder)


def _deberta(folder: Path) -> None:
    import torch
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import DebertaV2Config, DebertaV2Model, DebertaV2TokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    pieces = Tokenizer(models.Unigram())  # what transformers makes of DeBERTa-v3's SentencePiece file
    one_space = normalizers.Replace(Regex(" {2,}"), " ")
    pieces.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), one_space])
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=special, unk_token="[UNK]", show_progress=False, initial_alphabet=["-"]
    )
    pieces.train_from_iterator(_SENTENCES, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, special.index(name)) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer = DebertaV2TokenizerFast(tokenizer_object=pieces)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    relative = {"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    biased = {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0}
    config = DebertaV2Config(vocab_size=len(tokenizer), pad_token_id=0, **relative, **biased, **_SIZE)
    DebertaV2Model(config).save_pretrained(folder)


def _modernbert(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = list(special.values())
    pieces = Tokenizer(models.BPE())
    pieces.normalizer = normalizers.NFC()
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    pieces.train_from_iterator(_SENTENCES, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, names.index(name)) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **special)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ids = {"pad_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    config = ModernBertConfig(
        vocab_size=len(tokenizer), local_attention=16, global_attn_every_n_layers=2, **ids, **_SIZE
    )
    ModernBertModel(config).save_pretrained(folder)


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
def tiny_cuckoo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a Cuckoo checkpoint that tags "love" as the beginning of a span, and "it" as its inside."""
    folder = tmp_path_factory.mktemp("tiny-cuckoo")
    _cuckoo(folder, "Ġlove", "Ġit")
    return str(folder)


@pytest.fixture(scope="session")
def random_cuckoo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a Cuckoo checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("random-cuckoo")
    _cuckoo(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_deberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a DeBERTa-v3 with 32 hidden units and a Unigram vocabulary."""
    folder = tmp_path_factory.mktemp("tiny-deberta")
    _deberta(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_modernbert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a ModernBERT with 32 hidden units, local attention and a byte-level BPE vocabulary."""
    folder = tmp_path_factory.mktemp("tiny-modernbert")
    _modernbert(folder)
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
