"""Corpora: every format, invalid rows and files, and materialization."""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import gzip
import io
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as LangChainDocument

from langchain_falconer.corpus import BadRow, Document, materialize, open_corpus, open_corpus_files
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings

RECORD = CorpusSettings(on_bad_row="record")
ROWS = [
    {"id": "a", "text": "First, text.", "url": "u"},
    {"id": "b", "text": 'Zweiter "Text"\nmit Ümlaut 🎉', "url": "ü"},
]
DOCS = [Document(row["id"], row["text"], {"url": row["url"]}) for row in ROWS]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def jsonl(path: Path, *rows: Any) -> Path:
    data = b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def table(path: Path, rows: list[dict[str, Any]], **dialect: Any) -> Path:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    data = out.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def reasons(source: Any, settings: CorpusSettings = RECORD, texts: Any = None) -> list[str]:
    return [r.reason for r in open_corpus(source, settings, texts=texts) if isinstance(r, BadRow)]


def saved(rows: list[dict[str, Any]], folder: Path) -> Path:
    Dataset.from_list(rows).save_to_disk(folder)
    return folder


MAKERS = {
    "x.jsonl": lambda p: jsonl(p, *ROWS),
    "x.ndjson.gz": lambda p: jsonl(p, *ROWS),
    "x.csv": lambda p: table(p, ROWS),
    "y.csv": lambda p: table(p, ROWS, delimiter=";"),
    "x.csv.gz": lambda p: table(p, ROWS),
    "x.tsv": lambda p: table(p, ROWS, delimiter="\t"),
    "x.tsv.gz": lambda p: table(p, ROWS, delimiter="\t"),
    "x.parquet": lambda p: parquet(p, ROWS),
    "saved": lambda p: saved(ROWS, p),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_gives_the_same_documents_each_time(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name)
    corpus = open_corpus(path)
    assert list(corpus) == DOCS
    assert list(corpus) == DOCS
    assert corpus.sources == [str(path)]
    assert json.loads(json.dumps(corpus.sources)) == corpus.sources


LOADED = [LangChainDocument(page_content=r["text"], id=r["id"], metadata={"url": r["url"]}) for r in ROWS]


class Loader(BaseLoader):
    def lazy_load(self):
        yield from LOADED


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        LOADED,
        tuple(LOADED),
        Loader(),
        Dataset.from_list(ROWS),
        Dataset.from_list(ROWS).with_format("numpy"),
        Dataset.from_list(ROWS).to_iterable_dataset(),
        IterableDataset.from_generator(lambda: iter(ROWS)),
    ],
    ids=lambda source: type(source).__name__,
)
def test_objects_in_memory_give_the_same_documents_and_the_same_file(source: Any, tmp_path: Path) -> None:
    corpus = open_corpus(source)
    assert list(corpus) == DOCS
    assert list(corpus) == DOCS
    assert materialize(source, tmp_path) == materialize(ROWS, tmp_path)
    assert corpus.fingerprint == open_corpus(ROWS).fingerprint


def test_strings_are_paths_alone_and_in_lists_and_texts_are_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", "one", "two")
    wanted = [Document("0", "one"), Document("1", "two")]
    assert list(open_corpus(str(path))) == wanted
    assert list(open_corpus(texts=["one", "two"])) == wanted
    assert list(open_corpus([str(path)])) == wanted
    assert list(open_corpus([path])) == wanted


def test_several_files_are_one_corpus_with_ids_that_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, two = jsonl(tmp_path / "one.jsonl", {"text": "1"}), table(tmp_path / "two.csv", [{"text": "2"}])
    assert [d.id for d in open_corpus_files([str(two), str(one)])] == ["two.csv:0", "one.jsonl:0"]
    same_name = jsonl(tmp_path / "b" / "one.jsonl", {"text": "3"})
    assert [d.id for d in open_corpus_files([one, same_name])] == [f"{one}:0", f"{same_name}:0"]
    note, other = tmp_path / "n.txt", tmp_path / "b" / "n.txt"
    note.write_text("note")
    other.write_text("other")
    assert [d.id for d in open_corpus([note, one])] == ["n.txt", "one.jsonl:0"]
    assert [d.id for d in open_corpus([note, other])] == [str(note), str(other)]
    with pytest.raises(CorpusError, match="named twice"):
        open_corpus_files([one, tmp_path / "b" / ".." / "one.jsonl"])


