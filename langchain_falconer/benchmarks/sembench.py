"""SemBench, movies (arXiv 2511.01716): the ten queries about 2,000 film reviews, answered from two labels a review.

Other engines ask an LLM about pairs of reviews; here pairs of equal or opposite sentiment follow from the labels.
Scores are those of SemBench's evaluator; the results of other engines are those that its repository stores.
"""

from __future__ import annotations

import csv
import itertools
import json
import random
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from langchain_falconer.benchmarks.human_labels import data_file
from langchain_falconer.benchmarks.table import BenchmarkTable
from langchain_falconer.evaluate import Estimate
from langchain_falconer.falconer import Falconer, ProgressCallback
from langchain_falconer.llm import LLM
from langchain_falconer.model import Proxy
from langchain_falconer.plan import LabelOption, LabelStep, Plan
from langchain_falconer.records import Label, ResultRow
from langchain_falconer.settings import MineSettings

_COUNTED, _PAIRED = "taken_3", "ant_man_and_the_wasp_quantumania"
"""The films of Q2 to Q4 and Q8, and of Q5 to Q7 and Q9."""
_RUBRIC = {
    "5": "very positive: high satisfaction",
    "4": "positive: general satisfaction",
    "3": "neutral: no clear positive or negative sentiment, or a factual description",
    "2": "negative: some dissatisfaction, without strong anger or frustration",
    "1": "very negative: high dissatisfaction, frustration or anger",
}
PLAN = Plan(
    instruction="Which film reviews are positive, and how much did the reviewer like the film?",
    steps=(
        LabelStep(id="positive", instruction="Is this a positive review of the film?"),
        LabelStep(
            id="score",
            instruction="How much did the reviewer like the film, from 1 to 5?",
            labels=tuple(LabelOption(name=name, description=text) for name, text in _RUBRIC.items()),
        ),
    ),
)
"""The words are those of SemBench's queries and of the rubric that its engines are given."""
_QUERIES = {
    "Q1": ("5 positive", "F1"),
    "Q2": ("5 of one film", "F1"),
    "Q3": ("positive of one film", "error"),
    "Q4": ("their share", "error"),
    "Q5": ("10 equal pairs", "F1"),
    "Q6": ("10 opposite pairs", "F1"),
    "Q7": ("all opposite pairs", "F1"),
    "Q8": ("both counts", "error"),
    "Q9": ("score of reviews", "Spearman"),
    "Q10": ("score of films", "Spearman"),
}
"""What each query is about, and its measure; an error is relative to the true figure."""
_STORED_KEYS = {"F1": "f1_score", "error": "relative_error", "Spearman": "spearman_correlation"}
_ENGINES = {"lotus": "LOTUS", "palimpzest": "Palimpzest", "thalamusdb": "ThalamusDB", "bigquery": "BigQuery"}
_STORED = "across_system_2.5flash_sf2000"
_Stored = Mapping[str, Mapping[str, str | float]]
_GRADES = {"A": 5, "B": 4, "C": 3, "D": 2, "F": 1}
_FRACTION = re.compile(r"(\d+(?:\.\d+)?)/(\d+)")

_JOB = MineSettings(annotations=256)


@dataclass(frozen=True)
class Review:
    """A review with what people know of it.

    Attributes:
        id: Its id.
        film: Id of the film.
        text: Its text.
        is_positive: Whether the critic liked the film.
        points: The critic's score as it is written, such as ``3/5`` or ``B+``; may be empty.
    """

    id: str
    film: str
    text: str
    is_positive: bool
    points: str

    @property
    def score(self) -> str | None:
        """The critic's score from 1 to 5; ``None`` where there is none."""
        if match := _FRACTION.fullmatch(self.points):
            share = float(match[1]) / float(match[2]) if float(match[2]) else 2.0
            return str(min(5, max(1, int(5 * share + 0.5)))) if share <= 1 else None
        grade = _GRADES.get(self.points[:1].upper()) if self.points[1:] in ("", "+", "-") else None
        return None if grade is None else str(grade)


@dataclass(frozen=True)
class Answer:
    """What is answered about a review.

    Attributes:
        review: The review.
        p_positive: Probability that it is positive.
        score: Score from 1 to 5; reviews of equal score are ordered by ``p_positive``.
    """

    review: Review
    p_positive: float
    score: float

    @property
    def is_positive(self) -> bool:
        """Whether it is answered to be positive."""
        return self.p_positive >= 0.5

    @classmethod
    def of(cls, review: Review, positive: Label, score: Label) -> Answer:
        """Read the labels of a review."""
        p = positive.score if positive.value else 1 - positive.score
        return cls(review, p, int(str(score.value)) + p - 0.5)


