"""A person's own annotations: read, refused with the line and the fix, stored, written."""

import gzip
import json

import pytest

from langchain_falconer.annotate import (
    AnnotationStore,
    read_annotations,
    store_annotations,
    stored_annotations,
    write_annotations,
)
from langchain_falconer.errors import AnnotationError
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Record, Span

PLAN = Plan.parse(
    {
        "instruction": "aspects of positive reviews",
        "steps": [
            {"id": "positive", "op": "get_label", "instruction": "Is it positive?"},
            {
                "id": "topic",
                "op": "get_label",
                "instruction": "What is it about?",
                "labels": ["food", "place"],
                "multi_label": True,
            },
            {"id": "food", "op": "get_span", "instruction": "Extract the food"},
            {
                "id": "price",
                "op": "get_span",
                "instruction": "Extract the price",
                "where": {"step": "positive", "equals": True},
            },
            {"id": "mood", "op": "get_label", "instruction": "Mood of {span}", "labels": ["good", "bad"], "of": "food"},
            {"id": "reason", "op": "get_span", "instruction": "Why is {span} so?", "of": "food"},
        ],
    }
)
TEXT = "Great 🍣 sushi for $5"
SUSHI = [8, 13]


@pytest.fixture
def read(tmp_path):
    def read(*rows, plan=PLAN, name="mine.jsonl"):
        path = tmp_path / name
        lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
        data = b"\n".join(lines)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return read_annotations(path, plan)

    return read


def plain(annotation):
    labels = {name: label.value for name, label in annotation.answers.labels.items()}
    return labels, {name: [(s.start, s.end) for s in spans] for name, spans in annotation.answers.spans.items()}


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_the_contract(read, name):
    row = {"text": TEXT, "labels": {"positive": True, "topic": ["food"]}, "spans": {"food": [SUSHI]}}
    (annotation,) = read(row, name=name)
    assert annotation.source == "human"
    assert annotation.text == TEXT
    assert annotation.answers.spans["food"] == (Span(8, 13, "sushi"),)
    assert plain(annotation) == ({"positive": True, "topic": ("food",)}, {"food": [(8, 13)], "price": []})


@pytest.mark.parametrize(
    ("row", "spans"),
    [
        ({"labels": {"positive": True}}, {}),
        ({"labels": {"positive": True}, "spans": None}, {}),
        ({"labels": {"positive": True}, "spans": {}}, {"food": [], "price": []}),
        ({"labels": {"positive": False}, "spans": {}}, {"food": []}),
        ({"spans": {}}, {"food": []}),
        ({"labels": {"positive": None}, "spans": {"food": None, "price": [[18, 20]]}}, {"price": [(18, 20)]}),
    ],
)
def test_absent_answers(read, row, spans):
    assert plain(read({"text": TEXT, **row})[0])[1] == spans


def test_a_result_row_corrected_by_a_person_can_be_read(read):
    sushi = Span(8, 13, "sushi", 0.7, {"mood": Label("good", 0.6)}, {"reason": (Span(0, 5, "Great", 0.5),)})
    spans = {"food": (sushi,), "price": (Span(18, 20, "$5", 0.9),)}
    record = Record("7", TEXT, {"positive": Label(True, 0.8)}, spans, True, {"positive": "llm"})
    (annotation,) = read(record.to_dict())
    (food,) = annotation.answers.spans["food"]
    assert food == Span(8, 13, "sushi", 1.0, {"mood": Label("good")}, {"reason": (Span(0, 5, "Great"),)})
    assert annotation.answers.labels == {"positive": Label(True)}


def test_of_steps_inside_a_span_follow_the_same_rule_of_absence(read):
    entries = [{"start": 0, "end": 5, "spans": {}}, {"start": 8, "end": 13, "labels": {"mood": "good"}}, [18, 20]]
    (annotation,) = read({"text": TEXT, "spans": {"food": entries}})
    assert [dict(span.spans) for span in annotation.answers.spans["food"]] == [{"reason": ()}, {}, {}]
    assert [list(span.labels) for span in annotation.answers.spans["food"]] == [[], ["mood"], []]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "a list, neither a JSON object nor a string"),
        ("text", 'has no "text"'),
        ({"labels": {}}, 'has no "text"'),
        ({"text": 3}, 'has no "text"'),
        ({"labels": []}, '"labels" is not an object'),
        ({"spans": [[0, 1]]}, '"spans" is not an object'),
        ({"labels": {"postive": True}}, "step 'postive' is not in the plan"),
        ({"labels": {"price": True}}, "step 'price' is a get_span step; put its answer under \"spans\""),
        ({"spans": {"positive": []}}, "step 'positive' is a get_label step"),
        ({"labels": {"mood": "good"}}, "inside the spans of 'food'"),
        ({"spans": {"food": [{"start": 0, "end": 1, "labels": {"positive": True}}]}}, "on the row itself"),
        ({"labels": {"positive": "yes"}}, "step 'positive' cannot answer \"yes\"; it answers true or false"),
        ({"labels": {"positive": 1}}, "cannot answer 1"),
        ({"labels": {"topic": "food"}}, "it answers a list of 'food', 'place'"),
        ({"labels": {"topic": ["food", "food"]}}, "cannot answer"),
        ({"labels": {"topic": [["food"]]}}, "cannot answer"),
        ({"spans": {"food": "sushi"}}, "not a list of spans"),
        ({"spans": {"food": [[0]]}}, "is not a span; write"),
        ({"spans": {"food": [[0, True]]}}, "is not a span; write"),
        ({"spans": {"food": [{"start": 0}]}}, "is not a span; write"),
        ({"spans": {"food": [[3, 3]]}}, r"\[3, 3\] is not a span of this text"),
        ({"spans": {"food": [[-1, 3]]}}, r"\[-1, 3\] is not a span of this text"),
        ({"spans": {"food": [[0, 21]]}}, "20 characters"),
        ({"spans": {"food": [[4, 9], [0, 5]]}}, r"spans \[0, 5\] and \[4, 9\] overlap"),
        ({"spans": {"food": [{"start": 9, "end": 14, "text": "sushi"}]}}, 'has "ushi " at'),
        (b'{"text": "a"', "it is not JSON .* at column 13"),
        (b'{"text": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "it is JSON that cannot be read"),
    ],
)
def test_invalid_rows_are_refused_with_their_place(read, row, message):
    if isinstance(row, dict) and row != {"labels": {}}:
        row = {"text": TEXT, **row}
    with pytest.raises(AnnotationError, match=message) as error:
        read({"text": "fine"}, b"", row)
    assert "mine.jsonl, line 3" in str(error.value)
    assert "\n" not in str(error.value)
    assert (error.value.path.name, error.value.row) == ("mine.jsonl", 3)


