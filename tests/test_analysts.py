"""An analyst with a table: rows C1 to C9 of the trials (input and output), from files as they are to spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile

import pandas as pd
import pytest
from langchain_core.documents import Document as LangChainDocument
from laptops import PLAN, annotation_row, reviews, teacher, write_lines, write_plan
from loopback import ChatServer
from openpyxl import Workbook, load_workbook
from test_cli import falconer, refused  # noqa: F401 (a fixture)

from langchain_falconer import Falconer, Plan, Proxy, read_annotations
from langchain_falconer.corpus import BadRow, open_corpus
from langchain_falconer.errors import AnnotationError, CorpusError, PlanError
from langchain_falconer.execute import FlatTable
from langchain_falconer.settings import CorpusSettings, MineSettings

HEADER = ["id", "date", "stars", "product", "review", "stars", ""]
GOOD, BAD = "I love it, a café’s bargain – at $999 and $5.", "=1+1 is as bad as this laptop."


def sheet_rows(*texts: str | None) -> list[list[str | None]]:
    return [[str(i), f"2026-01-{i + 1:02d}", str(i % 5), 'A "pro", x', text, "x", ""] for i, text in enumerate(texts)]


def csv_bytes(rows: list[list[str | None]], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([HEADER, *rows])
    return out.getvalue().encode(encoding)


@pytest.fixture
def predict(falconer, proxy_folder, tmp_path):  # noqa: F811
    """``falconer predict`` with a proxy that was trained on laptop reviews."""

    def run(corpus, output, *more):
        return falconer("predict", proxy_folder, corpus, "-o", output, "--home", tmp_path / "home", *more)

    return run


# ---- what is read


def test_a_messy_table_is_read_and_every_column_comes_back(predict, tmp_path):
    (tmp_path / "c.csv").write_bytes(csv_bytes(sheet_rows(GOOD, "", BAD, "  "), ";", "cp1252"))
    assert refused(predict(tmp_path / "c.csv", tmp_path / "o.csv"), "--encoding cp1252", "line 2")
    done = predict(tmp_path / "c.csv", tmp_path / "o.csv", "--encoding", "cp1252")
    assert done.code == 0
    out = done.out.replace("\n", " ")
    assert "2 have no text" in out
    assert "column review" in out
    rows = list(csv.DictReader((tmp_path / "o.csv").open(encoding="utf-8", newline="")))
    assert [row["text"] for row in rows] == [GOOD, "", BAD, ""]
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert {(row["date"][:7], row["product"], row["stars.2"]) for row in rows} == {("2026-01", 'A "pro", x', "x")}
    assert [bool(row["error"]) for row in rows] == [False, True, False, True]
    assert all(row["positive"] in ("true", "false") for row in rows if row["text"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_guessed_or_named(delimiter, tmp_path):
    (tmp_path / "c.csv").write_bytes(csv_bytes(sheet_rows("a", "b"), delimiter))
    assert [row.text for row in open_corpus(tmp_path / "c.csv")] == ["a", "b"]
    named = CorpusSettings(delimiter="tab" if delimiter == "\t" else delimiter)
    assert [row.text for row in open_corpus(tmp_path / "c.csv", named)] == ["a", "b"]


def test_a_wrong_delimiter_names_the_option(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"text\na;b,c\n")
    with pytest.raises(CorpusError, match=r"2 fields where the header has 1.*--delimiter"):
        list(open_corpus(tmp_path / "c.csv", CorpusSettings(delimiter=",")))
    with pytest.raises(ValueError, match="no delimiter"):
        CorpusSettings(delimiter=";;")


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "latin-1", "shift_jis"])
def test_other_encodings(encoding, tmp_path):
    text = "日本語の文" if encoding == "shift_jis" else "café £5"
    (tmp_path / "c.csv").write_bytes(f"text\n{text}\n".encode(encoding))
    assert [row.text for row in open_corpus(tmp_path / "c.csv", CorpusSettings(encoding=encoding))] == [text]
    with pytest.raises(CorpusError, match="--encoding"):
        list(open_corpus(tmp_path / "c.csv"))
    with pytest.raises(CorpusError, match=r"not in the encoding ascii.*--encoding"):
        list(open_corpus(tmp_path / "c.csv", CorpusSettings(encoding="ascii")))


def test_a_repeated_name_in_the_header_matters_only_for_the_text_and_the_id(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"id,text,n,n,n\n1,t,a,b,c\n")
    assert [row.metadata for row in open_corpus(tmp_path / "c.csv")] == [{"n": "a", "n.2": "b", "n.3": "c"}]
    (tmp_path / "c.csv").write_bytes(b"id,id,text\n1,2,t\n")
    with pytest.raises(CorpusError, match=r"the header names 'id' twice; rename.*--id-column"):
        open_corpus(tmp_path / "c.csv")


def test_duplicate_ids_name_the_fix(predict, tmp_path):
    (tmp_path / "c.csv").write_bytes(b"id,text\n1,a\n1,b\n")
    assert refused(predict(tmp_path / "c.csv", tmp_path / "o.csv"), "line 3 has the id '1'", "--id-column ''")
    assert predict(tmp_path / "c.csv", tmp_path / "o.csv", "--id-column", "").code == 0


@pytest.mark.parametrize("indent", [None, 2])
def test_json_arrays_are_streamed_with_their_strings_whole(indent, tmp_path):
    texts = ['braces ]}{[, "quotes", \\ and \\"', "x" * 70_000, "日本" * 20_000, "\\"]
    rows = [{"text": text, "n": [{"a": [1, text[:3]]}]} for text in texts]
    path = tmp_path / "c.json"
    path.write_text(json.dumps([*rows, 5, "bare"], indent=indent, ensure_ascii=False), "utf-8")
    *read, number, bare = open_corpus(path, CorpusSettings(on_bad_row="record"))
    assert [(row.text, row.metadata) for row in read] == [(row["text"], {"n": row["n"]}) for row in rows]
    assert isinstance(number, BadRow)
    assert (number.where, bare.text) == ("c.json item 5", "bare")
    small = CorpusSettings(on_bad_row="record", max_row_bytes=100_000)
    assert [isinstance(row, BadRow) for row in open_corpus(path, small)] == [False, False, True, False, True, False]


def test_a_path_into_a_column_is_a_column(tmp_path):
    rows = [{"id": i, "data": {"text": f"t{i}", "by": {"name": "A"}}, "n": 1} for i in range(3)]
    rows.insert(1, {"id": 9, "data": {"by": {"name": "B"}}, "n": 1})
    write_lines(tmp_path / "c.jsonl", rows)
    for source in (tmp_path / "c.jsonl", rows):
        read = list(open_corpus(source, CorpusSettings(text_column="data.text")))
        assert [row.text for row in read if not isinstance(row, BadRow)] == ["t0", "t1", "t2"]
        assert read[0].metadata == {"data": {"by": {"name": "A"}}, "n": 1}
        assert [row.id for row in read if isinstance(row, BadRow)] == ["9"]
        settings = CorpusSettings(text_column="data.text", id_column="data.text", keep="data.by.name")
        assert next(iter(open_corpus(source, settings))).metadata == {"data.by.name": "A"}
        with pytest.raises(
            CorpusError, match=r"--text-column \(text_column=\), or one inside it as COLUMN\.NAME: .*data"
        ):
            open_corpus([{"a": 1, "data": {"text": "t"}}])


@pytest.mark.parametrize("source", ["file", "rows", "documents", "table"])
def test_a_wrong_name_to_keep_is_refused_where_rows_have_nested_metadata_too(source, tmp_path):
    rows = [{"text": "t", "metadata": {"stars": 3}}, {"text": "u", "metadata": {"day": "Monday"}}]
    read = {
        "file": write_lines(tmp_path / "c.jsonl", rows),
        "rows": rows,
        "documents": [LangChainDocument(page_content=row["text"], metadata=row["metadata"]) for row in rows],
        "table": tmp_path / "c.parquet",
    }[source]
    pd.DataFrame({**row, "metadata": json.dumps(row["metadata"])} for row in rows).to_parquet(tmp_path / "c.parquet")
    kept = [row.metadata for row in open_corpus(read, CorpusSettings(keep="stars,day"))]
    assert kept == [{"stars": 3}, {"day": "Monday"}]
    with pytest.raises(CorpusError, match="no column 'stras' to keep"):
        open_corpus(read, CorpusSettings(keep="stras"))


def test_the_column_that_the_user_names_is_believed_wherever_it_first_appears(predict, tmp_path):
    rows = [*({"id": i, "note": "x"} for i in range(25)), {"id": 25, "note": "x", "body": "I love it"}]
    write_lines(tmp_path / "c.jsonl", rows)
    done = predict(tmp_path / "c.jsonl", tmp_path / "o.jsonl", "--text-column", "body", "--json")
    assert done.code == 0
    assert (done.json["rows"]["total"], done.json["rows"]["failed"], done.json["rows"]["empty"]) == (26, 25, 25)
    assert refused(predict(tmp_path / "c.jsonl", tmp_path / "o.jsonl", "--text-column", "bodi"), "no column 'bodi'")


@pytest.mark.parametrize("amount", ["$1,299.99", "€1.299,00", "£2,000", "USD 450.50"])
def test_untrained_amounts_are_whole(amount):
    steps = [{"id": "price", "op": "get_span", "instruction": "Extract the price"}]
    (row,) = Proxy.zero_shot(Plan.parse({"instruction": "Prices", "steps": steps})).run([f"I paid {amount} for it."])
    assert [span.text for span in row.spans["price"]] == [amount]


def test_a_question_counts_rows_without_a_text(tmp_path, monkeypatch):
    rows = [{"id": str(i), "text": text, "stars": i} for i, text in enumerate(reviews(12))]
    rows[5]["text"], rows[7]["text"] = None, float("nan")
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    with ChatServer(teacher) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        answer = Falconer("openai:loopback", home=tmp_path).ask(PLAN, rows)
    assert (answer.summary.rows.total, answer.summary.rows.failed, answer.summary.rows.empty) == (12, 2, 2)
    empty = [row for row in answer.rows() if "error" in row]
    assert [(row["id"], row["text"], row["metadata"]["stars"]) for row in empty] == [("5", "", 5), ("7", "", 7)]


def test_excel_is_read(tmp_path):
    book = Workbook()
    for row in ([None, None], HEADER, *sheet_rows(GOOD, None, "three"), [3, None, 5, None, 42]):
        book.active.append(row)
    book.save(tmp_path / "c.xlsx")
    read = list(open_corpus(tmp_path / "c.xlsx"))
    assert [(row.id, row.text) for row in read if not isinstance(row, BadRow)] == [
        ("0", GOOD),
        ("2", "three"),
        ("3", "42"),
    ]
    assert read[0].metadata == {"date": "2026-01-01", "stars": "0", "product": 'A "pro", x', "stars.2": "x"}
    assert read[3].metadata["stars"] == 5
    assert (read[1].where, read[1].is_empty) == ("c.xlsx row 4", True)
    book = Workbook()
    book.save(tmp_path / "empty.xlsx")
    with pytest.raises(CorpusError, match=r"first sheet.*is empty"):
        open_corpus(tmp_path / "empty.xlsx")
    (tmp_path / "no.xlsx").write_bytes(b"PK")
    with pytest.raises(CorpusError, match="not valid Excel"):
        open_corpus(tmp_path / "no.xlsx")


def test_excel_names_its_extra(monkeypatch, tmp_path, predict):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "c.xlsx").write_bytes(b"PK")
    said = r"pip install 'langchain-falconer\[excel\]'"
    with pytest.raises(CorpusError, match=said):
        open_corpus(tmp_path / "c.xlsx")
    write_lines(tmp_path / "c.jsonl", [{"text": "t"}])
    assert refused(predict(tmp_path / "c.jsonl", tmp_path / "o.xlsx"), "langchain-falconer[excel]")


def test_archives_say_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.csv", "w") as archive:
        archive.writestr("c.csv", "text\nx\n")
    with pytest.raises(CorpusError, match=r"zip archive.*unzip it"):
        open_corpus(tmp_path / "c.csv")


# ---- what is written

NESTED = Plan.parse(
    {
        "instruction": "Prices, their currencies, and topics",
        "steps": [
            {"id": "match", "op": "get_label", "instruction": "Is it good?"},
            {"id": "topics", "op": "get_label", "instruction": "What is it about?", "labels": ["price", "size"],
             "multi_label": True},
            {"id": "offer", "op": "get_span", "instruction": "Extract the offers"},
            {"id": "dear", "op": "get_label", "instruction": "Is it dear?", "of": "offer"},
            {"id": "amount", "op": "get_span", "instruction": "Extract the amount", "of": "offer"},
        ],
    }
)  # fmt: skip


def span(text, start, score, **inner):
    return {"start": start, "end": start + len(text), "text": text, "score": score, **inner}


ROWS = [
    {
        "id": "a", "text": "Now $5 or $7!", "metadata": {"offer": "own", "tags": ["x", "y"], "n": 3, "deep": {"k": 1}},
        "labels": {"match": {"value": True, "score": 0.9}, "topics": {"value": ["price", "size"], "score": 0.8}},
        "spans": {"offer": [
            span("Now $5", 0, 0.7, labels={"dear": {"value": False, "score": 0.6}},
                 spans={"amount": [span("$5", 4, 0.5)]}),
            span("$7", 10, 0.4, labels={"dear": {"value": True, "score": 0.3}}, spans={"amount": []}),
        ]},
        "match": True, "decided_by": {"match": "proxy", "topics": "llm", "offer": "proxy"},
    },
    {"id": "b", "text": "None.", "labels": {"match": {"value": False, "score": 1.0}}, "spans": {"offer": []},
     "match": False, "decided_by": {"match": "proxy", "offer": "proxy"}, "uncertain": True},
    {"id": "c", "error": "it failed"},
]  # fmt: skip


def test_flat_rows_of_texts():
    table = FlatTable(NESTED, ROWS)
    first, second, third = [dict(zip(table.columns, *table.flatten(row), strict=True)) for row in ROWS]
    assert first == {
        "id": "a", "text": "Now $5 or $7!", "match": True,
        "steps.match": True, "steps.match.score": 0.9, "steps.match.decided_by": "proxy",
        "topics": "price; size", "topics.score": 0.8, "topics.decided_by": "llm",
        "offer": "Now $5; $7", "offer.score": 0.4, "offer.decided_by": "proxy",
        "dear": "false; true", "dear.score": 0.3, "amount": "$5", "amount.score": 0.5,
        "metadata.offer": "own", "tags": "x; y", "n": 3, "deep": '{"k": 1}', "uncertain": None, "error": None,
    }  # fmt: skip
    assert (second["offer"], second["offer.score"], second["topics"], second["uncertain"]) == ("", None, None, True)
    assert (third["text"], third["match"], third["error"]) == (None, None, "it failed")


def test_flat_rows_of_spans():
    table = FlatTable(NESTED, ROWS, "span")
    rows = [dict(zip(table.columns, cells, strict=True)) for row in ROWS for cells in table.flatten(row)]
    assert [(row["id"], row["step"], row["span"], row["start"], row["end"], row["score"]) for row in rows] == [
        ("a", "offer", "Now $5", 0, 6, 0.7),
        ("a", "amount", "$5", 4, 6, 0.5),
        ("a", "offer", "$7", 10, 12, 0.4),
    ]
    assert [row["dear"] for row in rows] == [False, None, True]
    assert {(row["steps.match"], row["topics"], row["match"], row["offer"], row["n"]) for row in rows} == {
        (True, "price; size", True, "own", 3)
    }


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", 'He said "=1"\nand left, $5', "\x07 bell"]


def test_what_begins_like_a_formula_is_text_in_excel_and_itself_in_csv(predict, tmp_path):
    write_lines(tmp_path / "c.jsonl", [{"id": t, "text": f"{t} love it", "=own": t} for t in FORMULAS])
    assert predict(tmp_path / "c.jsonl", tmp_path / "o.csv").code == 0
    read = list(csv.DictReader((tmp_path / "o.csv").open(encoding="utf-8", newline="")))
    assert [(row["id"], row["text"], row["=own"]) for row in read] == [(t, f"{t} love it", t) for t in FORMULAS]
    assert predict(tmp_path / "c.jsonl", tmp_path / "o.xlsx").code == 0
    header, *cells = load_workbook(tmp_path / "o.xlsx").active.iter_rows()
    assert {cell.data_type for row in cells for cell in row if isinstance(cell.value, str)} == {"s"}
    at = [cell.value for cell in header].index("=own")
    assert [row[at].value for row in cells] == [t.replace("\x07", "\ufffd") for t in FORMULAS]
    assert header[at].data_type == "s"
    assert [row.text for row in open_corpus(tmp_path / "o.xlsx")][:4] == [f"{t} love it" for t in FORMULAS[:4]]


def test_one_row_a_span(predict, tmp_path):
    write_lines(tmp_path / "c.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(reviews(12))])
    assert predict(tmp_path / "c.jsonl", tmp_path / "o.jsonl").code == 0
    assert predict(tmp_path / "c.jsonl", tmp_path / "s.csv", "--row-unit", "span").code == 0
    exact = [
        (row["id"], str(one["start"]), one["text"])
        for row in map(json.loads, (tmp_path / "o.jsonl").read_text("utf-8").splitlines())
        for one in row["spans"].get("price", [])
    ]
    rows = list(csv.DictReader((tmp_path / "s.csv").open(encoding="utf-8", newline="")))
    assert [(row["id"], row["start"], row["span"]) for row in rows] == exact
    assert len(exact) > 3
    outcome = predict(tmp_path / "c.jsonl", tmp_path / "x.jsonl", "--row-unit", "span")
    assert refused(outcome, ".csv and .xlsx", "--row-unit")


@pytest.mark.parametrize("command", ["predict", "mine"])
def test_an_unknown_output_is_refused_before_anything_is_loaded(command, falconer, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("langchain_falconer.model.Proxy.load", lambda *_: pytest.fail("a proxy was loaded"))
    monkeypatch.setattr("langchain_falconer.llm.LLM.__init__", lambda *_: pytest.fail("an LLM was set up"))
    more = ["--llm", "openai:x"] if command == "mine" else []
    outcome = falconer(command, "x", tmp_path / "nowhere.csv", "-o", tmp_path / "o.pdf", *more)
    assert refused(outcome, "must end in .jsonl, .parquet, .duckdb, .csv, .xlsx")


def test_mining_into_a_spreadsheet_keeps_the_rows_for_report_and_frames(tmp_path, tiny_bert):
    write_lines(tmp_path / "c.jsonl", [{"id": str(i), "text": t, "stars": i % 5} for i, t in enumerate(reviews(60))])
    labels = write_lines(tmp_path / "labels.jsonl", map(annotation_row, reviews(40)))
    settings = MineSettings.model_validate({"base": tiny_bert, "run": {"backend": "onnx"}})
    mined = Falconer(annotations=labels, home=tmp_path / "home", settings=settings).mine(
        "x", tmp_path / "c.jsonl", tmp_path / "o.csv", plan=PLAN
    )
    assert mined.output == tmp_path / "o.csv"
    assert [row["text"] for row in mined.rows()] == reviews(60)
    frame, written = mined.to_pandas(), pd.read_csv(tmp_path / "o.csv", dtype={"id": str})
    assert list(frame) == list(written)
    assert frame["positive"].tolist() == written["positive"].tolist()
    assert frame["stars"].tolist() == [i % 5 for i in range(60)]
    assert not any(isinstance(cell, dict | list) for cell in frame.to_numpy().ravel())
    spans = mined.to_pandas(spans=True)
    assert all(row.text[row.start : row.end] == row.span for row in spans.itertuples())
    assert "<html" in mined.report(tmp_path / "r.html").read_text("utf-8")


# ---- pipes


class Piped:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b'{"text": "I love it"}\n{"text": "Awful"}\n', []),
        (b'\n[{"text": "I love it"},\n {"text": "Awful"}]', []),
        (b"text;n\nI love it;1\nAwful;2\n", ["--format", "csv"]),
        (b"I love it\n\nAwful\n", ["--format", "lines"]),
        ("I love it\nAwful\n".encode("utf-16"), ["--format", "lines", "--encoding", "utf-16"]),
    ],
)
def test_from_stdin_to_stdout(data, options, predict, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Piped(data))
    done = predict("-", "-", *options)
    assert done.code == 0
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["I love it", "Awful"]


def test_mining_from_stdin_to_stdout(falconer, monkeypatch, tmp_path, tiny_bert):  # noqa: F811
    labels = write_lines(tmp_path / "labels.jsonl", map(annotation_row, reviews(40)))
    texts = reviews(30, 100)
    monkeypatch.setattr(sys, "stdin", Piped("\n".join(json.dumps({"text": text}) for text in texts).encode()))
    done = falconer("mine", "x", "-", "-o", "-", "--plan", write_plan(tmp_path / "plan.json"), "--annotations", labels,
                    "--home", tmp_path / "home", "--base", tiny_bert, "--backend", "onnx")  # fmt: skip
    assert done.code == 0
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == texts
    assert "Rows matched" in done.err


def test_what_cannot_be_piped_is_refused(predict, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", Piped(b"text\nx\n"))
    assert refused(predict("-", "-"), "stdin is not JSON", "--format", code=2)
    write_lines(tmp_path / "c.jsonl", [{"text": "t"}])
    assert refused(predict(tmp_path / "c.jsonl", "-", "--json"), "--json", "-o", code=2)
    monkeypatch.setattr(Piped, "isatty", lambda self: True)
    assert refused(predict("-", "-"), "nothing is piped")


# ---- from Python

WRONG_TEXTS = {
    "one string": ("I love it", "texts is one string; pass a list of texts"),
    "None": (None, "texts is None; pass a list of strings"),
    "a number": (5, "texts is a int"),
    "bytes": (b"x", "texts is a bytes"),
    "a document": (LangChainDocument(page_content="x"), "texts is a Document"),
    "documents": (
        [LangChainDocument(page_content="x")],
        r"texts\[0\] is a Document, not a string; pass its page_content",
    ),
    "a missing text": (["x", None], r"texts\[1\] is None, not a string"),
    "a lone surrogate": (["x", "a\ud83d"], r"texts\[1\] has a lone surrogate \(U\+D83D at character 1\)"),
}


@pytest.mark.parametrize(("texts", "said"), WRONG_TEXTS.values(), ids=WRONG_TEXTS)
def test_wrong_texts_are_one_sentence_wherever_texts_are_passed(texts, said, proxy, tmp_path):
    for call in (proxy.run, proxy.answers, proxy.confidence, lambda t: proxy.get_label(t, "Good?")):
        with pytest.raises(CorpusError, match=said) as caught:
            call(texts)
        assert "\n" not in str(caught.value)
    with pytest.raises(CorpusError, match=said):
        proxy.get_span(texts, "Extract the price")
    if isinstance(texts, str | bytes | int):
        with pytest.raises(CorpusError, match=said):
            Falconer(home=tmp_path).mine("x", texts=texts, plan=PLAN)


def test_every_iterable_of_texts_is_taken(proxy):
    texts = ["I love it", "Awful"]
    wanted = proxy.run(texts)
    assert proxy.run(text for text in texts) == wanted
    assert proxy.run(tuple(texts)) == proxy.run(pd.Series(texts)) == wanted
    assert proxy.get_label(iter(texts), "Is this a positive review?") == [row.labels["positive"] for row in wanted]
    with pytest.raises(PlanError, match="labels is one string"):
        proxy.get_label(texts, "Which?", "good")


# ---- labels from annotation tools

TOOL_PLAN = Plan.parse(
    {
        "instruction": "Prices and topics",
        "steps": [
            {"id": "positive", "op": "get_label", "instruction": "Is it positive?"},
            {"id": "topics", "op": "get_label", "instruction": "Topics?", "labels": ["screen", "battery life"],
             "multi_label": True},
            {"id": "kind", "op": "get_label", "instruction": "Kind?", "labels": ["review", "question"]},
            {"id": "price", "op": "get_span", "instruction": "Extract the price"},
            {"id": "maker", "op": "get_span", "instruction": "Extract the maker"},
        ],
    }
)  # fmt: skip
TEXT, OTHER = "👍 Acme laptop for $999.", "No."
STUDIO = {
    "id": 7, "data": {"text": TEXT}, "predictions": [{"result": [{"value": {"choices": ["wrong"]}}]}],
    "annotations": [
        {"was_cancelled": True, "result": [{"value": {"choices": ["wrong"]}}]},
        {"result": [
            {"from_name": "label", "to_name": "text", "type": "labels",
             "value": {"start": 19, "end": 23, "text": "$999", "labels": ["PRICE"]}},
            {"from_name": "positive", "type": "choices", "value": {"choices": ["Yes"]}},
            {"from_name": "topics", "type": "choices", "value": {"choices": ["Battery Life", "Screen"]}},
        ]},
    ],
}  # fmt: skip
TOOL_FILES = {
    "doccano spans": (
        [{"id": 1, "text": TEXT, "label": [[18, 22, "Price"]], "Comments": []}, {"text": OTHER, "label": []}],
        [({}, {"price": ["$999"]}), ({}, {"price": []})],
    ),
    "doccano spans and classes in one file": (
        [
            {"text": TEXT, "label": [[18, 22, "price"]]},
            {"text": TEXT, "label": ["positive"]},
            {"text": OTHER, "label": []},
        ],
        [({"positive": True}, {"price": ["$999"]}), ({"positive": False}, {"price": []})],
    ),
    "doccano relations": (
        [{"text": TEXT, "entities": [{"label": "maker", "start_offset": 2, "end_offset": 6}], "relations": []}],
        [({}, {"maker": ["Acme"]})],
    ),
    "doccano classes": (
        [{"text": TEXT, "label": ["Positive", "battery-life"]}, {"text": OTHER, "label": ["review"]}],
        [
            ({"positive": True, "topics": ("battery life",)}, {}),
            ({"positive": False, "topics": (), "kind": "review"}, {}),
        ],
    ),
    "Label Studio": (
        [STUDIO],
        [({"positive": True, "topics": ("battery life", "screen")}, {"price": ["$999"]})],
    ),
    "Label Studio JSON-MIN": (
        [
            {"id": 7, "annotator": 1, "text": TEXT, "kind": "Question", "positive": "no",
             "ner": [{"start": 2, "end": 6, "text": "Acme", "labels": ["Maker"]}]},
            {"id": 8, "annotator": 1, "text": OTHER, "topics": {"choices": ["screen"]}},
        ],
        [
            ({"kind": "question", "positive": False, "topics": ()}, {"maker": ["Acme"]}),
            ({"positive": False, "topics": ("screen",)}, {"maker": []}),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize(("rows", "expected"), TOOL_FILES.values(), ids=TOOL_FILES)
def test_exports_of_annotation_tools_are_annotations(rows, expected, as_array, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(rows) if as_array else "\n".join(map(json.dumps, rows)), "utf-8")
    read = [one.answers for one in read_annotations(path, TOOL_PLAN)]
    assert [
        (
            {step: label.value for step, label in one.labels.items()},
            {step: [span.text for span in spans] for step, spans in one.spans.items()},
        )
        for one in read
    ] == expected


WRONG_EXPORTS = {
    "a span of no step": (
        {"text": TEXT, "label": [[2, 6, "ORG"]]},
        "'ORG' is the id of no span step.*'maker'",
    ),
    "a label of no step": ({"text": TEXT, "label": ["negative"]}, "'negative' is an answer to no label step"),
    "two of a choice": ({"text": TEXT, "label": ["review", "question"]}, "step 'kind' has two labels"),
    "another text": (
        {"text": TEXT, "annotator": 1, "n": [{"start": 0, "end": 2, "text": "Acme", "labels": ["maker"]}]},
        "the text has .* at",
    ),
}


@pytest.mark.parametrize(("row", "said"), WRONG_EXPORTS.values(), ids=WRONG_EXPORTS)
def test_what_an_export_says_that_the_plan_does_not_ask_is_one_sentence(row, said, tmp_path):
    with pytest.raises(AnnotationError, match=said) as caught:
        read_annotations(write_lines(tmp_path / "labels.jsonl", [row]), TOOL_PLAN)
    assert caught.value.row == 1