@dataclass(frozen=True)
class Sembench:
    """Settings of the measurement.

    Attributes:
        data: A checkout of SemBench, or its folder ``files/movie``.
        mine: Settings of the job: how many reviews are annotated, say, which each seed draws uniformly. Their rows hold
            the annotations.
        seeds: Number of seeds.
        llm: Annotates; without one the critics' own verdicts are the annotations, in the place of a strong LLM's.
        on_event: Receives progress events.
        on_score: Receives the scores of each seed.
    """

    data: Path
    mine: MineSettings = _JOB
    seeds: int = 3
    llm: LLM | None = None
    on_event: ProgressCallback | None = None
    on_score: Callable[..., None] = lambda name, seed, **scores: None


def run(settings: Sembench) -> BenchmarkTable:
    """Answer the ten queries, untrained and from annotations; the median over seeds, and their range.

    Raises:
        CorpusError: The data is not there.
    """
    folder = settings.data / "files" / "movie" if (settings.data / "files").is_dir() else settings.data
    reviews, audience = _reviews(folder), _audience_scores(folder)
    untrained = scores_of(_untrained(reviews), audience)
    trained: list[dict[str, float]] = []
    for seed in range(settings.seeds):
        trained.append(_mined(reviews, audience, settings, seed))
        settings.on_score("SemBench movies", seed, **trained[-1])
    stored = {name: _stored(folder, engine) for engine, name in _ENGINES.items()}
    who = settings.llm.name if settings.llm else "critics' verdicts"
    rows = [
        [
            f"{name} {about}",
            measure,
            f"{untrained[name]:.2f}",
            _median(trained, name),
            *(_figure(s, name) for s in stored.values()),
        ]
        for name, (about, measure) in _QUERIES.items()
    ]
    none = [""] * len(stored)
    rows += [[f"{name} corrected", "error", "", _median(trained, f"{name} corrected"), *none] for name in ("Q3", "Q8")]
    rows.append(["labels right", "share", f"{untrained['accuracy']:.2f}", _median(trained, "accuracy"), *none])
    return {
        "title": f"SemBench movies: {len(reviews):,} reviews, {settings.mine.annotations} annotations ({who})",
        "columns": ["query", "measure", "untrained", f"{settings.seeds} seeds", *stored],
        "rows": rows,
        "verdict": "LOTUS, Palimpzest, ThalamusDB and BigQuery: stored results of SemBench with Gemini 2.5 Flash",
        "scores": {"untrained": untrained, "trained": trained},
    }


def scores_of(answers: Sequence[Answer], audience: Mapping[str, float]) -> dict[str, float]:
    """Score answers on the ten queries as the evaluator of SemBench does, and on the labels themselves.

    Args:
        answers: One a review.
        audience: The audience's score by film.
    """
    by_film: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_film[answer.review.film].append(answer)
    counted, paired = by_film[_COUNTED], by_film[_PAIRED]
    n = sum(answer.is_positive for answer in counted)
    means = {film: statistics.fmean(a.score for a in own) for film, own in by_film.items() if film in audience}
    rated = [a for a in paired if _FRACTION.fullmatch(a.review.points)]
    return {
        "Q1": _first_positive(answers),
        "Q2": _first_positive(counted),
        "Q3": count_error(counted, n),
        "Q4": count_error(counted, n),
        "Q5": _first_pairs(paired, equal=True),
        "Q6": _first_pairs(paired, equal=False),
        "Q7": _pair_f1(paired),
        "Q8": (count_error(counted, n) + count_error(counted, len(counted) - n, positive=False)) / 2,
        "Q9": _spearman([a.score for a in rated], [float(a.review.points.split("/")[0]) for a in rated]),
        "Q10": _spearman(list(means.values()), [audience[film] for film in means]),
        "accuracy": statistics.fmean(a.is_positive == a.review.is_positive for a in answers),
    }


def count_error(answers: Sequence[Answer], count: float, *, positive: bool = True) -> float:
    """Return the relative error of a count of positive (or negative) reviews."""
    true = sum(answer.review.is_positive is positive for answer in answers)
    return abs(count - true) / true


def _first_positive(answers: Sequence[Answer]) -> float:
    chosen = sorted(answers, key=lambda a: -a.p_positive)[:5]
    return statistics.fmean(a.review.is_positive for a in chosen)  # five of five: precision is recall


def _first_pairs(answers: Sequence[Answer], *, equal: bool) -> float:
    """Return the F1 of ten pairs: of the surest reviews of one sentiment, or of both."""
    ordered = sorted(answers, key=lambda a: -a.p_positive)
    pairs: Iterable[tuple[Answer, Answer]]
    if equal:
        pairs = itertools.combinations(ordered[:5], 2)
    else:
        pairs = itertools.islice(itertools.product(ordered[:5], ordered[-2:]), 10)
    return statistics.fmean((a.review.is_positive == b.review.is_positive) is equal for a, b in pairs)