def test_a_folder_of_texts_or_of_shards_in_sorted_order(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfB\r\n")
    (folder / "sub" / "a.md.gz").write_bytes(gzip.compress(b"A"))
    (folder / ".hidden.txt").write_text("no")
    (folder / "_SUCCESS").touch()
    assert list(open_corpus(folder)) == [Document("b.txt", "B\r\n"), Document("sub/a.md.gz", "A")]
    shards = tmp_path / "shards"
    (shards / "k=1").mkdir(parents=True)
    parquet(shards / "k=1" / "p0.parquet", [{"text": "x", "n": 1}])
    parquet(shards / "p1.parquet", [{"text": "y", "n": 2}])
    assert [(d.id, d.text) for d in open_corpus(shards)] == [("k=1/p0.parquet:0", "x"), ("p1.parquet:0", "y")]
    (shards / "README.md").touch()
    with pytest.raises(CorpusError, match=r"mixes plain text \(README.md\) and Parquet \(k=1/p0.parquet\)"):
        open_corpus(shards)
    (folder / "scan.pdf").touch()
    with pytest.raises(CorpusError, match=r"scan\.pdf has an unsupported format"):
        open_corpus(folder)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"ID": 7, "Body": "t", "stars": 5}, Document("7", "t", {"stars": 5})),
        ({"_id": "k", "whatever": "t", "n": 1}, Document("k", "t", {"n": 1})),
        (
            {"text": "t", "body": "no", "source": "s", "title": "T", "other": "o"},
            Document("0", "t", {"body": "no", "source": "s", "title": "T", "other": "o"}),
        ),
        (
            {"id": "x", "headline": "t", "metadata": {"a": [1, 2], "b": None}},
            Document("x", "t", {"a": [1, 2], "b": None}),
        ),
        ({"doc_id": 1.5, "text": "t", "metadata": "no object"}, Document("1.5", "t", {"metadata": "no object"})),
        ({"title": "t"}, Document("0", "t")),
    ],
)
def test_columns_are_detected(tmp_path: Path, row: dict[str, Any], expected: Document) -> None:
    assert list(open_corpus(jsonl(tmp_path / "x.jsonl", row))) == [expected]
    assert list(open_corpus([row])) == [expected]
    assert list(open_corpus(parquet(tmp_path / "x.parquet", [row]))) == [expected]


def test_columns_are_named_and_a_wrong_name_lists_the_columns(tmp_path: Path) -> None:
    row = {"id": "i", "text": "t", "summary": "s", "key": 3}
    named = CorpusSettings(text_column="summary", id_column="key", keep="none")
    sources: list[Any] = [
        jsonl(tmp_path / "x.jsonl", row),
        table(tmp_path / "x.csv", [row]),
        parquet(tmp_path / "x.parquet", [row]),
        saved([row], tmp_path / "hf"),
        [row],
        Dataset.from_list([row]),
    ]
    for source in sources:
        assert list(open_corpus(source, named)) == [Document("3", "s")]
        assert list(open_corpus(source, CorpusSettings(id_column="", keep="none"))) == [Document("0", "t")]
        with pytest.raises(CorpusError, match=r"no column 'txt'.*--text-column.*id, text, summary, key"):
            open_corpus(source, CorpusSettings(text_column="txt"))
        with pytest.raises(CorpusError, match=r"no column 'no'.*--id-column.*id, text, summary, key"):
            open_corpus(source, CorpusSettings(id_column="no"))
    with pytest.raises(CorpusError, match=r"column of the text cannot be determined.*--text-column.*a, b"):
        open_corpus([{"a": "x", "b": "y"}])


@pytest.mark.parametrize("source", [[LangChainDocument(page_content="t")], Loader()])
def test_a_text_column_of_langchain_documents_is_refused(source: Any) -> None:
    with pytest.raises(CorpusError, match="omit --text-column"):
        open_corpus(source, CorpusSettings(text_column="text"))


def test_metadata_key_as_id_of_langchain_documents() -> None:
    doc = LangChainDocument(
        page_content="t", metadata={"source": "s.pdf", "when": Path("x"), "nan": float("nan"), 1: (2,)}
    )
    expected = {"source": "s.pdf", "when": "x", "nan": None, "1": [2]}
    assert list(open_corpus([doc], CorpusSettings(id_column="source"))) == [Document("s.pdf", "t", expected)]
    assert list(open_corpus([doc])) == [Document("0", "t", expected)]


