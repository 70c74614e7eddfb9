"""Shares and trends from the tools: by month, source, column and step, with intervals, and the rows of each number."""

import json
from collections import Counter, defaultdict

import pytest
from laptops import PLAN, STEPS, is_positive, reviews, teacher
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer, FalconerToolkit
from langchain_falconer.tools import MAX_TOKENS

QUESTION = PLAN["positive"].instruction
MONTHS = [f"2026-{i:02}" for i in range(1, 7)]


def is_bad(i):
    return i % (2 if i % 6 < 3 else 4) == 0


DOCUMENTS = [
    {
        "text": reviews(1, start=3 * i + (not is_bad(i)))[0],
        "date": f"{MONTHS[i % 6]}-03T10:00:00",
        "stars": i % 5 + 1,
        "shop/~name": f"s{i % 2}",
        "url": f"https://shop{i % 3}.example",
    }
    for i in range(600)
]


@pytest.fixture(scope="module")
def toolkit(tiny_bert, tmp_path_factory):
    """A toolkit on a corpus of six months, whose proxy was trained on a scripted LLM's answers."""
    from langchain_falconer.settings import MineSettings

    run, train = {"backend": "onnx", "shard_texts": 100}, {"epochs": 10, "learning_rate": 5e-3}
    settings = MineSettings.model_validate(
        {
            "base": tiny_bert,
            "annotations": 300,
            "held_out": 0.6,
            "train": train,
            "run": run,
        }
    )
    with ChatServer(teacher) as server:
        falconer = Falconer(llm_at(server), home=tmp_path_factory.mktemp("groups"), settings=settings)
        falconer.add_documents("shop", DOCUMENTS)
        falconer.ask(PLAN, falconer.corpus("shop"))
        yield FalconerToolkit(falconer)


@pytest.fixture(scope="module")
def tools(toolkit):
    return {tool.name: tool for tool in toolkit.get_tools()}


def answer(tool, **arguments):
    message = tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})
    assert message.status == "success", message.content
    assert len(message.content.encode()) / 3 <= MAX_TOKENS
    return json.loads(message.content)


@pytest.fixture(scope="module")
def result(toolkit):
    falconer = toolkit.falconer
    return falconer.ask(PLAN, falconer.corpus("shop")).result


@pytest.fixture
def read(tools, result):
    return lambda **arguments: answer(tools["read_results"], result=result, **arguments)


def truth(key):
    """Texts, and positive ones among them, by the value of a column."""
    counts = defaultdict(Counter)
    for one in {document["text"]: document for document in reversed(DOCUMENTS)}.values():
        counts[key(one)].update(["rows", *["positive"] * is_positive(one["text"])])
    return {group: (counted["rows"], counted["positive"]) for group, counted in counts.items()}


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("month", lambda one: one["date"][:7]),
        ("date", lambda one: one["date"][:7]),
        ("stars", lambda one: str(one["stars"])),
        ("source", lambda one: one["url"]),
        ("shop/~name", lambda one: one["shop/~name"]),
    ],
)
@pytest.mark.parametrize("measure", [{"only_matches": True}, {"step": "positive", "value": "yes"}, {"step": "price"}])
def test_shares_by_group_have_intervals_and_the_arguments_of_their_rows(by, key, measure, read):
    groups = read(count_by=by, **measure)
    expected = truth(key)
    assert groups["distinct"] == len(groups["values"]) == len(expected)
    for group in groups["values"]:
        rows, positive = expected[group["value"]]
        assert group["rows"] == rows
        share = group["share"]
        assert share["counted"] == pytest.approx(group["count"] / rows, abs=1e-3)
        assert share["low"] <= positive / rows <= share["high"]
        assert read(**group["read"])["rows"] == group["count"], "the arguments give the rows"
    quoted = [group["example"] for group in groups["values"] if "example" in group]
    assert len(quoted) == min(3, sum(group["count"] > 0 for group in groups["values"]))
    for group in [group for group in groups["values"] if "example" in group][:1]:
        assert group["example"]["id"] in {row["id"] for row in read(**group["read"], limit=50)["page"]}
    if by in ("month", "date", "stars"):
        assert [group["value"] for group in groups["values"]] == sorted(expected)
    if by == "month":
        assert groups["count_by"] == "date"