def _pair_f1(answers: Sequence[Answer]) -> float:
    """Return the F1 of all pairs of opposite sentiment, which follow from the labels."""
    chosen, true = _opposite(answers, lambda a: a.is_positive), _opposite(answers, lambda a: a.review.is_positive)
    return 2 * len(chosen & true) / (len(chosen) + len(true))


def _opposite(answers: Sequence[Answer], key: Callable[[Answer], bool]) -> set[frozenset[str]]:
    """Return the pairs of ids; some reviews have the same id, and are no pair."""
    pairs = itertools.combinations(answers, 2)
    return {frozenset((a.review.id, b.review.id)) for a, b in pairs if a.review.id != b.review.id and key(a) != key(b)}


def _spearman(predicted: Sequence[float], true: Sequence[float]) -> float:
    return float(spearmanr(predicted, true).statistic)


def _untrained(reviews: Sequence[Review]) -> list[Answer]:
    answers = Proxy.zero_shot(PLAN).answers([review.text for review in reviews])
    return [Answer.of(r, a.labels["positive"], a.labels["score"]) for r, a in zip(reviews, answers, strict=True)]


def _mined(reviews: Sequence[Review], audience: Mapping[str, float], settings: Sembench, seed: int) -> dict[str, float]:
    """Mine the reviews in a home of their own, and score the rows."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, annotations = Path(folder, "reviews.jsonl"), Path(folder, "annotations.jsonl")
        rows = ({"id": str(i), "text": r.text, "film": _group(r)} for i, r in enumerate(reviews))
        _write(corpus, rows)
        if settings.llm is None:
            _write(annotations, map(_annotation, random.Random(seed).sample(reviews, settings.mine.annotations)))
        train = settings.mine.train.model_copy(update={"seed": seed})
        falconer = Falconer(
            settings.llm,
            annotations=None if settings.llm else annotations,
            home=Path(folder, "home"),
            settings=settings.mine.model_copy(update={"seed": seed, "train": train}),
        )
        result = falconer.mine(PLAN.instruction, corpus, plan=PLAN, on_event=settings.on_event)
        answers = [_read(reviews[int(row["id"])], row) for row in result.rows() if "labels" in row]
        estimates = result.estimates.groups["film"].groups[_COUNTED].labels["positive"] if result.estimates else {}
    own = [a for a in answers if a.review.film == _COUNTED]
    scores = scores_of(answers, audience)
    return scores | _corrected(own, estimates)


def _group(review: Review) -> str:
    """Return the film, of the one whose reviews are counted; columns of many values are not counted by."""
    return review.film if review.film == _COUNTED else "other"


def _corrected(counted: Sequence[Answer], estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Return the errors of the corrected counts; none where they cannot be corrected."""
    values = {label: estimate.estimate for label, estimate in estimates.items() if estimate.estimate is not None}
    if {"true", "false"} - set(values):
        return {}
    positive = count_error(counted, values["true"])
    return {
        "Q3 corrected": positive,
        "Q8 corrected": (positive + count_error(counted, values["false"], positive=False)) / 2,
    }


def _read(review: Review, row: ResultRow) -> Answer:
    labels = {step: Label(data["value"], data["score"]) for step, data in row["labels"].items()}  # type: ignore[arg-type]
    return Answer.of(review, labels["positive"], labels["score"])


def _annotation(review: Review) -> dict[str, object]:
    labels: dict[str, bool | str] = {"positive": review.is_positive}
    if review.score is not None:
        labels["score"] = review.score
    return {"text": review.text, "labels": labels}


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _reviews(folder: Path) -> list[Review]:
    with data_file(folder, "data", "sf_2000", "Reviews.csv").open(encoding="utf-8", newline="") as lines:
        return [
            Review(r["reviewId"], r["id"], r["reviewText"], r["scoreSentiment"] == "POSITIVE", r["originalScore"])
            for r in csv.DictReader(lines)
            if r["reviewText"].strip()
        ]


def _audience_scores(folder: Path) -> dict[str, float]:
    with data_file(folder, "data", "sf_2000", "Movies.csv").open(encoding="utf-8", newline="") as lines:
        return {r["id"]: float(r["audienceScore"]) for r in csv.DictReader(lines) if r["audienceScore"]}


def _stored(folder: Path, engine: str) -> _Stored:
    file = folder / "metrics" / _STORED / f"{engine}.json"
    stored: _Stored = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return stored


def _figure(stored: _Stored, query: str) -> str:
    result = stored.get(query, {})
    if result.get("status") == "failed":
        return "failed"
    value = result.get(_STORED_KEYS[_QUERIES[query][1]])
    return f"{value:.2f}" if isinstance(value, float | int) else ""


def _median(trained: Sequence[Mapping[str, float]], name: str) -> str:
    values = [scores[name] for scores in trained if name in scores]
    if not values:
        return "not estimated"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
