"""The benchmarks of the proxy, on a folder of data sets as small as can be."""

import json
from dataclasses import replace

import pytest
from laptops import is_positive, prices, reviews

from langchain_falconer.benchmarks import Trial, proxy, training
from langchain_falconer.errors import CorpusError

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
    feeling = {"aspect_sentiment": {"prompt": "?", "classes": {"positive": "liked", "negative": "disliked"}}}
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


@pytest.mark.parametrize("part", [proxy.zero_shot, proxy.calibration, training.in_a_row])
def test_every_part_scores_the_sets_asked_for_and_no_others(part, trial):
    found = part(trial)
    named = [row[0] for row in found["rows"] if row[0] != "mean"]
    assert sorted(named) == ["semeval14_restaurants spans", "snips intent"]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    assert found["verdict"]


def test_few_labels_are_compared_with_plain_fine_tuning_on_the_same_rows(trial):
    found = proxy.few(replace(trial, sets=("semeval14_restaurants",)))
    assert [row[0] for row in found["rows"]] == ["semeval14_restaurants spans", "mean"]
    assert [len(pair) for pair in found["scores"]["semeval14_restaurants spans"]] == [2]


def test_pace_is_told_for_one_step_and_for_six_and_for_a_start_without_torch(trial):
    found = training.pace(trial)
    assert [len(r) for r in found["rounds"]] == [3]
    assert len(found["rows"]) == 3


def test_data_that_is_not_there_is_said_with_the_option_that_names_it(tmp_path):
    with pytest.raises(CorpusError, match="--data"):
        proxy.zero_shot(Trial(tmp_path))
