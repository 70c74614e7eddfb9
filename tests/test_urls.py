"""Corpora and outputs at URLs: read and written through fsspec, without credentials in files or messages."""

import gzip
import json
import logging
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from laptops import INSTRUCTION, PLAN, annotation_row, reviews, write_corpus, write_lines
from typer.testing import CliRunner

from langchain_falconer import Falconer
from langchain_falconer.cli import app
from langchain_falconer.corpus import open_corpus, open_corpus_files
from langchain_falconer.errors import CorpusError, RunError
from langchain_falconer.execute import Run, check_output, read_rows
from langchain_falconer.settings import RunSettings
from langchain_falconer.urls import Url, as_place

SECRET = "hunter2"
SIGNED = f"memory://me:{SECRET}@bucket/in.jsonl?token={SECRET}"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def texts_of(source):
    return [row.text for row in open_corpus(source)]


def test_rows_are_read_from_files_and_folders_in_every_format(memory):
    memory.pipe("/c/a.jsonl", lines(["one", "two"]))
    memory.pipe("/c/b.jsonl.gz", gzip.compress(lines(["three"])))
    memory.pipe("/c/_SUCCESS", b"")
    memory.pipe("/t/x/1.txt", b"four")
    memory.pipe("/d.csv", b"text\nfive\n")
    assert texts_of("memory://c") == ["one", "two", "three"]
    assert texts_of("memory://c/b.jsonl.gz") == ["three"]
    assert [(row.id, row.text) for row in open_corpus("memory://t")] == [("x/1.txt", "four")]
    assert [row.text for row in open_corpus_files(["memory://d.csv", "memory://c/a.jsonl"])] == ["five", "one", "two"]


def test_a_text_file_is_read_with_the_query_of_its_address(memory):
    memory.pipe(f"/t/1.txt?token={SECRET}", b"four")
    assert [(row.id, row.text) for row in open_corpus(f"memory://t/1.txt?token={SECRET}")] == [("1.txt", "four")]


def test_a_file_url_is_a_path(tmp_path):
    file = write_corpus(tmp_path / "c.jsonl", ["one"])
    assert as_place(f"file://{file}") == file
    assert texts_of(f"file://{file}") == ["one"]


def test_a_run_from_a_url_to_a_url_gives_the_rows_of_files(proxy, memory, tmp_path):
    memory.pipe("/in.jsonl", lines(reviews(12)))
    local = Run(proxy, open_corpus(texts=reviews(12)), tmp_path / "a")(tmp_path / "out.parquet")
    corpus, output = open_corpus("memory://in.jsonl"), as_place("memory://far/out.parquet")
    Run(proxy, corpus, tmp_path / "b", RunSettings(shard_texts=5))(output)
    assert list(read_rows(output)) == list(read_rows(local.output))
    with memory.open("/far/out.parquet") as file:
        assert json.loads(pq.ParquetFile(file).schema_arrow.metadata[b"falconer.corpus"]) == ["memory://in.jsonl"]
    Run(proxy, corpus, tmp_path / "b", RunSettings(shard_texts=5))(as_place("memory://far/out.jsonl"))
    assert [row["text"] for row in read_rows(as_place("memory://far/out.jsonl"))] == reviews(12)


def test_a_corpus_at_a_url_that_changed_is_another(memory):
    memory.pipe("/in.jsonl", lines(["one"]))
    before = open_corpus("memory://in.jsonl").fingerprint
    assert open_corpus("memory://in.jsonl").fingerprint == before
    memory.pipe("/in.jsonl", lines(["two"]))
    assert open_corpus("memory://in.jsonl").fingerprint != before