def test_a_trend_is_one_call(tools):
    trend = answer(tools["get_label"], corpus="shop", instruction=QUESTION, by="month")
    (groups,) = trend["groups"]
    assert groups["of"] == {"step": "label", "value": True}
    assert [group["value"] for group in groups["values"]] == MONTHS
    assert sum(group["count"] for group in groups["values"]) == trend["steps"]["label"]["counts"]["true"]
    rows = answer(tools["read_results"], result=trend["result"], **groups["values"][0]["read"])
    assert rows["rows"] == groups["values"][0]["count"]
    mined = answer(tools["mine_corpus"], corpus="shop", instruction=PLAN.instruction, by="stars")
    assert mined["matched_share"]["low"] <= mined["matched_share"]["estimate"] <= mined["matched_share"]["high"]
    assert [group["value"] for group in mined["groups"][0]["values"]] == ["1", "2", "3", "4", "5"]
    spans = answer(tools["get_span"], corpus="shop", instruction=STEPS[1]["instruction"], by="source")
    assert {group["value"] for group in spans["groups"][0]["values"]} == {one["url"] for one in DOCUMENTS}


def test_an_answer_that_cannot_be_compared_is_given_all_the_same(tools):
    compared = answer(tools["get_label"], corpus="shop", instruction=QUESTION, by="nothing")
    assert compared["steps"]["label"]["counts"]
    assert any("no column 'nothing'" in message and "stars" in message for message in compared["messages"])


def test_labels_and_texts_are_counted_within_a_filter(read):
    labels = read(count_by="positive", where={"stars": 5})
    rows = labels["rows"]
    assert {one["value"] for one in labels["values"]} == {"true", "false"}
    assert sum(one["count"] for one in labels["values"]) == rows
    for one in labels["values"]:
        assert one["rows"] == rows
        assert one["share"]["low"] <= one["share"]["estimate"] <= one["share"]["high"]
        assert read(**one["read"])["rows"] == one["count"]
    prices = read(count_by="price", limit=4)
    assert len(prices["values"]) == prices["next_offset"] == 4
    for one in prices["values"]:
        assert read(**one["read"])["rows"] >= 1


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ({"stars": 5}, lambda one: one["stars"] == 5),
        ({"stars": "5"}, lambda one: one["stars"] == 5),
        ({"month": "2026-02"}, lambda one: one["date"].startswith("2026-02")),
        ({"date": "2026-02-03T10:00:00"}, lambda one: one["date"].startswith("2026-02")),
        ({"url": "https://shop1.example", "stars": 1}, lambda one: one["stars"] == 1 and "shop1" in one["url"]),
        ('{"stars": 2}', lambda one: one["stars"] == 2),
        ({"stars": "5' OR 1=1 --"}, lambda one: False),
    ],
)
def test_rows_are_filtered_by_columns(where, key, read):
    expected = {one["text"] for one in DOCUMENTS if key(one)}
    assert read(where=where)["rows"] == len(expected)


def test_rows_and_groups_are_ordered(read):
    least_certain = read(step="positive", order_by="score", limit=9)
    assert len(least_certain["page"]) == 9
    whole = [read(row=row["id"])["row"] for row in read(order_by="stars", limit=3)["page"]]
    assert {row["metadata"]["stars"] for row in whole} == {5}
    shares = read(count_by="month", only_matches=True, order_by="share")["values"]
    counted = [group["share"]["counted"] for group in shares]
    assert counted == sorted(counted, reverse=True)