def test_rows_of_one_text_are_merged_unless_they_disagree(read):
    first, second = {"text": TEXT, "labels": {"positive": True}}, {"text": TEXT, "spans": {"food": [SUSHI]}}
    (annotation,) = read(first, second, first)
    assert plain(annotation) == ({"positive": True}, {"food": [(8, 13)]})
    with pytest.raises(AnnotationError, match=r"line 3: step 'positive' .* in .*line 1; keep one") as error:
        read(first, {"text": "other"}, {"text": TEXT, "labels": {"positive": False}})
    assert (error.value.row, error.value.step) == (3, "positive")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(AnnotationError, match=r"none\.jsonl cannot be read: No such file"):
        read_annotations(tmp_path / "none.jsonl", PLAN)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_annotations(tmp_path, PLAN)
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(AnnotationError, match="holds no annotations"):
        read_annotations(tmp_path / "empty.jsonl", PLAN)
    whole = gzip.compress(b'{"text": "a"}\n' * 1000)
    for name, data, fault in (
        ("fake.jsonl.gz", b"plain", "is not valid gzip"),
        ("cut.jsonl.gz", whole[:30], "is truncated"),
        ("bad.jsonl.gz", whole[:20] + b"\xff" * 20, "is truncated"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AnnotationError, match=f"{name} {fault}"):
            read_annotations(tmp_path / name, PLAN)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(read):
    assert [a.text for a in read(b'\xef\xbb\xbf{"text": "a"}\r', b'{"text": "b"}\r')] == ["a", "b"]


ROWS = [
    {
        "text": TEXT,
        "labels": {"positive": True, "topic": ["place", "food"]},
        "spans": {
            "food": [{"start": 8, "end": 13, "labels": {"mood": "bad"}, "spans": {"reason": [[0, 5]]}}, [14, 17]],
            "price": None,
        },
    },
    {"text": "no 🍣\r\nhere", "labels": {"positive": False}, "spans": {}},
    b'{"text": "a lone surrogate: \\ud800", "labels": {"positive": true}}',
    {"text": "odd", "spans": {"price": [[0, 3]], "food": [{"start": 0, "end": 3, "spans": {}}]}},
]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_written_annotations_read_back_the_same(read, tmp_path, name):
    annotations = read(*ROWS)
    assert write_annotations(tmp_path / "sub" / name, PLAN, annotations) == 4
    assert read_annotations(tmp_path / "sub" / name, PLAN) == annotations
    assert [p.name for p in (tmp_path / "sub").iterdir()] == [name]


def test_a_failed_write_raises_and_leaves_the_old_file(read, tmp_path):
    annotations = read(*ROWS)

    def broken():
        yield annotations[0]
        raise RuntimeError

    out = tmp_path / "out.jsonl"
    out.write_text("before")
    with pytest.raises(RuntimeError):
        write_annotations(out, PLAN, broken())
    assert out.read_text() == "before"
    with pytest.raises(AnnotationError, match="cannot be written"):
        write_annotations(out / "inside.jsonl", PLAN, annotations)


def test_the_store_returns_a_persons_annotations_and_accepts_corrections(read, tmp_path):
    annotations = read(*ROWS)
    texts = [annotation.text for annotation in annotations]
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        store_annotations(store, PLAN, annotations)
        assert stored_annotations(store, PLAN, texts, "human") == annotations
        assert stored_annotations(store, PLAN, texts, "other") == []
        corrected = read({"text": TEXT, "labels": {"positive": False}})
        store_annotations(store, PLAN, corrected)
        assert stored_annotations(store, PLAN, texts, "human") == [*corrected, *annotations[1:]]


def test_only_the_steps_that_file_and_plan_share_may_be_read(tmp_path):
    rows = [
        {"text": "I paid $5", "labels": {"positive": True, "of another plan": "x"}, "spans": {"elsewhere": [[0, 1]]}},
        {"text": "It broke", "labels": {"of another plan": "y"}},
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(AnnotationError, match="step 'of another plan' is not in the plan"):
        read_annotations(file, PLAN)
    one, other = read_annotations(file, PLAN, shared_only=True)
    assert one.answers == Answers({"positive": Label(True)})  # prices were not annotated
    assert other.answers == Answers()