def test_mining_keeps_no_credentials(memory, settings, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    memory.pipe(f"/me:{SECRET}@bucket/in.jsonl?token={SECRET}", lines(reviews(40)))
    labels = write_lines(tmp_path / "labels.jsonl", map(annotation_row, reviews(40)))
    falconer = Falconer(annotations=labels, home=tmp_path / "home", settings=settings)
    output = f"memory://me:{SECRET}@bucket/out.parquet"
    result = falconer.mine(INSTRUCTION, SIGNED, output, plan=PLAN)
    assert result.summary.corpus.sources == ("memory://bucket/in.jsonl",)
    assert result.summary.output == str(result.output) == "memory://bucket/out.parquet"
    assert [row["text"] for row in result.rows()] == reviews(40)
    stored = b"".join(file.read_bytes() for file in (tmp_path / "home").rglob("*") if file.is_file())
    written = memory.cat(f"/me:{SECRET}@bucket/out.parquet")
    assert b"memory://bucket/in.jsonl" in stored
    assert SECRET.encode() not in stored + written
    assert SECRET not in result.summary.model_dump_json() + caplog.text + repr(result.output)


def test_the_commands_take_urls(proxy_folder, memory, tmp_path):
    memory.pipe(f"/me:{SECRET}@bucket/in.jsonl?token={SECRET}", lines(reviews(5)))
    arguments = [str(proxy_folder), SIGNED, "-o", f"memory://out.parquet?token={SECRET}", "--home", str(tmp_path)]
    done = CliRunner().invoke(app, ["predict", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["output"] == "memory://out.parquet"
    assert SECRET not in done.output


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/a.parquet", "s3://bucket/a.parquet"),
        ("https://host:8080/a@b.csv?X-Amz-Signature=abc", "https://host:8080/a@b.csv"),
        ("sftp://me:pa@ss@host/a.csv", "sftp://host/a.csv"),
        ("s3://KEY:se/cr/et@bucket/a.csv", "s3://bucket/a.csv"),
        ("simplecache::s3://me:pw@bucket/a.csv", "simplecache::s3://bucket/a.csv"),
    ],
)
def test_a_url_is_shown_without_credentials(address, shown):
    url = as_place(address)
    assert str(url) == shown
    assert (repr(url), url.name) == (f"Url(shown='{shown}')", Path(shown).name)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://me:hunter2@x/a.jsonl", r"nope://x/a.jsonl: there is no file system 'nope'; use one"),
        ("memory://none.jsonl", "there is no file or folder memory://none.jsonl; check"),
        ("memory://in.xyz", "has an unsupported format"),
    ],
)
def test_a_url_that_cannot_be_read_is_one_sentence_with_the_fix(memory, url, message):
    memory.pipe("/in.xyz", b"x")
    with pytest.raises(CorpusError, match=message) as caught:
        open_corpus(url)
    assert SECRET not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(CorpusError, match=r"s3://bucket/a.jsonl needs a package .*; run: pip install s3fs"):
        open_corpus(f"s3://me:{SECRET}@bucket/a.jsonl")
    with pytest.raises(RunError, match="pip install s3fs"):
        check_output(as_place("s3://bucket/a.parquet"))


def test_output_formats_without_url_support_are_refused_early():
    with pytest.raises(RunError, match=r"end the output 'memory://a.duckdb' in .parquet or .jsonl"):
        check_output(as_place("memory://a.duckdb"))
    with pytest.raises(RunError, match=r"must end in"):
        check_output(as_place("memory://a.pdf"))
    with pytest.raises(RunError, match="there is no file system"):
        check_output(as_place("nope://a.parquet"))


class Failing(fsspec.AbstractFileSystem):
    """A file system whose errors hold the complete address."""

    protocol = "failing"

    def info(self, path, **_):
        return {"name": path, "size": 1, "type": "file"}

    def _open(self, path, mode="rb", **_):
        raise FileNotFoundError(path) if "gone" in path else RuntimeError(f"no right to {path}")


@pytest.mark.parametrize(("name", "reason"), [("gone", "there is no such file"), ("denied", "RuntimeError")])
def test_the_message_of_a_file_system_is_not_repeated(name, reason, proxy, tmp_path):
    fsspec.register_implementation("failing", Failing, clobber=True)
    with pytest.raises(CorpusError, match=reason) as caught:
        list(open_corpus(f"failing://me:{SECRET}@host/{name}.jsonl"))
    assert SECRET not in str(caught.value)
    run = Run(proxy, open_corpus(texts=reviews(2)), tmp_path / "shards")
    with pytest.raises(RunError, match="cannot write the run") as caught:
        run(as_place(f"failing://me:{SECRET}@host/{name}.parquet"))
    assert SECRET not in str(caught.value)


def test_a_url_is_public_and_may_stand_in_a_list(memory):
    memory.pipe("/a.jsonl", lines(["one"]))
    memory.pipe("/b.jsonl", lines(["two"]))
    assert texts_of([Url.of("memory://a.jsonl"), Url.of("memory://b.jsonl")]) == ["one", "two"]


def test_an_empty_folder_is_refused(memory):
    memory.makedirs("/empty")
    with pytest.raises(CorpusError, match="the folder memory://empty holds no files to read"):
        open_corpus("memory://empty")