BAD_LINES = [
    (b'{"text": "caf\xe9"}', r"not UTF-8 \(byte 0xe9 at byte 13\)"),
    (b'{"text": "x"', r"not JSON \(.* at column 13\)"),
    (b"[" * 100_000, "nests too deeply"),
    (b"1" * 5000, "too many digits"),
    (b"[1]", "a list, neither a JSON object nor a string"),
    (b"null", "null, neither"),
    (b'{"text": 5}', "a number, not a string"),
    (b'{"text": true}', "a boolean, not"),
    (b'{"text": {"a": 1}}', "an object, not"),
    (b'{"text": "ab\\ud83d"}', r"lone surrogate \(U\+D83D at character 2\)"),
    (b'{"id": [1], "text": "x"}', "its id .* is a list"),
    (b'{"id": {"a": 1}, "text": "x"}', "its id .* is an object"),
    (b'{"id": " ", "text": "x"}', "its id .* is blank"),
    (b'{"id": "\\udc00", "text": "x"}', "lone surrogate"),
    (b'{"id": NaN, "text": "x"}', "its id .* is a number"),
    (b'{"text": "x", "metadata": ' + b'{"a":' * 900 + b"1" + b"}" * 901, "nests too deeply"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_jsonl_row_is_a_record_or_an_error(tmp_path: Path, line: bytes, reason: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"id": "good", "text": "one"}, b"", line, b"  ", {"id": "too", "text": "two"})
    first, bad, last = open_corpus(path, RECORD)
    assert (first, last) == (Document("good", "one"), Document("too", "two"))
    assert isinstance(bad, BadRow)
    assert (bad.id, bad.where) == ("x.jsonl:1", "x.jsonl line 3")
    fix = r"(correct the row|name the encoding).*--bad-rows record"
    with pytest.raises(CorpusError, match=rf"x\.jsonl line 3: .*{reason}.*; {fix}"):
        list(open_corpus(path))


EMPTY_LINES = [
    (b'{"text": null}', "it has no text (column 'text')"),
    (b'{"text": NaN}', "it has no text (column 'text')"),
    (b'{"body": "x"}', "it has no text (column 'text')"),
    (b'{"text": ""}', "its text is empty"),
    (b'{"text": " \\n\\u00a0"}', "its text is blank"),
]


@pytest.mark.parametrize(("line", "reason"), EMPTY_LINES, ids=range(len(EMPTY_LINES)))
def test_a_row_without_a_text_is_a_row_and_stops_nothing(tmp_path: Path, line: bytes, reason: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"text": "one", "n": 1}, line.replace(b"}", b', "n": 2}'))
    _, empty = open_corpus(path, CorpusSettings(keep="n"))
    assert empty == BadRow("1", reason, "x.jsonl line 2", is_empty=True, metadata={"n": 2})
    written = materialize(path, tmp_path / "written")
    assert written.read_text("utf-8").count("\n") == 2
    assert [record.id for record in open_corpus(written) if isinstance(record, BadRow) and record.is_empty] == ["1"]


def test_a_corpus_without_any_text_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"data": {"text": "t"}}, {"data": {"text": "u"}})
    with pytest.raises(CorpusError, match=r"none of the 2 rows has a text in the column 'data\.txt'.*--text-column"):
        list(open_corpus(path, CorpusSettings(text_column="data.txt")))


def test_a_bad_row_keeps_its_own_id(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"id": 5, "text": None}, {"id": 6, "text": "x"})
    assert next(iter(open_corpus(path, RECORD))).id == "5"


