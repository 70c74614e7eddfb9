"""The benchmark of an LLM's answers: scored against people, stored, and asked in the prompts that were passed."""

import json

import pytest
from loopback import ChatServer, llm_at

from langchain_falconer.benchmarks.harness import Set
from langchain_falconer.benchmarks.llm_answers import Part, run
from langchain_falconer.prompts import Prompts
from langchain_falconer.settings import AnnotateSettings


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    meta = {"instructions": {"labels": {}, "spans": {"price": "Extract prices.", "name": "Extract names."}}}
    (folder / "meta.json").write_text(json.dumps(meta))
    rows = [
        {
            "id": str(i),
            "text": f"Ann paid ${i}",
            "labels": {},
            "spans": [
                {"start": 0, "end": 3, "text": "Ann", "label": "name"},
                {"start": 9, "end": 11, "text": f"${i}", "label": "price"},
            ],
        }
        for i in range(8)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def reply(request):
    """The LLM takes the name for a price too."""
    items = json.loads(request["messages"][-1]["content"].rpartition("\nTexts: ")[2])
    return json.dumps({key: ["Ann", text.split()[-1]] for key, text in items.items()})


def test_an_llm_is_scored_step_by_step_and_paid_once(data, tmp_path):
    parts = [Part(Set("tiny", None), ("price",))]
    with ChatServer(reply) as server:
        options = {"texts": 6, "parts": parts}
        table = run(data, llm_at(server), tmp_path, settings=AnnotateSettings(), **options)
        (row,) = table["rows"]
        assert row[:5] == ["tiny", "price", "6", "F1", "0.667"]
        assert row[-2:] == ["0.50", "1.00"]
        calls = server.calls
        assert run(data, llm_at(server), tmp_path, settings=AnnotateSettings(), **options)["rows"] == [row]
        assert server.calls == calls
        run(data, llm_at(server), tmp_path, settings=AnnotateSettings(prompts=Prompts(examples=())), **options)
        assert len(server.requests[-1].json["messages"]) == 2
