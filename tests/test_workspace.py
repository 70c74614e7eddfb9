"""Named corpora that grow: no text is lost or repeated, even with concurrent writers."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from laptops import reviews, write_corpus

from langchain_falconer import Falconer
from langchain_falconer.corpus import Workspace, open_corpus_files, stored_settings
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings

PAGES = [
    Document("Prices rose.", metadata={"source": "herald", "url": "https://h.example/1", "title": "Prices"}),
    Document("Rents fell.", id="own-7", metadata={"source": "herald"}),
    Document("Prices rose.", metadata={"source": "copycat"}),
]


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def texts(corpus):
    return [document.text for document in corpus]


def test_documents_are_added_once_with_their_origin(workspace):
    added = workspace.add("news", PAGES)
    assert (added.added, added.duplicates, added.unreadable, added.documents) == (2, 1, 0, 2)
    again = workspace.add("news", [*PAGES, Document("Wages stood still.", metadata={"url": "https://w.example"})])
    assert (again.added, again.duplicates, again.documents) == (1, 3, 3)
    corpus = workspace.corpus("news")
    assert texts(corpus) == ["Prices rose.", "Rents fell.", "Wages stood still."]
    first, second, third = corpus
    assert first.metadata == PAGES[0].metadata
    assert second.metadata == {"id": "own-7", "source": "herald"}
    assert third.metadata["url"] == "https://w.example"
    assert corpus.sources == {"herald": 2, "https://w.example": 1}
    assert len({d.id for d in corpus}) == 3


def test_files_are_sources_and_unreadable_rows_are_counted_with_reasons(workspace, tmp_path):
    write_corpus(tmp_path / "a.jsonl", reviews(5))
    (tmp_path / "b.csv").write_text("id,text\n1,fine\n2,\n", "utf-8")
    added = workspace.add("mixed", [tmp_path / "a.jsonl", tmp_path / "b.csv"])
    assert (added.added, added.unreadable) == (6, 1)
    assert "b.csv line 3" in added.reasons[0]
    assert workspace.corpus("mixed").sources == {"a.jsonl": 5, "b.csv": 1}
    assert next(iter(workspace.corpus("mixed"))).metadata == {"id": "r0", "source": "a.jsonl"}


def test_a_stored_corpus_keeps_other_columns_and_the_id_whose_name_clashes(workspace, tmp_path):
    row = {"key": "k1", "id": "own", "text": "one", "stars": 4}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), "utf-8")
    workspace.add("news", tmp_path / "a.jsonl", CorpusSettings(id_column="key"))
    (document,) = workspace.corpus("news")
    assert document.metadata == {"id": "k1", "metadata.id": "own", "stars": 4, "source": "a.jsonl"}
    workspace.add("none", tmp_path / "a.jsonl", CorpusSettings(keep="none"))
    assert next(iter(workspace.corpus("none"))).metadata == {"id": "own", "source": "a.jsonl"}


def test_a_stored_corpus_is_listed_and_keeps_its_fingerprint_until_it_grows(workspace):
    workspace.add("b", ["one"], is_text=True)
    workspace.add("a", ["one", "two"], is_text=True)
    assert [(c.name, c.documents) for c in workspace.corpora()] == [("a", 2), ("b", 1)]
    before = workspace.corpus("a").fingerprint
    workspace.add("a", ["two"], is_text=True)
    assert workspace.corpus("a").fingerprint == before
    workspace.add("a", ["three"], is_text=True)
    assert workspace.corpus("a").fingerprint != before
    assert len(workspace.corpus("a").partitions) == 2


def test_the_partial_file_of_a_killed_writer_is_ignored(workspace):
    workspace.add("news", ["one"], is_text=True)
    (workspace.folder / "news" / "000002.jsonl").write_text('{"id": "x", "text": "half a l', "utf-8")
    assert texts(workspace.corpus("news")) == ["one"]
    workspace.add("news", ["two"], is_text=True)
    assert texts(workspace.corpus("news")) == ["one", "two"]


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc", "a/b", "A", "a b", "a\n", "x" * 65, "é", "-a", ".hidden"])
def test_a_name_is_never_a_path(workspace, name):
    with pytest.raises(CorpusError, match="corpus name"):
        workspace.add(name, ["one"], is_text=True)
    with pytest.raises(CorpusError, match="corpus name"):
        workspace.corpus(name)
    assert not workspace.folder.exists()


def test_the_error_of_an_unknown_corpus_lists_the_corpora(workspace):
    workspace.add("news", ["one"], is_text=True)
    with pytest.raises(CorpusError, match=r"no corpus 'nws'; choose one of: news"):
        workspace.corpus("nws")
    with pytest.raises(CorpusError, match="empty; give at least one text"):
        workspace.add("none", iter(()))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8), min_size=1, max_size=4))
def test_any_texts_come_back_once_and_in_order(tmp_path_factory, batches):
    workspace = Workspace(tmp_path_factory.mktemp("any"))
    for batch in batches:
        added = workspace.add("any", batch, is_text=True)
        assert added.added + added.duplicates + added.unreadable == len(batch)
    readable = [t for batch in batches for t in batch if t.encode("utf-8", "replace").decode() == t]
    if readable:
        assert texts(workspace.corpus("any")) == list(dict.fromkeys(readable))


WRITER = """
import sys
from pathlib import Path
from langchain_falconer.corpus import Workspace
me = int(sys.argv[2])
for i in range(15):
    Workspace(Path(sys.argv[1])).add("shared", [f"common {i}", f"own {me} {i}"], is_text=True)
"""


def test_concurrent_writers_lose_and_repeat_nothing(workspace):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(workspace.folder), str(me)]) for me in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    stored = texts(workspace.corpus("shared"))
    own = {f"own {me} {i}" for me in range(3) for i in range(15)}
    assert sorted(stored) == sorted(own | {f"common {i}" for i in range(15)})


def test_the_parts_are_plain_json_lines(workspace):
    workspace.add("news", PAGES)
    (path,) = workspace.corpus("news").paths
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert rows[0]["metadata"]["title"] == "Prices"
    assert texts(open_corpus_files([path], stored_settings())) == ["Prices rose.", "Rents fell."]


def test_the_facade_adds_lists_and_finds(tmp_path):
    falconer = Falconer(home=tmp_path)
    falconer.add_documents("news", PAGES)
    assert [c.describe()["documents"] for c in falconer.list_corpora()] == [2]
    assert falconer.corpus("news").documents == 2
