"""Hostile texts: every row is answered or recorded as failed with its reason, and every span is exact."""

import json
import os
import random

import numpy as np
import pytest

from langchain_falconer.corpus import open_corpus_files
from langchain_falconer.execute import Run, read_rows
from langchain_falconer.settings import CorpusSettings

HOSTILE = int(os.environ.get("FALCONER_HOSTILE", "300"))
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "👍🏽", "\U000e0041"]
MARKS = ["e\u0301", "Z\u0351\u036b\u0343", "\u00ad", "ﬁ", "İ", "ß", "ǅ", "Å", "가", "각"]
SCRIPTS = ["ﷺ", "שלום", "مرحبا", "\u202eabc\u202c", "素晴らしい", "ไทยแลนด์", "𝕳𝖊𝖑𝖑𝖔"]
BLANKS = ["\r\n", "\r", "\n\n", "\t", "\u200b", "\ufeff", "\u2028", "\u2029", "\x85", " "]
CONTROLS = ["\x00", "\x1b[31m", "\x7f", "\ufffd", "\uffff"]
TOKENS = ["[PAD]", "[MASK]", "[SEP]", "##ing", "<|endoftext|>", "it's", "$5", "1,299.99", "a", "I love it"]
ATTACKS = ["{{x}}", "%s", "';DROP TABLE rows;--", "<script>", "../../etc/passwd", "__import__('os')"]
PIECES = [*EMOJI, *MARKS, *SCRIPTS, *BLANKS, *CONTROLS, *TOKENS, *ATTACKS]
UNREADABLE = {
    '"\\ud800"': "lone surrogate",
    '"a\\udfffb"': "lone surrogate",
    '""': "empty",
    '"\\r\\n \\u2003"': "blank",
    "null": "it has no text",
    "[1]": "a list, not a string",
    '"' + "long " * 2_000_000 + '"': "longer than max_row_bytes",
}


class Wild:
    """A session of random scores, so that spans are everywhere."""

    name = "onnx"
    n_parallel = 1
    tokens_per_batch = 1024

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def run(self, ids, mask, weights):
        spans = self.rng.normal(size=(*ids.shape, len(weights.span_bias)))
        labels = self.rng.normal(size=(len(ids), len(weights.label_bias)))
        return spans.astype(np.float32), labels.astype(np.float32)


def hostile(n):
    """Yield readable texts as JSON and as strings."""
    rng = random.Random(5)
    for i in range(n):
        text = "".join(rng.choice(PIECES) for _ in range(rng.choice([1, 2, 5, 20, 200])))
        text = text if text.strip() else text + "x"
        yield json.dumps(text, ensure_ascii=bool(i % 2)), text


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_every_hostile_text_is_answered_exactly_or_failed_with_its_reason(name, proxy, tmp_path):
    """FALCONER_HOSTILE=10000 makes it ten thousand."""
    lines = [*hostile(HOSTILE), *((line, None) for line in UNREADABLE), ('"' + "x🙂 " * 30_000 + '"', "x🙂 " * 30_000)]
    random.Random(7).shuffle(lines)
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(b"".join(b'{"text": %s}\r\n' % line.encode() for line, _ in lines))
    proxy.set_session(Wild())
    corpus = open_corpus_files([file], CorpusSettings(on_bad_row="record"))
    report = Run(proxy, corpus, tmp_path / "shards")(tmp_path / name)
    result = list(read_rows(report.output))
    assert [row["id"] for row in result] == [str(i) for i in range(len(lines))]
    assert report.statistics.failed == len(UNREADABLE)
    spans = 0
    for i, (row, (line, text)) in enumerate(zip(result, lines, strict=True)):
        if text is None:
            assert f"line {i + 1}" in row["error"]
            assert UNREADABLE[line] in row["error"]
            continue
        assert row["text"] == text
        assert set(row["labels"]) == {"positive"}
        for span in row["spans"].get("price", []):
            assert 0 <= span["start"] < span["end"] <= len(text)
            assert text[span["start"] : span["end"]] == span["text"]
            spans += 1
    assert spans > HOSTILE
