"""The benchmarks of the proxy, on a folder of data sets as small as can be."""

import gzip
import json
import shutil
from dataclasses import replace

import pytest
from laptops import asked, is_positive, prices, reviews
from loopback import ChatServer, llm_at

from langchain_falconer.benchmarks import (
    Trial,
    agent_costs,
    continual,
    joint_targets,
    later_rounds,
    noisy_labels,
    proxy_quality,
    rare_labels,
    zero_shot,
)
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import TrainSettings

MOODS = {"good": "the review is positive", "bad": "the review is negative"}
TOPICS = ("food", "service")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Laptop reviews that call themselves voice commands and restaurant sentences."""
    folder = tmp_path_factory.mktemp("data")
    mood = {"prompt": "How is the review?", "classes": MOODS}
    write(
        folder / "snips", {"labels": {"intent": mood}, "spans": {}}, {"intent": lambda t: sorted(MOODS)[is_positive(t)]}
    )
    aspect = {"aspect": "Extract the price."}
    topics = {"prompt": "What is it about?", "classes": {name: name for name in TOPICS}}
    feeling = {
        "category": topics,
        "aspect_sentiment": {"prompt": "?", "classes": {"positive": "liked", "negative": "disliked"}},
    }
    told = {
        "aspect_sentiment": lambda t: "positive" if is_positive(t) else "negative",
        "category": lambda t: [TOPICS[is_positive(t)]],
    }
    write(folder / "semeval14_restaurants", {"labels": feeling, "spans": aspect}, told)
    return folder


def write(folder, instructions, labels):
    folder.mkdir()
    (folder / "meta.json").write_text(json.dumps({"name": folder.name, "instructions": instructions}))
    for part, start in (("train", 0), ("test", 500)):
        rows = []
        for text in reviews(40, start=start):
            at = [(text.index(p), text.index(p) + len(p)) for p in prices(text)]
            spans = [{"start": a, "end": b, "text": text[a:b], "label": "aspect"} for a, b in at]
            rows.append({"text": text, "labels": {k: of(text) for k, of in labels.items()}, "spans": spans})
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture
def trial(data, tiny_bert):
    told = []
    yield Trial(data, tiny_bert, 24, 1, ("snips", "semeval14_restaurants"), lambda *a, **scores: told.append(scores))
    assert told


@pytest.mark.parametrize(
    "part",
    [
        proxy_quality.calibration,
        noisy_labels.noisy_labels_scores,
        continual.continual_learning,
    ],
)
def test_every_part_scores_the_sets_asked_for_and_no_others(part, trial):
    found = part(trial)
    named = [row[0] for row in found["rows"] if row[0] != "mean"]
    assert sorted(named) == ["semeval14_restaurants spans", "snips intent"]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    assert found["verdict"]


def test_zero_shot_scores_every_dataset_and_says_which_of_them_the_recipe_contained(data, tiny_bert, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_bert, base)
    (base / "recipe.json").write_text(json.dumps({"sources": {"snips/intent": 40}}))
    found = zero_shot.zero_shot(Trial(data, str(base)))
    assert {row[0]: row[1] for row in found["rows"]} == {
        "semeval14_restaurants spans": "no",
        "semeval14_restaurants aspect_sentiment": "no",
        "snips intent": "yes",
    }
    assert [bool(row[4]) for row in found["rows"]] == [False, True, True]
    assert "2 tasks" in found["verdict"]


def test_few_labels_are_compared_with_two_baselines_on_the_same_rows(trial):
    found = proxy_quality.few(replace(trial, sets=("snips",)))
    assert [row[0] for row in found["rows"]] == ["snips intent", "mean"]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    (scores,) = found["scores"]["snips intent"]
    assert scores.linear > 0.5
    row = dict(zip(found["columns"], found["rows"][0], strict=True))
    assert row["worst draw"] == f"{scores.falconer:.3f}"
    margin = scores.falconer - max(scores.plain, scores.linear)
    assert row["over the better baseline, worst draw"] == f"{margin:+.3f}"


def test_pace_is_told_for_one_step_and_for_six_and_for_a_start_without_torch(trial):
    found = continual.pace(trial)
    assert [len(r) for r in found["rounds"]] == [3]
    assert len(found["rows"]) == 3


def reader(request):
    """Answers every question about a text rightly, and always reads the same number."""
    schema = json.dumps(request.get("response_format", {}))
    if '"count"' in schema:
        return json.dumps({"count": 20})
    told = {key: sorted(MOODS)[is_positive(text)] for key, text in asked(request).items()}
    return json.dumps({key: [TOPICS[mood == "good"]] if TOPICS[0] in schema else mood for key, mood in told.items()})


@pytest.mark.parametrize("name", ["snips", "semeval14_restaurants"])
def test_counts_by_reading_by_the_llm_and_by_falconer_cost_what_they_cost_once(name, data, tiny_bert, tmp_path):
    with ChatServer(reader) as server:
        counting = agent_costs.Counting(data, llm_at(server), tmp_path, 24, 20, sets=(name,), base=tiny_bert)
        found = agent_costs.run(counting)
        paid = server.calls
        again = agent_costs.run(counting)
        assert server.calls == paid
    ways = {row[1]: dict(zip(found["columns"], row, strict=True)) for row in found["rows"]}
    assert list(ways) == ["agent that reads", "LLM on every text (projected)", "Falconer", "Falconer, untrained"]
    true = sum(map(is_positive, (*reviews(40), *reviews(40, start=500))))
    off = sorted(abs(20 - n) / n for n in (true, 80 - true))
    assert ways["agent that reads"]["worst"] == f"{off[1]:.0%}"
    assert ways["agent that reads"]["tokens"] == "30"  # two counts
    every = ways["LLM on every text (projected)"]
    assert (every["tokens"], every["worst"], every["rows right"]) == ("1,200", "0%", "1.000")
    assert ways["Falconer"]["tokens"] == "360"
    assert float(ways["Falconer"]["rows right"]) > 0.6
    assert ways["Falconer, untrained"]["tokens"] == "0"
    assert [row[:2] for row in again["rows"]] == [row[:2] for row in found["rows"]]


def test_clauses_are_counted_in_passages_of_contracts(tmp_path):
    held = "This Agreement shall be governed by the laws of Ohio, whatever else may be said of it anywhere. "
    text = "\n\n".join([held * 4, "The parties met in spring and liked each other well enough to go on. " * 6])
    span = {"start": 0, "end": len(held), "text": held, "label": "Governing Law"}
    (tmp_path / "cuad").mkdir()
    (tmp_path / "cuad" / "meta.json").write_text("{}")
    for part in ("train", "test"):
        rows = [
            {"text": f"{part}\n\n{text}", "spans": [{**span, "start": len(part) + 2, "end": len(part) + 2 + len(held)}]}
        ]
        (tmp_path / "cuad" / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = agent_costs.clauses(tmp_path)
    assert sorted(map(sorted, corpus.gold)) == [["Governing Law"], ["Governing Law"], ["none of these"]]
    for passage, gold in zip(corpus.texts, corpus.gold, strict=True):
        assert ("laws of Ohio" in passage) == (gold == {"Governing Law"})


def test_data_that_is_not_there_is_said_with_the_option_that_names_it(tmp_path):
    with pytest.raises(CorpusError, match="--data"):
        zero_shot.zero_shot(Trial(tmp_path))


def test_rare_texts_are_planted_and_found_with_candidates_and_without(tmp_path, tiny_bert):
    write_set = {"text": "", "labels": {"spam": "spam"}, "spans": []}
    (tmp_path / "sms_spam").mkdir()
    spam = [f"win free money {i} now, call the number" for i in range(30)]
    lines = [json.dumps({**write_set, "text": text}) for text in spam]
    (tmp_path / "sms_spam" / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "short_posts").mkdir()
    with gzip.open(tmp_path / "short_posts" / "corpus.jsonl.gz", "wt") as out:
        out.writelines(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(reviews(380)))
    quick = rare_labels.MineSettings.model_validate(
        {"base": tiny_bert, "annotations": 90, "unlabelled": 0, "train": {"epochs": 2}, "run": {"backend": "onnx"}}
    )
    settings = {"texts": 400, "share": 0.05, "kinds": ("sms_spam",), "settings": quick}
    scores = []
    planting = rare_labels.Planting(tmp_path, tmp_path / "home", **settings)
    table = rare_labels.run(planting, lambda name, seed, **found: scores.append(found))
    assert [row[2] for row in table["rows"]] == ["index", "uniform"]
    assert all(0 <= found["recall"] <= 1 for found in scores)
    index, uniform = (int(row[3]) for row in table["rows"])
    assert 0 < uniform <= 20
    assert index >= uniform


def test_one_budget_for_two_targets_withholds_no_more_texts_than_a_split(data):
    table = joint_targets.run(data, draws=3, certify=30)
    assert len(table["rows"]) == 3
    assert all(float(joint) <= float(split) for _, split, joint, *_ in table["rows"])
    assert table["verdict"] == "never more texts than a split"


def test_a_second_round_of_doubtful_texts_is_compared_with_uniform_ones(trial):
    found = later_rounds.second_round(replace(trial, rows=10, sets=("snips",)), TrainSettings(epochs=2.0))
    ((name, *figures),) = found["rows"]
    assert name == "snips intent"
    assert len(figures) == len(found["columns"]) - 1
    (scores,) = found["scores"][name]
    assert figures[3] == f"{scores['doubtful'] - scores['uniform']:+.3f}"
