"""The queries of SemBench about film reviews, on reviews whose answers are known."""

from __future__ import annotations

import csv
import itertools
import json

import pytest

from langchain_falconer.benchmarks import sembench
from langchain_falconer.benchmarks.sembench import Answer, Review, Sembench, count_error, scores_of
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import MineSettings

FILMS = ("taken_3", "ant_man_and_the_wasp_quantumania", "joker_2019")
AUDIENCE = {"taken_3": 40.0, "ant_man_and_the_wasp_quantumania": 60.0, "joker_2019": 90.0}


def reviews():
    """Thirty reviews of each film: of the first 5 are positive, of the second 10, of the third 20."""
    made = []
    for film, positive in zip(FILMS, (5, 10, 20), strict=True):
        for i in range(30):
            good = i < positive
            words = "A wonderful film, I loved it" if good else "A dull and awful film, I hated it"
            text = f"{words}, says critic {i} of {film.replace('_', ' ')}."
            made.append(Review(f"{film}-{i}", film, text, good, f"{4 + i % 2 if good else 1 + i % 2}/5"))
    return made


def answered(wrong=()):
    """The right answers, but for the reviews with these ids."""
    return [
        Answer(r, 0.9 if r.is_positive is not (r.id in wrong) else 0.1, float(r.points.split("/")[0]))
        for r in reviews()
    ]


def test_right_answers_get_the_best_scores():
    scores = scores_of(answered(), AUDIENCE)
    best = {"Q3": 0.0, "Q4": 0.0, "Q8": 0.0}
    for name, score in scores.items():
        assert score == pytest.approx(best.get(name, 1.0)), name


def test_a_wrong_label_costs_counts_and_pairs_what_it_should():
    scores = scores_of(answered(["taken_3-0", "ant_man_and_the_wasp_quantumania-29"]), AUDIENCE)
    assert scores["Q3"] == scores["Q4"] == pytest.approx(1 / 5)
    assert scores["Q8"] == pytest.approx((1 / 5 + 1 / 25) / 2)
    found, true, common = 11 * 19, 10 * 20, 10 * 19
    assert scores["Q7"] == pytest.approx(2 * common / (found + true))
    assert scores["accuracy"] == pytest.approx(88 / 90)


def test_reviews_with_the_same_id_are_no_pair():
    twins = [Answer(Review("1", FILMS[1], "a", p, ""), p, 3.0) for p in (True, False)]
    other = Answer(Review("2", FILMS[1], "b", False, ""), 0.0, 3.0)
    counted = Answer(Review("3", FILMS[0], "c", True, "5/5"), 1.0, 5.0)
    low = Answer(Review("4", FILMS[0], "d", False, "1/5"), 0.0, 1.0)
    rated = [Answer(Review(str(9 + i), FILMS[1], "e", True, f"{i}/5"), 1.0, i) for i in (4, 5)]
    assert scores_of([*twins, other, counted, low, *rated], {})["Q7"] == 1.0


@pytest.mark.parametrize(
    ("points", "score"),
    [
        ("3/5", "3"),
        ("3.5/5", "4"),
        ("0/5", "1"),
        ("2/4", "3"),
        ("9/10", "5"),
        ("B+", "4"),
        ("F", "1"),
        ("", None),
        ("Ugh", None),
        ("7/5", None),
    ],
)
def test_scores_of_critics_are_read(points, score):
    assert Review("1", "f", "t", True, points).score == score


def test_the_surest_reviews_come_first():
    answers = answered()
    wrong = next(a for a in answers if a.review.film == "taken_3" and not a.review.is_positive)
    answers[answers.index(wrong)] = Answer(wrong.review, 0.95, 1.0)
    assert scores_of(answers, AUDIENCE)["Q2"] == pytest.approx(4 / 5)
    assert count_error([a for a in answers if a.review.film == "taken_3"], 6) == pytest.approx(1 / 5)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The reviews in the layout of SemBench's repository."""
    folder = tmp_path_factory.mktemp("sembench")
    data, metrics = folder / "files/movie/data/sf_2000", folder / "files/movie/metrics/across_system_2.5flash_sf2000"
    data.mkdir(parents=True)
    metrics.mkdir(parents=True)
    names = ("id", "reviewId", "reviewText", "scoreSentiment", "originalScore")
    with (data / "Reviews.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(names)
        for r in itertools.chain(reviews(), [Review("x", "joker_2019", " ", True, "")]):
            rows.writerow([r.film, r.id, r.text, "POSITIVE" if r.is_positive else "NEGATIVE", r.points])
    with (data / "Movies.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("id", "audienceScore"), *AUDIENCE.items()])
    (metrics / "lotus.json").write_text(
        json.dumps({"Q7": {"f1_score": 0.2018}, "Q9": {"spearman_correlation": 0.0, "status": "failed"}})
    )
    return folder


def test_a_run_stands_beside_what_others_got(checkout):
    job = {"annotations": 60, "unlabelled": 0, "train": {"epochs": 3}, "run": {"backend": "onnx"}}
    table = sembench.run(Sembench(checkout, MineSettings.model_validate(job), seeds=1))
    rows = {row[0].split()[0]: row for row in table["rows"] if "corrected" not in row[0]}
    assert len(rows["Q1"]) == len(table["columns"])
    assert rows["Q7"][table["columns"].index("LOTUS")] == "0.20"
    assert rows["Q9"][table["columns"].index("LOTUS")] == "failed"
    assert rows["Q3"][table["columns"].index("BigQuery")] == ""
    (scores,) = table["scores"]["trained"]
    assert scores["accuracy"] > 0.9  # the words say it
    assert scores["Q7"] > 0.9


def test_without_the_data_it_says_what_is_missing(tmp_path):
    with pytest.raises(CorpusError, match=r"Reviews\.csv"):
        sembench.run(Sembench(tmp_path))
