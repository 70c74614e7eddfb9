"""The sieve: clear negatives are settled without the encoder, few that pass are lost; it is off where it is no use."""

import json
import time

import pytest
from laptops import reviews

from langchain_falconer.corpus import open_corpus
from langchain_falconer.errors import CorpusError
from langchain_falconer.execute import Run, RunSettings, choose_sieve, read_rows
from langchain_falconer.plan import Plan
from langchain_falconer.proxy import Proxy

ROWS = 8_000
SIFTED = RunSettings(backend="onnx", sieve="auto")
OPEN = {"instruction": "prices", "steps": [{"id": "price", "op": "get_span", "instruction": "Extract the price"}]}


def many(texts, n):
    """``n`` different rows of texts that were learnt: none differs from one of them but by blanks."""
    return [" " * (i // len(texts)) + texts[i % len(texts)] for i in range(n)]


class Slow:
    """A session that takes its time, as a large encoder does: so that a sieve pays for sure."""

    def __init__(self, session):
        self.name, self.at_once, self._session = session.name, session.at_once, session

    def run(self, ids, mask, weights):
        time.sleep(0.02)
        return self._session.run(ids, mask, weights)


@pytest.fixture(scope="module")
def corpus():
    return open_corpus(many(reviews(48), ROWS))


@pytest.fixture(scope="module")
def slow(proxy_folder):
    proxy = Proxy.load(proxy_folder)
    proxy.use(Slow(proxy.session))
    return proxy


@pytest.fixture(scope="module")
def sifted(slow, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sifted")
    return folder, Run(slow, corpus, folder / "shards", SIFTED)(folder / "out.parquet")


def test_clear_negatives_are_settled_and_the_other_rows_are_the_same(sifted, proxy, corpus, tmp_path):
    _, report = sifted
    assert report.sieve["on"], report.sieve["said"]
    whole = Run(proxy, corpus, tmp_path / "whole")(tmp_path / "out.jsonl")
    rows, expected = list(read_rows(report.output)), list(read_rows(whole.output))
    settled = [row for row in rows if row["decided_by"] == {"positive": "sieve"}]
    assert len(settled) > ROWS / 4
    assert all(row["labels"]["positive"]["value"] is False and not row["match"] for row in settled)
    pairs = [(row, old) for row, old in zip(rows, expected, strict=True) if row["decided_by"]["positive"] == "proxy"]
    assert all(row["labels"]["positive"]["value"] == old["labels"]["positive"]["value"] for row, old in pairs)
    passed = [row for row, old in zip(rows, expected, strict=True) if old["labels"]["positive"]["value"]]
    assert sum(not row["labels"]["positive"]["value"] for row in passed) <= 0.01 * len(passed)


def test_what_was_measured_stands_in_the_manifest_and_in_the_output(sifted):
    import pyarrow.parquet as pq

    folder, report = sifted
    assert report.sieve["gain"] > 1
    assert report.sieve["lost"] <= 0.01 * report.sieve["certified_on"]
    (manifest,) = (json.loads(file.read_text()) for file in folder.glob("shards/*/manifest.json"))
    stored = pq.read_schema(report.output).metadata[b"falconer.sieve"]
    assert manifest["sieve"] == report.sieve == json.loads(stored)


def test_a_run_that_goes_on_sifts_as_it_began(sifted, slow, corpus):
    folder, report = sifted
    before = list(read_rows(report.output))
    for file in sorted(folder.glob("shards/*/00*"))[2:]:
        file.unlink()
    again = Run(slow, corpus, folder / "shards", SIFTED)(folder / "again.parquet")
    assert again.texts > 0
    assert again.sieve == report.sieve
    assert list(read_rows(again.output)) == before


def test_a_run_without_a_sieve_is_another_run(sifted, slow, corpus):
    folder, _ = sifted
    few = open_corpus(reviews(20))
    report = Run(slow, few, folder / "shards")(folder / "few.jsonl")
    assert report.sieve is None
    assert all(row["decided_by"]["positive"] == "proxy" for row in read_rows(report.output))


def test_few_rows_have_no_sieve(proxy, tmp_path):
    report = Run(proxy, open_corpus(reviews(40)), tmp_path, SIFTED)(tmp_path / "out.jsonl")
    assert not report.sieve["on"]
    assert "40 rows are too few" in report.sieve["said"]
    assert Run(proxy, open_corpus(reviews(40)), tmp_path, SIFTED)(tmp_path / "out.jsonl").sieve == report.sieve


def test_a_plan_that_selects_nothing_has_no_sieve(tiny_bert, corpus):
    proxy = Proxy.zero_shot(Plan.parse(OPEN), base=tiny_bert)
    assert "no yes/no step that all its others wait for" in choose_sieve(proxy, corpus).facts["said"]


def test_too_few_texts_that_pass_certify_nothing(proxy):
    bad = [text for text in reviews(48) if "Terrible" in text]
    chosen = choose_sieve(proxy, open_corpus([*many(bad, 5_000), *reviews(48)]))
    assert chosen.sieve is None
    assert "it takes 299" in chosen.facts["said"]


def test_a_sieve_that_settles_nothing_does_not_pay(proxy):
    good = [text for text in reviews(48) if "love" in text]
    chosen = choose_sieve(proxy, open_corpus([*many(good, 5_000), *many(reviews(48), 500)]))
    assert chosen.sieve is None
    assert "would not pay" in chosen.facts["said"]
    assert chosen.facts["seconds_with"] > 0


def test_targets_keep_the_score_of_every_text(proxy, tmp_path):
    report = Run(proxy, open_corpus(reviews(12)), tmp_path, SIFTED, scored=True)()
    assert "targets need" in report.sieve["said"]


def test_a_row_that_cannot_be_read_stops_it_with_its_place(proxy, tmp_path):
    broken = tmp_path / "c.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": 3}\n')
    with pytest.raises(CorpusError, match="line 2"):
        Run(proxy, open_corpus(str(broken)), tmp_path / "shards", SIFTED)()
