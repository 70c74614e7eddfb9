"""The corrected counts of a run: what they rest on, in all and by group, wherever counts are given."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from langchain_core.documents import Document
from laptops import PLAN, annotation_row, asked, is_positive, reviews, teacher, write_lines
from loopback import ChatServer, llm_at
from rich.console import Console

from langchain_falconer import Falconer, Plan
from langchain_falconer.report import RunSummary, print_summary
from langchain_falconer.settings import Targets
from langchain_falconer.tools.mining import compact
from langchain_falconer.tools.results_tool import ReadResultsTool

TEXTS = reviews(150)
DOCUMENTS = [
    Document(text, id=f"r{i}", metadata={"date": f"2026-0{1 + i % 6}-1{i % 9}", "shop": "ab"[i % 2], "number": i})
    for i, text in enumerate(TEXTS)
]
LABEL = Plan.parse({"instruction": PLAN.instruction, "steps": [PLAN.to_dict()["steps"][0]]})
TRUE = sum(map(is_positive, TEXTS))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("counts")


@pytest.fixture
def settings(settings):
    """Proxies that hardly learn, in a second: their counts are off."""
    train = settings.train.model_copy(update={"epochs": 2, "max_minutes": 1})
    return settings.model_copy(update={"annotations": 80, "held_out": 0.5, "train": train, "unlabelled": 20})


@pytest.fixture
def mined(home, settings):
    """A run of an LLM that is always right, with 80 annotations, 27 of which test."""
    with ChatServer(teacher) as server:
        return Falconer(llm_at(server), home=home, settings=settings).mine(PLAN.instruction, DOCUMENTS, plan=PLAN)


def holds(estimate, true):
    assert estimate.low <= estimate.estimate <= estimate.high
    return estimate.low <= true <= estimate.high


def test_every_count_of_a_run_has_an_estimate(mined):
    estimates, rows = mined.estimates, mined.summary.rows
    assert estimates.against == mined.summary.annotations.source
    assert estimates.texts == mined.summary.annotations.test == 27
    assert estimates.rows == 150
    assert estimates.matched.counted == rows.matched
    assert {k: e.counted for k, e in estimates.labels["positive"].items()} == rows.labels["positive"]
    spans = estimates.spans["price"]
    assert (spans.texts.counted, spans.spans.counted) == (rows.spans["price"].texts, rows.spans["price"].spans)
    assert holds(estimates.labels["positive"]["true"], TRUE)
    assert holds(estimates.labels["positive"]["false"], 150 - TRUE)
    assert holds(spans.spans, TRUE)


def test_counts_are_given_by_column_by_month_and_by_label(mined):
    groups = mined.estimates.groups
    assert set(groups) == {"date", "shop", "positive"}  # every row has another number
    assert set(groups["date"].groups) == {*(f"2026-0{month}" for month in range(1, 7))}
    shop = groups["shop"].groups["a"]
    assert shop.rows == 75
    assert shop.matched.counted + groups["shop"].groups["b"].matched.counted == mined.estimates.matched.counted
    by_label = groups["positive"].groups["true"]
    assert by_label.rows == mined.estimates.labels["positive"]["true"].counted
    assert by_label.spans["price"].texts.counted == mined.estimates.spans["price"].texts.counted
    assert groups["positive"].groups["false"].spans["price"].spans.counted == 0


def test_a_group_with_too_few_annotations_says_so(mined):
    january = mined.estimates.groups["date"].groups["2026-01"].matched  # about a sixth of 27
    assert january.estimate is None
    assert "annotate more" in january.reason


def test_the_difference_of_groups_that_could_be_shown(mined):
    shop = mined.estimates.groups["shop"]
    assert shop.detectable.groups == ("a", "b")
    assert 0 < shop.detectable.matched < 1
    assert all(group.matched.estimate is not None for group in shop.groups.values())


def test_estimates_survive_json(mined):
    data = json.loads(mined.summary.model_dump_json())
    assert data["estimates"]["matched"]["level"] == 0.95
    assert RunSummary.model_validate(data) == mined.summary


def test_the_estimates_are_the_same_when_the_run_is_repeated(mined, home, settings):
    falconer = Falconer(home=home, settings=settings)
    again = falconer.mine(PLAN.instruction, DOCUMENTS, plan=PLAN, recorded=mined.summary.annotations.source)
    assert again.estimates.matched.counted == mined.estimates.matched.counted


def test_a_persons_annotations_are_estimated_against_with_their_assumption(home, settings, tmp_path):
    write_lines(tmp_path / "labels.jsonl", map(annotation_row, TEXTS[:80]))
    falconer = Falconer(annotations=tmp_path / "labels.jsonl", home=home, settings=settings)
    estimates = falconer.mine(PLAN.instruction, DOCUMENTS, plan=PLAN).estimates
    assert estimates.against == "human"
    assert "random" in estimates.basis
    assert holds(estimates.labels["positive"]["true"], TRUE)


def test_annotations_of_other_texts_correct_nothing(home, settings, tmp_path):
    write_lines(tmp_path / "labels.jsonl", map(annotation_row, reviews(80, start=1000)))
    falconer = Falconer(annotations=tmp_path / "labels.jsonl", home=home, settings=settings)
    estimates = falconer.mine(PLAN.instruction, DOCUMENTS, plan=PLAN).estimates
    assert estimates.matched.estimate is None
    assert estimates.matched.reason


def test_where_the_llm_answered_every_text_its_counts_are_exact(tmp_path, settings):
    with ChatServer(teacher) as server:
        falconer = Falconer(llm_at(server), home=tmp_path, settings=settings)
        result = falconer.ask(PLAN, texts=TEXTS[:24])
    assert result.decision.chosen.name == "llm"
    matched = result.estimates.matched
    assert matched.counted == matched.estimate == matched.low == matched.high


def test_a_proxy_of_the_registry_without_fresh_annotations_has_a_reason(mined, home, settings):
    result = Falconer(home=home, settings=settings).ask(PLAN, texts=reviews(50, start=500))
    assert result.decision.chosen.name == "registry"
    assert result.estimates.matched.estimate is None
    assert "uniformly" in result.estimates.matched.reason


def test_with_targets_the_certified_rows_correct_the_counts(home, settings):
    own = settings.model_copy(update={"targets": Targets(agreement=0.6, annotations=60)})
    with ChatServer(teacher) as server:
        result = Falconer(llm_at(server), home=home, settings=own).mine(PLAN.instruction, DOCUMENTS, plan=PLAN)
    assert "certificates" in result.estimates.basis
    assert holds(result.estimates.labels["positive"]["true"], TRUE)


def test_a_persons_uniform_corrections_are_estimated_against(mined, home, settings, tmp_path):
    """The LLM calls every review positive; a person corrects the held-out ones."""
    with ChatServer(lambda request: json.dumps(dict.fromkeys(asked(request), True))) as server:
        falconer = Falconer(llm_at(server), home=tmp_path, settings=settings)
        first = falconer.mine(LABEL.instruction, DOCUMENTS, plan=LABEL)
        rows = [json.loads(line) for line in Path(first.summary.annotations.review).read_text("utf-8").splitlines()]
        for row in rows:
            row["labels"]["positive"] = is_positive(row["text"])
        write_lines(tmp_path / "edited.jsonl", rows)
        falconer = Falconer(llm_at(server), home=tmp_path, settings=settings, corrections=tmp_path / "edited.jsonl")
        second = falconer.mine(LABEL.instruction, DOCUMENTS, plan=LABEL)
    positive = first.estimates.labels["positive"]["true"]
    assert positive.low > TRUE  # what the LLM would have counted
    assert second.estimates.against == "a person"
    assert holds(second.estimates.labels["positive"]["true"], TRUE)


def test_long_texts_have_estimates_of_spans_and_a_reason_for_labels(tmp_path, settings):
    texts = [" ".join(TEXTS[i : i + 5]) for i in range(0, 150, 5)]
    own = settings.model_copy(update={"passage_chars": 100})
    with ChatServer(teacher) as server:
        result = Falconer(llm_at(server), home=tmp_path, settings=own).mine(PLAN.instruction, texts=texts, plan=PLAN)
    assert result.estimates.labels["positive"]["true"].estimate is None
    assert "passage" in result.estimates.labels["positive"]["true"].reason
    assert result.estimates.spans["price"].spans.estimate is not None


def test_agents_read_corrected_counts(home, settings):
    with ChatServer(teacher) as server:
        falconer = Falconer(llm_at(server), home=home / "agents", settings=settings)
        result = falconer.ask(PLAN, DOCUMENTS)
    assert result.decision.chosen.name == "train"
    compacted = compact(result)
    matched = compacted["matched_estimate"]
    assert matched["counted"] == result.summary.rows.matched
    assert matched["low"] <= matched["estimate"] <= matched["high"]
    assert compacted["steps"]["positive"]["estimates"]["true"]["low"] >= 0
    reader = ReadResultsTool(falconer=falconer)

    def read(**request):
        return json.loads(reader.invoke({"result": result.result, **request}))

    assert "estimate" not in read()
    assert read(only_matches=True)["estimate"] == matched
    only_true = read(step="positive", value=True)
    assert only_true["estimate"]["counted"] == only_true["rows"]
    assert read(step="price")["estimate"]["counted"] == read(step="price")["rows"]
    filtered = read(only_matches=True, contains="laptop")
    assert filtered["estimate"]["estimate"] is None
    by_label = read(count_by="positive")["values"]
    assert all(value["estimate"]["counted"] == value["count"] for value in by_label)


def test_corrected_counts_stand_in_the_summary_and_in_the_report(mined, tmp_path):
    console = Console(file=io.StringIO(), width=120)
    print_summary(mined.summary, console)
    shown = console.file.getvalue()
    html = mined.report(tmp_path / "report.html").read_text("utf-8")
    for text in (shown, html):
        assert str(round(mined.estimates.matched.estimate)) in text
        assert "test" in mined.estimates.basis or "uniform" in text
    assert "By <bdi>shop</bdi>" in html


def test_a_report_says_why_counts_are_not_corrected(mined, home, settings, tmp_path):
    result = Falconer(home=home, settings=settings).ask(PLAN, texts=reviews(50, start=500))
    assert result.estimates.reason in result.report(tmp_path / "report.html").read_text("utf-8")