def test_bad_first_rows_do_not_hide_the_columns(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", *[b"{"] * 50, {"id": 1}, {"body": "x"})
    assert list(open_corpus(path, RECORD))[-1] == Document("x.jsonl:51", "x")
    assert len(reasons(jsonl(tmp_path / "y.jsonl", b"{", b"{"))) == 2


def test_rows_over_the_limit_are_never_held_whole(tmp_path: Path) -> None:
    limit = CorpusSettings(on_bad_row="record", max_row_bytes=100_000)
    huge = 10_000_000
    lines = jsonl(tmp_path / "x.jsonl", {"text": "a"}, b'"' + b"x" * huge + b'"', {"text": "b"})
    sheet = tmp_path / "x.csv"
    sheet.write_bytes(b'text\na\n"' + (b'x""\n,' + b"y" * 9_995) * (huge // 10_000) + b'"\n' + b"y" * huge + b"\nb\n")
    note = tmp_path / "x.txt"
    note.write_bytes(b"x" * huge)
    tracemalloc.start()
    try:
        for path, count in ((lines, 1), (sheet, 2), (note, 1)):
            assert reasons(path, limit) == ["it is longer than max_row_bytes (100,000)"] * count
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert [r.text for r in open_corpus(sheet, limit) if isinstance(r, Document)] == ["a", "b"]
    table_ = parquet(tmp_path / "x.parquet", [{"text": "x" * 100_001}, {"text": "é" * 50_000}])
    for corpus in (open_corpus(table_, limit), open_corpus(settings=limit, texts=["x" * 100_001, "é" * 50_000])):
        bad, good = corpus
        assert isinstance(bad, BadRow)
        assert isinstance(good, Document)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_limit_counts_the_row_without_its_newline(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'"1234"' + end)
    assert list(open_corpus(path, CorpusSettings(max_row_bytes=6))) == [Document("0", "1234")]
    assert reasons(path, CorpusSettings(max_row_bytes=5, on_bad_row="record")) == [
        "it is longer than max_row_bytes (5)"
    ]


def test_bad_csv_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        b'id,text\n1,"two\nlines"\n2,a,b\n3\n4,"x"y\n5,caf\xe9\n6,\n7,5" screen\n\n8,"say ""hi"""\r\n"9","end"',
    )
    records = list(open_corpus(path, RECORD))
    assert [(r.id, r.text) for r in records if isinstance(r, Document)] == [
        ("1", "two\nlines"),
        ("7", '5" screen'),
        ("8", 'say "hi"'),
        ("9", "end"),
    ]
    assert [(r.where, r.reason) for r in records if isinstance(r, BadRow)] == [
        ("x.csv line 4", "it has 3 fields where the header has 2"),
        ("x.csv line 5", "it has 1 fields where the header has 2"),
        ("x.csv line 6", "field 2 has text after its closing quote (double the quotes in a quoted field)"),
        ("x.csv line 7", "it is not UTF-8 (byte 0xe9 at byte 5)"),
        ("x.csv line 8", "its text is empty"),
    ]
    path.write_bytes(b'text\nfine\n"never closed\nand more\n')
    with pytest.raises(CorpusError, match="line 3: a quote that opens here is never closed"):
        list(open_corpus(path, RECORD))
    path.write_bytes(b"text,text\na,b\n")
    with pytest.raises(CorpusError, match="names 'text' twice; rename"):
        open_corpus(path)
    path.with_suffix(".tsv").write_bytes(b"id\ttext\n \t \n1\tx\n")
    assert len(reasons(path.with_suffix(".tsv"))) == 1


@given(st.lists(st.lists(st.text(st.sampled_from('ab,;"\n\r\t é'), max_size=8), min_size=2, max_size=2), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_reads_what_the_csv_module_writes(tmp_path: Path, cells: list[list[str]]) -> None:
    path = table(
        tmp_path / "h.csv",
        [{"n": str(i), "text": f"{a}{i}{b}"} for i, (a, b) in enumerate(cells)] or [{"n": "", "text": "x"}],
    )
    expected = [f"{a}{i}{b}" for i, (a, b) in enumerate(cells)] or ["x"]
    assert [d.text for d in open_corpus(path, CorpusSettings(text_column="text"))] == expected


@pytest.mark.parametrize("arrow_type", [pa.string(), pa.large_string()])
def test_an_invalid_arrow_string_fails_only_its_row(tmp_path: Path, arrow_type: pa.DataType) -> None:
    raw = pa.array(
        [b"fine", b"\xff", None, b"too"], pa.large_binary() if pa.types.is_large_string(arrow_type) else pa.binary()
    )
    text = pa.Array.from_buffers(arrow_type, len(raw), raw.buffers())
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": text, "title": text}), path)
    records = list(open_corpus(path, RECORD))
    assert [records[0], records[3]] == [
        Document("0", "fine", {"title": "fine"}),
        Document("3", "too", {"title": "too"}),
    ]
    assert records[1] == BadRow("1", "it is not UTF-8 (byte 0xff at byte 0)", "x.parquet row 1")
    empty = BadRow("2", "it has no text (column 'text')", "x.parquet row 2", is_empty=True, metadata={"title": None})
    assert records[2] == empty


@pytest.mark.parametrize("column", [pa.array(["a", "b"]).dictionary_encode(), pa.array(["a", "b"], pa.string_view())])
def test_other_arrow_strings(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": column}), path)
    assert [d.text for d in open_corpus(path)] == ["a", "b"]


def test_items_that_are_not_texts_are_bad_rows() -> None:
    assert reasons(None, RECORD, texts=["t", None, 3, b"x"]) == [
        "it is null, not a text",
        "it is a number, not a text",
        "it is a bytes, not a text",
    ]
    assert reasons(None, RECORD, texts=["t", "", "  ", "\ud800"])[2].startswith("it has a lone surrogate")
    assert [
        r.where for r in open_corpus([LOADED[0], LangChainDocument(page_content="")], RECORD) if isinstance(r, BadRow)
    ] == ["document 1"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 9999, mtime=0)[:-20], "truncated"),
        ("x.txt.gz", gzip.compress(b"text", mtime=0)[:-9], "truncated"),
        ("x.csv.gz", b"text\nx\n", "not valid gzip"),
        ("x.jsonl", b"", "is empty"),
        ("x.jsonl", b"\n \n", "is empty"),
        ("x.csv", b"", "is empty"),
        ("x.csv", b"text\n", "no rows"),
        ("x.csv", b"t\xff\nx\n", "header cannot be read"),
        ("x.parquet", b"PAR1 no", "not valid Parquet"),
        ("x.parquet", b"", "not valid Parquet"),
        ("x.jsonl", '{"text": "x"}'.encode("utf-16"), "UTF-16"),
        ("x.txt", "x".encode("utf-16"), "UTF-16"),
        ("x.txt", b"", "none of the 1 rows has a text"),
        ("x.json", b"[]", "is empty"),
        ("x.json", b'[{"text": "x"}', "truncated: its array has no end"),
        ("x.json", b'[{"text": "x"}] [1]', "more after the end of its array"),
        ("x.json", b'{\n "rows": []\n}', "one object a line, or an array of objects"),
        ("x.csv", gzip.compress(b"text\nx\n", mtime=0), r"is gzip, whatever its name; add \.gz"),
        ("x.csv", b"PK\x03\x04 etc", "is a zip archive.*unzip it"),
        ("x.zip", b"PK\x03\x04 etc", "unsupported format; unzip it"),
        ("x.xls", b"x", r"save it as \.xlsx or \.csv"),
        ("x.gz", gzip.compress(b"text\nx\n", mtime=0), r"such as reviews\.csv\.gz"),
        ("x.pdf", b"x", r"unsupported format; give \.jsonl"),
        ("x.xlsx", b"PK\x03\x04 etc", "not valid Excel"),
        ("x.parquet.gz", b"", "unsupported format"),
    ],
)
def test_broken_files_are_one_sentence(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message) as caught:
        list(open_corpus(path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_of_gzip(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(os.urandom(50_000).hex().encode()))
    data[5000:5100] = b"\xff" * 100
    path = tmp_path / "x.txt.gz"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match="not valid gzip"):
        list(open_corpus(path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "no regular file or folder 'nowhere.jsonl'"),
        ("a text " * 1000, "texts="),
        ("nul\0", "no regular file or folder"),
        ("/dev/null", "no regular file or folder"),
        ([], "is empty"),
        (iter(["a"]), "only once"),
        ({"a": 1}, "not a corpus"),
        ({"a"}, "not a corpus"),
        (b"x", "not a corpus"),
        (5, "not a corpus"),
        (None, "either a source"),
        ([Path("b"), 5], "mixes paths"),
        (DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS)), "give one of them: train, test"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],  # the same in every process
)
def test_other_sources_are_refused(source: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        open_corpus(source)


def test_a_data_frame_is_refused_with_the_fix() -> None:
    import pandas as pd

    frame = pd.DataFrame(ROWS)
    with pytest.raises(CorpusError, match="to_dict"):
        open_corpus(frame)
    assert list(open_corpus(frame.to_dict("records"))) == DOCS


def test_no_files_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there are no files"):
        open_corpus_files([])
    with pytest.raises(CorpusError, match="holds no files"):
        open_corpus(tmp_path)

    class Empty(BaseLoader):
        def lazy_load(self):
            yield from ()

    with pytest.raises(CorpusError, match="no rows"):
        list(open_corpus(Empty()))


def test_a_saved_dataset_dict_needs_a_split(tmp_path: Path) -> None:
    DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS)).save_to_disk(tmp_path / "d")
    with pytest.raises(CorpusError, match="test, train"):
        open_corpus(tmp_path / "d")
    assert list(open_corpus(tmp_path / "d" / "train")) == DOCS
    state = tmp_path / "d" / "train" / "state.json"
    state.write_text('{"_data_files": [{"filename": "../../secret.arrow"}]}')
    with pytest.raises(CorpusError, match="save the dataset again"):
        open_corpus(tmp_path / "d" / "train")


def test_a_selected_dataset_on_disk_keeps_its_selection(tmp_path: Path) -> None:
    Dataset.from_list([{"text": str(i)} for i in range(2000)]).select([1999, 3]).save_to_disk(tmp_path / "d")
    assert list(open_corpus(tmp_path / "d")) == [Document("0", "1999"), Document("1", "3")]


def test_the_error_of_a_loader_has_its_position() -> None:
    class Failing(BaseLoader):
        def lazy_load(self):
            yield LOADED[0]
            raise ValueError("no page")

    with pytest.raises(CorpusError, match=r"loader Failing failed at document 1 \(ValueError: no page\)"):
        list(open_corpus(Failing()))


def test_two_rows_with_one_id_are_named(tmp_path: Path) -> None:
    one = jsonl(tmp_path / "one.jsonl", {"id": 1, "text": "x"}, {"id": 2, "text": "y"})
    two = parquet(tmp_path / "two.parquet", [{"id": "3", "text": "z"}, {"id": "2", "text": ""}])
    with pytest.raises(CorpusError, match=r"two.parquet row 1 has the id '2' of one.jsonl line 2;.*--id-column"):
        list(open_corpus([one, two], RECORD))
    assert [d.id for d in open_corpus([one, two], CorpusSettings(id_column="", on_bad_row="record"))] == [
        "one.jsonl:0",
        "one.jsonl:1",
        "two.parquet:0",
        "two.parquet:1",
    ]
    with pytest.raises(CorpusError, match="the id 'a' of an earlier row"):
        materialize(iter([LOADED[0], LOADED[0]]), one.parent / "spool")


def test_a_named_id_must_exist(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"id": "a", "text": "x"}, {"text": "y"})
    assert [d.id for d in open_corpus(path)] == ["a", "x.jsonl:1"]
    assert reasons(path, CorpusSettings(id_column="id", on_bad_row="record")) == ["its id (column 'id') is missing"]


