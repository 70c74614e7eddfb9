"""Cuckoo checkpoints: token classifiers that tag the answers to a question in the text, one pass per question.

Cuckoo (arXiv 2502.11275, github.com/KomeijiForce/Cuckoo) reads ``User: text Question: … Assistant:`` and tags the words
that would come next. Its classifier scores each token by three vectors, as a span head does, so the heads of such a
proxy are copies of the classifier, and only the input of the encoder differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from langchain_falconer.errors import ProxyError, first_line
from langchain_falconer.model.decoding import Scores
from langchain_falconer.model.encoder import MODEL_INIT_LOCK, base_folder, is_metamodel, load_tokenizer
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.scoring import ScoreFn, WindowFn
from langchain_falconer.model.sessions import HeadWeights
from langchain_falconer.model.tokenization import Tokenizer, Window, WindowSplitter
from langchain_falconer.plan import LabelStep

PROMPT = "cuckoo"
"""Value of ``prompt`` in the manifest of a proxy that reads texts inside Cuckoo's prompt."""

_BEFORE, _AFTER = "User:\n\n", "\n\nQuestion: {}\n\nAssistant:"
_LABELS = {"0": "B", "1": "I", "2": "O"}
_HEAD_ORDER = [2, 0, 1]  # a head's vectors are outside, begin, inside
_MIN_TEXT_TOKENS = 64  # in one pass, beside the prompt


def is_cuckoo(base: str) -> bool:
    """Return whether a folder or hub name is a Cuckoo checkpoint by its config.json: a RoBERTa that tags B, I, O."""
    folder = base_folder(base)
    if is_metamodel(Path(folder)):
        return False
    with MODEL_INIT_LOCK:
        from transformers import PretrainedConfig

    try:
        config, _ = PretrainedConfig.get_config_dict(folder)
    except (OSError, ValueError):
        return False  # loading it will raise the error
    tagger = (config.get("architectures"), config.get("id2label"))
    return tagger == (["RobertaForTokenClassification"], _LABELS)


def cuckoo_tokenizer(base: str) -> Tokenizer:
    """Load the tokenizer of a checkpoint with the words of Cuckoo's training: each after a space, punctuation apart."""
    from tokenizers import Regex, pre_tokenizers, processors

    tokenizer = load_tokenizer(base)
    backend = tokenizer.backend
    punctuation = pre_tokenizers.Split(Regex(r"[^\S ]+|[^\w\s]"), "isolated")
    words = [pre_tokenizers.Split(" ", "removed"), punctuation, pre_tokenizers.ByteLevel(add_prefix_space=True)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(words)
    start, end = ((name, backend.token_to_id(name)) for name in ("<s>", "</s>"))
    # The default one would drop the first letter of each word, mistaken for the space before it.
    backend.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    return tokenizer


def cuckoo_head(base: str) -> HeadWeights:
    """Read the classifier of a checkpoint as one span head.

    Raises:
        ProxyError: It has none.
    """
    from safetensors import SafetensorError, safe_open
    from transformers.utils import cached_file

    try:
        with safe_open(cached_file(base_folder(base), "model.safetensors"), "pt") as weights:
            head = [weights.get_tensor(f"classifier.{part}") for part in ("weight", "bias")]
    except (OSError, SafetensorError) as error:
        reason = first_line(error)
        raise ProxyError(f"no classifier can be read from '{base}' ({reason}); choose another checkpoint") from error
    weight, bias = (tensor.float().numpy()[_HEAD_ORDER] for tensor in head)
    return HeadWeights(weight, bias, np.zeros((0, weight.shape[1]), np.float32), np.zeros(0, np.float32))


def repeat_head(heads: HeadWeights, index: HeadIndex) -> HeadWeights:
    """Repeat the first of ``heads`` for each step of an index: Cuckoo's classifier is the same for every question.

    Raises:
        ProxyError: The index has a label step; Cuckoo tags words of the text only.
    """
    for step in index.steps:
        if isinstance(step, LabelStep):
            raise ProxyError(
                f"step '{step.id}' asks for a label, and a Cuckoo checkpoint finds spans only; "
                "ask it with get_span, train a proxy on the checkpoint, or name another base"
            )
    return heads.take([0] * len(index.span_texts), [])


def prompted_scorer(
    tokenizer: Tokenizer,
    max_tokens: int,
    index: HeadIndex,
    weights: HeadWeights,
    make_scorer: Callable[[WindowFn, HeadIndex, HeadWeights], ScoreFn],
) -> ScoreFn:
    """Make a scorer that takes one encoder pass per question.

    Args:
        tokenizer: Tokenizer of the checkpoint.
        max_tokens: Tokens of one pass.
        index: The steps.
        weights: Their heads.
        make_scorer: Makes the scorer of one question from ``windows, index, weights``.

    Raises:
        ProxyError: A question is too long to be read with a text.
    """
    scorers = [
        make_scorer(
            _Prompted(tokenizer, max_tokens, index.span_texts[row]), HeadIndex.of([step]), weights.take([row], [])
        )
        for row, step in enumerate(index.steps)
    ]

    def score(texts: Sequence[str]) -> list[Scores]:
        scores = zip(*(scorer(texts) for scorer in scorers), strict=True)
        return [
            Scores(
                spans={k: v for part in parts for k, v in part.spans.items()},
                none_prob={k: v for part in parts for k, v in part.none_prob.items()},
            )
            for parts in scores
        ]

    return score


class _Prompted:
    """Windows over texts, each inside the prompt of a question: only words of the text can be answers."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, question: str) -> None:
        self._before, self._after = (_ids(tokenizer, part) for part in (_BEFORE, _AFTER.format(question)))
        text_tokens = max_tokens - len(self._before) - len(self._after)
        if text_tokens < _MIN_TEXT_TOKENS:
            raise ProxyError(
                f"the question '{question[:40]}…' leaves too few of the {max_tokens} tokens of one encoder pass "
                "for a text; ask it in fewer words"
            )
        self._windows = WindowSplitter(tokenizer, text_tokens)

    def __call__(self, texts: Sequence[str]) -> list[Window]:
        return [self._prompted(window) for window in self._windows(texts)]

    def _prompted(self, window: Window) -> Window:
        start, *text, end = window.ids
        ids = [start, *self._before, *text, *self._after, end]
        return Window(window.text, ids, window.words + len(self._before), window.starts, window.ends)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    tokenizer.backend.no_truncation()
    tokenizer.backend.no_padding()
    ids: list[int] = tokenizer.backend.encode(text, add_special_tokens=False).ids
    return ids