def test_the_fingerprint_follows_files_and_settings(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", *ROWS)
    before = open_corpus(path).fingerprint
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert before == open_corpus(str(path)).fingerprint
    assert before != open_corpus(path, RECORD).fingerprint
    os.utime(path, ns=(1, 1))
    assert before != open_corpus(path).fingerprint
    fingerprint = open_corpus(texts=["a", "b"]).fingerprint
    assert fingerprint == open_corpus(texts=("a", "b")).fingerprint
    assert fingerprint != open_corpus(texts=["ab"]).fingerprint


def test_materialized_records_are_the_same(tmp_path: Path) -> None:
    source = [
        *LOADED,
        LangChainDocument(page_content=" "),
        LangChainDocument(page_content="x", metadata={"s": "\ud800"}),
    ]
    path = materialize(iter(source), tmp_path / "new" / "folder", RECORD)
    stamp = path.stat().st_mtime_ns
    assert list(open_corpus(path, RECORD)) == list(open_corpus(source, RECORD))
    assert materialize(source, path.parent, RECORD) == path
    assert path.stat().st_mtime_ns == stamp
    assert [file for file in path.parent.iterdir() if file.name != ".lock"] == [path]
    empty = materialize(["", " ", "x"], tmp_path, RECORD, is_text=True)
    assert list(open_corpus(empty, RECORD)) == list(open_corpus(settings=RECORD, texts=["", " ", "x"]))


def test_concurrent_materialization_of_one_source_gives_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Barrier(8)
    monkeypatch.setattr(os, "fsync", lambda file: written.wait(20))

    def materialized(folder: Path) -> tuple[str, Path]:
        path = materialize(["one", "two"], folder, is_text=True)
        return open_corpus_files([path]).fingerprint, path

    for i in range(20):
        with ThreadPoolExecutor(8) as pool:
            results = {job.result() for job in [pool.submit(materialized, tmp_path / str(i)) for _ in range(8)]}
        assert len(results) == 1
        ((fingerprint, path),) = results
        assert open_corpus_files([path]).fingerprint == fingerprint


def test_a_failed_materialization_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="text 1: it has a lone surrogate"):
        materialize(["a", "\ud800"], tmp_path, is_text=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="cannot be written"):
        materialize(["a"], tmp_path / "file", is_text=True)


def test_a_row_that_exceeds_the_limit_as_json_is_bad(tmp_path: Path) -> None:
    small = CorpusSettings(max_row_bytes=40, on_bad_row="record")
    path = materialize(["fine", "\n" * 10 + "x" * 25], tmp_path, small, is_text=True)
    good, bad = open_corpus(path, CorpusSettings(on_bad_row="record"))
    assert good == Document("0", "fine")
    assert isinstance(bad, BadRow)
    assert "max_row_bytes (40)" in bad.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(texts, st.dictionaries(texts, json_values, max_size=3)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_documents_are_materialized_unchanged(tmp_path: Path, pairs: list[tuple[str, dict[str, Any]]]) -> None:
    pairs = [("a text", {}), *pairs]
    source = [LangChainDocument(page_content=text, metadata=metadata) for text, metadata in pairs]
    records = list(open_corpus(source, RECORD))
    assert len(records) == len(source)
    assert list(open_corpus(materialize(source, tmp_path, RECORD), RECORD)) == records
    for record, (text, metadata) in zip(records, pairs, strict=True):
        assert isinstance(record, BadRow) if not text.strip() else (record.text, record.metadata) == (text, metadata)


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b'{"text": "x"}', b'"s"', b"\xff", b'{"id": 1}']), max_size=6)
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["f.jsonl", "f.csv", "f.txt", "f.jsonl.gz", "f.parquet"])
def test_any_bytes_give_records_or_a_corpus_error(tmp_path: Path, name: str, lines: list[bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(b"\n".join(lines))
    with contextlib.suppress(CorpusError):
        for record in open_corpus(path, RECORD):
            (record.text if isinstance(record, Document) else record.reason + record.where + record.id).encode()


def test_memory_is_flat_over_many_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 15_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_text("".join(f'{{"text": "row {n} {"x" * 100}"}}\n' for n in range(count)))
        tracemalloc.start()
        assert sum(1 for _ in open_corpus(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000


def test_the_package_imports_no_heavy_dependency() -> None:
    heavy = ["torch", "transformers", "faiss", "pyarrow", "pandas", "datasets", "langchain_core", "langgraph", "scipy"]
    code = f"import sys, langchain_falconer.corpus; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


WIDE = [
    {"id": "a", "text": "Fine.", "date": "2026-01-02", "stars": 4, "tags": ["x", "y"], "by": {"name": "Ann"}},
    {"id": "b", "text": "Bad.", "date": None, "stars": 1, "tags": [], "by": {"name": ""}},
]
COLUMNS = [{name: cell for name, cell in row.items() if name not in ("id", "text")} for row in WIDE]


def metadata_of(source: Any, keep: Any = "all", **more: Any) -> list[Any]:
    return [record.metadata for record in open_corpus(source, CorpusSettings(keep=keep, **more))]


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "saved", "rows", "datasets", "langchain"])
def test_other_columns_are_kept_as_metadata_all_none_or_by_name(tmp_path: Path, name: str) -> None:
    makers = {
        "x.jsonl": lambda p: jsonl(p, *WIDE),
        "x.parquet": lambda p: parquet(p, WIDE),
        "saved": lambda p: saved(WIDE, p),
        "rows": lambda _: WIDE,
        "datasets": lambda _: Dataset.from_list(WIDE),
        "langchain": lambda _: [LangChainDocument(r["text"], metadata=m) for r, m in zip(WIDE, COLUMNS, strict=True)],
    }
    source = makers[name](tmp_path / name)
    assert metadata_of(source) == COLUMNS
    assert metadata_of(source, "none") == [{}, {}]
    assert metadata_of(source, "stars,by") == [{"stars": row["stars"], "by": row["by"]} for row in WIDE]
    assert metadata_of(source, ["date"]) == [{"date": "2026-01-02"}, {"date": None}]
    assert materialize(source, tmp_path / "home").read_bytes() == materialize(source, tmp_path / "home").read_bytes()
    assert metadata_of(materialize(source, tmp_path / "home")) == COLUMNS
    if name != "langchain":
        with pytest.raises(CorpusError, match=r"no column 'star' to keep; correct --keep"):
            open_corpus(source, CorpusSettings(keep="stars,star"))


def test_columns_of_csv_are_strings_and_an_empty_cell_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,text,zip,note,\n1,one,007,,0\n2,two,,fine,1\n", "utf-8")
    assert metadata_of(path) == [{"zip": "007", "note": None}, {"zip": None, "note": "fine"}]


def test_an_object_in_the_column_metadata_is_merged_and_no_value_is_lost_where_names_clash(tmp_path: Path) -> None:
    row = {"id": "1", "text": "t", "page": 3, "metadata": {"page": "iii", "url": "u", "deep": {"a": [None]}}}
    merged = {"page": 3, "metadata.page": "iii", "url": "u", "deep": {"a": [None]}}
    for source in (
        jsonl(tmp_path / "x.jsonl", row),
        parquet(tmp_path / "x.parquet", [row]),
        table(tmp_path / "x.csv", [{**row, "metadata": json.dumps(row["metadata"])}]),
    ):
        assert metadata_of(source) == [merged | {"page": "3" if source.suffix == ".csv" else 3}]
    assert metadata_of([row], "url") == [{"url": "u"}]
    assert metadata_of([{"text": "t", "metadata": "no object"}]) == [{"metadata": "no object"}]


def test_values_become_json_data() -> None:
    values = {
        "day": datetime.date(2026, 1, 2),
        "at": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
        "price": decimal.Decimal("9.90"),
        "whole": decimal.Decimal("7.0"),
        "long": decimal.Decimal("12345678901234567890.5"),
        "text": b"caf\xc3\xa9",
        "bytes": b"\xff\x00",
        "missing": float("nan"),
        "lone": "\ud800!",
        "key": UUID(int=5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "vector": np.array([0.5, np.inf]),
        "gone": pd.NaT,
        "none": pd.NA,
        "when": pd.Timestamp("2026-01-02"),
        "nested": [{"d": datetime.date(2026, 1, 2)}],
    }
    (record,) = open_corpus([{"review": "t", **values}], CorpusSettings(text_column="review"))
    assert isinstance(record, Document)
    assert record.metadata == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:04:00+00:00",
        "price": 9.9,
        "whole": 7,
        "long": "12345678901234567890.5",
        "text": "café",
        "bytes": "/wA=",
        "missing": None,
        "lone": "?!",
        "key": str(UUID(int=5)),
        "count": 3,
        "flag": True,
        "vector": [0.5, None],
        "gone": None,
        "none": None,
        "when": "2026-01-02T00:00:00",
        "nested": [{"d": "2026-01-02"}],
    }
    assert [type(record.metadata[name]) for name in ("whole", "count", "flag")] == [int, int, bool]
    json.dumps(record.metadata, allow_nan=False)


def test_long_values_of_other_columns_are_cut_and_say_so(tmp_path: Path) -> None:
    row = {"text": "t", "page": "é" * 10_000, "vector": [0.25] * 2_000, "data": b"\xff" * 10**6, "list": ["x"] * 200}
    path = parquet(tmp_path / "x.parquet", [row])
    (kept,) = metadata_of(path)
    assert kept["page"] == "é" * 4_095 + "…"
    assert kept["vector"].startswith("[0.25, 0.25")
    assert all(kept[name].endswith("…") and len(kept[name]) <= 4_096 for name in ("page", "vector", "data"))
    assert kept["list"] == ["x"] * 200
    assert metadata_of(materialize(path, tmp_path / "home")) == [kept]


def test_a_column_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    far = pa.array([2**60, 0], pa.timestamp("us"))
    bad = pa.array([b"fine", b"\xff"], pa.binary())
    note = pa.Array.from_buffers(pa.string(), 2, bad.buffers())
    pq.write_table(pa.table({"text": ["a", "b"], "far": far, "note": note}), tmp_path / "x.parquet")
    first, second = metadata_of(tmp_path / "x.parquet")
    assert (first["note"], second["note"]) == ("fine", "\ufffd")
    assert second["far"].startswith("1970-01-01")
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    assert reasons([{"text": "t", "deep": deep}])[0].startswith("one of its columns nests too deeply")


def test_a_named_column_may_first_appear_after_many_rows(tmp_path: Path) -> None:
    rows = [*({"id": str(i), "note": "x"} for i in range(30)), {"id": "last", "body": "t", "stars": 3}]
    settings = CorpusSettings(text_column="body", keep="stars", on_bad_row="record")
    for source in (jsonl(tmp_path / "x.jsonl", *rows), rows):
        records = list(open_corpus(source, settings))
        assert records[-1] == Document("last", "t", {"stars": 3})
        assert all(isinstance(record, BadRow) for record in records[:-1])
        with pytest.raises(CorpusError, match=r"no column 'bodi'.*--text-column.*id, note"):
            open_corpus(source, CorpusSettings(text_column="bodi"))


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        (decimal.Decimal(10**20), str(10**20)),
        (decimal.Decimal("1E+3"), "1000"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (UUID(int=5), str(UUID(int=5))),
        (True, "true"),
        (np.int64(7), "7"),
        (1.5, "1.5"),
        (b"k", "k"),
    ],
)
def test_ids_of_every_scalar_type_are_strings(cell: Any, wanted: str) -> None:
    assert [record.id for record in open_corpus([{"id": cell, "text": "t"}])] == [wanted]


def test_ids_of_a_decimal_column_are_strings(tmp_path: Path) -> None:
    ids = pa.array([1, 2]).cast(pa.decimal128(38, 0))
    pq.write_table(pa.table({"id": ids, "text": ["a", "b"]}), tmp_path / "x.parquet")
    assert [record.id for record in open_corpus(tmp_path / "x.parquet")] == ["1", "2"]


def test_the_column_that_was_taken_for_the_text_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"id": 1, "review": "t", "title": "T"})
    assert open_corpus(path).guessed_columns == ["review"]
    assert open_corpus(path, CorpusSettings(text_column="review")).guessed_columns == []
    assert open_corpus(texts=["t"]).guessed_columns == []
