"""The cascade: certified targets, texts that go to the LLM, texts that are marked uncertain; end to end."""

import io
import json
import random
import re
import zlib
from dataclasses import replace

import pytest
from laptops import INSTRUCTION, PLAN, answers, asked, is_planning, prices, review, write_corpus
from loopback import ChatServer, llm_at
from rich.console import Console

from langchain_falconer import Falconer, Plan
from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import open_corpus
from langchain_falconer.errors import SettingsError
from langchain_falconer.execute import (
    Cascade,
    Run,
    check_targets,
    escalation_forecast,
    read_rows,
    required_annotations,
    target_hints,
)
from langchain_falconer.model import confidence_of
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.report import RunSummary, print_summary
from langchain_falconer.settings import BudgetSettings, MineSettings, RunSettings, Targets

KINDS = ("agreement", "recall", "precision", "spans")


def doubtful(i):
    """Return a review whose label cannot be learnt."""
    if i % 2:
        return f"Terrible, terrible laptop {i}: love it, it broke at once, awful junk. It cost me ${100 + i}."
    return f"I love this laptop, it works, love it, awful. I paid ${100 + i} for unit {i}."


TEXTS = [doubtful(i) if i % 4 == 0 else review(i) for i in range(480)]


def truth(text):
    """Return the answers of the LLM, which takes a pseudo-random half of the doubtful reviews for positive."""
    if "love it, it broke" not in text and "love it, awful" not in text:
        return answers(text)
    if zlib.crc32(text.encode()) % 2:
        return Answers({"positive": Label(False)})
    return answers(text)


def teacher(request):
    assert not is_planning(request)
    if "Task: Extract the price" in request["messages"][-1]["content"]:
        return json.dumps({key: prices(text) for key, text in asked(request).items()})
    return json.dumps({key: truth(text).labels["positive"].value for key, text in asked(request).items()})


def row_answers(row):
    """Return the answers of a row without scores."""
    labels = {k: v["value"] for k, v in row["labels"].items()}
    return labels, {k: [(s["start"], s["end"]) for s in v] for k, v in row["spans"].items()}


def annotation_answers(annotated):
    """Return the answers of an annotation without scores."""
    labels = {k: v.value for k, v in annotated.labels.items()}
    return labels, {k: [(s.start, s.end) for s in v] for k, v in annotated.spans.items()}


def reached(kind, rows, truth):
    """Return the true share of a target metric."""
    gold = [annotation_answers(truth(row["text"])) for row in rows]
    wanted = [bool(spans.get("price")) for _, spans in gold]
    predicted = [row["match"] for row in rows]
    both = sum(w and f for w, f in zip(wanted, predicted, strict=True))
    own = [row_answers(row) for row in rows]
    lacking = [set(g[1].get("price", ())) - set(o[1].get("price", ())) for g, o in zip(gold, own, strict=True)]
    return {
        "agreement": sum(g == o for g, o in zip(gold, own, strict=True)) / len(rows),
        "recall": both / max(1, sum(wanted)),
        "precision": both / max(1, sum(predicted)),
        "spans": 1 - sum(map(bool, lacking)) / len(rows),
    }[kind]


class Job:
    """A run of the laptops' proxy over reviews, and an LLM that records the texts that it gets.

    The LLM disagrees on every other text among the least confident tenth of the matches, and of the other texts.
    """

    def __init__(self, proxy, folder, texts=TEXTS, known=()):
        self.texts = texts
        self.folder = folder
        self.run = Run(
            proxy, open_corpus(texts=texts), folder / "shards", RunSettings(shard_texts=50), known, scored=True
        )
        self.report = self.run()
        self.confidence = dict(zip(texts, (confidence_of(a) for a in proxy.answers(texts)), strict=True))
        self.match = {row["text"]: row["match"] for row in self.run.rows}
        self.others = {t for match in (True, False) for t in self.least_confident(match)[: len(self.match) // 10 : 2]}
        self.escalated = []

    def least_confident(self, match):
        return sorted((t for t in self.match if self.match[t] is match), key=lambda t: self.confidence[t])

    def truth(self, text):
        """Return the answers of the LLM."""
        positive = self.match[text] is not (text in self.others)
        matches = re.finditer(r"\$\d+", text)
        spans = {"price": tuple(Span.at(text, *m.span()) for m in matches)} if positive else {}
        return Answers({"positive": Label(positive)}, spans)

    def reached(self, kind, rows):
        return reached(kind, rows, self.truth)

    def annotation(self, text):
        return Annotation(text, self.truth(text), "an LLM")

    def drawn(self, n=240, seed=0):
        """Return ``n`` rows drawn uniformly, with their annotations."""
        places = random.Random(seed).sample(range(len(self.texts)), n)
        return {place: self.annotation(self.texts[place]) for place in places}

    def ask(self, texts, limit):
        self.escalated += texts[:limit]
        return [self.annotation(text) for text in texts[:limit]]

    def complete(self, targets, drawn, output="out.jsonl"):
        cascade = Cascade(self.run, targets, drawn, self.folder / "completed")
        report, guarantee = cascade(self.ask, self.report, self.folder / output)
        return list(read_rows(report.output)), guarantee


@pytest.fixture
def job(proxy, tmp_path):
    return Job(proxy, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_certified_target_is_reached_by_escalating_the_least_confident_texts(kind, job):
    alone = job.reached(kind, list(job.run.rows))
    drawn = job.drawn()
    rows, guarantee = job.complete(Targets(**{kind: 0.96}, escalate=1), drawn)
    assert guarantee.certified
    assert alone < 0.96 <= job.reached(kind, rows)
    assert guarantee.below_threshold == guarantee.escalated == len(job.escalated) > 0
    assert (guarantee.uncertain, guarantee.drawn, guarantee.texts) == (0, 240, 480)
    assert not any("uncertain" in row for row in rows)
    matches = {"recall": [False], "precision": [True]}.get(kind, [True, False])
    concerned = {t for match in matches for t in job.least_confident(match)} - {a.text for a in drawn.values()}
    left = concerned - set(job.escalated)
    assert set(job.escalated) <= concerned
    assert max(job.confidence[t] for t in job.escalated) < min((job.confidence[t] for t in left), default=2)


def test_answers_of_the_llm_are_in_the_result(job):
    drawn = job.drawn()
    rows, _ = job.complete(Targets(agreement=0.95, escalate=1), drawn)
    assert [row["text"] for row in rows] == TEXTS
    certifying = {a.text for a in drawn.values()}
    assert not set(job.escalated) & certifying  # none is paid for twice
    for row in rows:
        by = "llm" if row["text"] in certifying | set(job.escalated) else "proxy"
        assert row["decided_by"] == dict.fromkeys([*row["labels"], *row["spans"]], by)
        if by == "llm":
            assert row_answers(row) == annotation_answers(job.truth(row["text"]))


def test_undecided_texts_are_marked_uncertain(job):
    drawn = job.drawn()
    _, whole = job.complete(Targets(agreement=0.95, escalate=1), drawn)
    band, job.escalated = job.escalated, []
    share = (len(band) // 2) / len(TEXTS)
    rows, guarantee = job.complete(Targets(agreement=0.95, escalate=share), drawn)
    assert job.escalated == band[: len(band) // 2]
    assert (guarantee.below_threshold, guarantee.escalated) == (whole.below_threshold, len(job.escalated))
    marked = [row for row in rows if row.get("uncertain")]
    assert guarantee.uncertain == len(marked) > 0
    assert [row["text"] for row in marked] == band[len(job.escalated) :]
    assert {by for row in marked for by in row["decided_by"].values()} == {"proxy"}
    assert guarantee.certificates == whole.certificates
    assert f"{len(marked)} texts are marked uncertain" in " ".join(guarantee.statements)
    as_parquet, _ = job.complete(Targets(agreement=0.95, escalate=share), drawn, "out.parquet")
    assert as_parquet == rows


def test_answers_of_an_earlier_run_are_used_beyond_the_quota(job):
    drawn = job.drawn()
    job.complete(Targets(agreement=0.95, escalate=1), drawn)
    band = set(job.escalated)
    job.ask = lambda texts, limit: [job.annotation(text) for text in texts]
    rows, guarantee = job.complete(Targets(agreement=0.95, escalate=0), drawn)
    assert guarantee.uncertain == 0
    assert {row["decided_by"]["positive"] for row in rows if row["text"] in band} == {"llm"}


def test_a_target_that_cannot_be_certified_escalates_nothing(job):
    rows, guarantee = job.complete(Targets(agreement=0.95, escalate=1), job.drawn(40))
    assert not guarantee.certified
    assert job.escalated == []
    assert guarantee.uncertain == sum("uncertain" in row for row in rows) == len(TEXTS) - 40
    why, marked = guarantee.statements
    assert "not certified" in why
    assert "at least 59" in why
    assert f"{guarantee.uncertain} texts are marked uncertain" in marked


def test_texts_that_the_llm_failed_on_count_against_the_proxy(job):
    """A missing answer may be anything."""
    drawn = job.drawn()
    holes = {place: a if place % 2 else None for place, a in drawn.items()}
    _, guarantee = job.complete(Targets(agreement=0.95, escalate=0), holes)
    assert guarantee.unanswered == sum(place % 2 == 0 for place in drawn)
    assert guarantee.certificates["agreement"].failures >= guarantee.unanswered
    half = {place: replace(a, answers=Answers(), is_complete=False) for place, a in drawn.items()}
    _, guarantee = job.complete(Targets(recall=0.9, escalate=0), half)
    assert guarantee.unanswered == len(drawn)
    missed = sum(not job.match[a.text] for a in drawn.values())
    assert guarantee.certificates["recall"].n == guarantee.certificates["recall"].failures == missed


def test_texts_that_were_trained_on_count_for_nothing(job, proxy, tmp_path):
    known = [job.annotation(text) for text in TEXTS[:60]]
    informed = Job(proxy, tmp_path / "informed", known=known)
    drawn = job.drawn()
    rows, guarantee = informed.complete(Targets(agreement=0.9, escalate=1), drawn)
    assert guarantee.drawn == sum(place >= 60 for place in drawn)
    assert [row_answers(row) for row in rows[:60]] == [annotation_answers(job.truth(text)) for text in TEXTS[:60]]
    assert not set(informed.escalated) & set(TEXTS[:60])


def test_repeated_texts_are_escalated_once_per_shard_and_counted_each_time(proxy, tmp_path):
    job = Job(proxy, tmp_path, [TEXTS[i % 80] for i in range(240)])
    rows, guarantee = job.complete(Targets(agreement=0.95, escalate=1), job.drawn(100))
    assert guarantee.drawn == 100
    assert guarantee.escalated == guarantee.below_threshold
    assert job.reached("agreement", rows) >= 0.95


@pytest.mark.parametrize("match", [True, False])
def test_a_corpus_of_one_class_keeps_its_promises_too(match, job, proxy, tmp_path):
    same = Job(proxy, tmp_path / "same", job.least_confident(match))
    same.others = set()
    drawn = same.drawn(len(same.texts) * 3 // 4)
    rows, guarantee = same.complete(Targets(agreement=0.9, recall=0.9, precision=0.9, escalate=1), drawn)
    for kind, one in guarantee.certificates.items():
        assert one.confidence in (pytest.approx(1 - 0.05 / 3), pytest.approx(1 - 0.05 / 2))  # agreement leaves its part
        assert one.certified is (match or kind == "agreement")
        assert same.reached(kind, rows) >= 0.9 or not one.certified


# ---- checks before an LLM is paid


def test_targets_split_the_error_budget():
    assert Targets(agreement=0.9).confidence_of(1) == pytest.approx(0.95)
    assert Targets(agreement=0.9, recall=0.9).confidence_of(1) == pytest.approx(0.975)
    every = Targets(agreement=0.9, recall=0.9, precision=0.9, spans=0.9, confidence=0.8)
    assert every.confidence_of(1) == pytest.approx(0.95)
    assert every.confidence_of(2) == pytest.approx(0.9)  # of agreement and spans together


def test_what_a_sample_can_certify_is_known_before():
    assert required_annotations(Targets(agreement=0.95), 300, 10_000) == 59
    assert required_annotations(Targets(agreement=0.95), 45, 60) == 45  # of so few texts
    with pytest.raises(SettingsError, match=r"recall of 0.9 at 0.95 confidence takes at least 29 .* and 20 are drawn"):
        required_annotations(Targets(recall=0.9), 20, 10_000)
    (hint,) = target_hints(Targets(recall=0.9), 300)
    assert "at least 29 of the 300 texts drawn for it match (10%)" in hint
    (hint,) = target_hints(Targets(agreement=0.9), 300)
    assert "beyond 7% of the texts" in hint  # 21 failures of 300 are the most that certify 0.9 at 95%
    assert "fails on more than 17%" in hint  # and a tenth may go to the LLM


def test_what_a_target_will_cost_is_known_from_the_measured_agreement():
    forecast = escalation_forecast(Targets(agreement=0.9), 300, agreement=0.84)
    assert "cannot be certified at 0.9 with 300 texts" in forecast
    assert "about 9% of the texts" in forecast
    assert "uncertain" not in forecast
    assert "about 13% would be marked uncertain" in escalation_forecast(Targets(agreement=0.9), 300, agreement=0.7)
    assert escalation_forecast(Targets(agreement=0.9), 300, agreement=0.94) is None
    assert escalation_forecast(Targets(recall=0.9), 300, agreement=0.5) is None


CHOICE = {"id": "kind", "op": "get_label", "instruction": "Which?", "labels": ["a", "b"]}


@pytest.mark.parametrize(
    ("target", "message"),
    [("recall", "needs a plan that filters"), ("precision", "needs a plan that filters"), ("spans", "get_span step")],
)
def test_a_target_that_does_not_apply_to_a_plan_is_refused(target, message):
    plan = Plan.parse({"instruction": "Sort them", "steps": [CHOICE]})
    with pytest.raises(SettingsError, match=message):
        check_targets(Targets(**{target: 0.9}), plan)
    check_targets(Targets(**{target: 0.9}), PLAN)
    check_targets(Targets(agreement=0.9), plan)


def test_settings_without_a_target_are_refused():
    with pytest.raises(ValueError, match="without a share"):
        Targets(confidence=0.9)


# ---- end to end


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One home for all tests, so that proxies and answers are reused."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def mine(settings, home, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)

    def run(server, targets, home=home, output="out.jsonl", on_event=None, **more):
        changed = {"targets": targets, "max_rounds": 1, "annotate": {"texts_per_call": 4}, **more}
        own = MineSettings.model_validate(settings.model_dump() | changed)
        falconer = Falconer(llm_at(server), home=home, settings=own)
        return falconer.mine(INSTRUCTION, corpus, tmp_path / output, plan=PLAN, on_event=on_event)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_mining_with_a_target(kind, mine, tmp_path):
    with ChatServer(teacher) as server:
        result = mine(server, Targets(**{kind: 0.9}, annotations=120, escalate=1))
    rows, guarantee = list(result.rows()), result.guarantee
    assert guarantee.certified
    assert reached(kind, rows, truth) >= 0.9
    assert guarantee.uncertain == 0
    assert guarantee.certificates[kind].target == 0.9
    assert any("LLM" in sentence and "0.95 confidence" in sentence for sentence in guarantee.statements)
    assert RunSummary.model_validate_json(result.summary.model_dump_json()) == result.summary
    html = result.report(tmp_path / "report.html").read_text("utf-8")
    assert "Guarantee" in html
    assert f"{kind} 90.0%" in html
    terminal = io.StringIO()
    print_summary(result.summary, Console(file=terminal, width=160))
    assert f"{kind} 90.0%" in terminal.getvalue()


def test_quotas_and_budgets_end_escalation_and_larger_ones_resume_it(mine, tmp_path):
    def targets(escalate):
        return Targets(agreement=0.95, annotations=120, escalate=escalate)

    with ChatServer(teacher) as server:
        nothing = mine(server, targets(0), tmp_path / "home")
        paid = server.calls
        capped = mine(server, targets(1), tmp_path / "home", budget=BudgetSettings(max_calls=paid + 3))
        assert server.calls == paid + 3
        assert capped.guarantee.uncertain == sum("uncertain" in row for row in capped.rows())
        whole = mine(server, targets(1), tmp_path / "home")
        calls = server.calls
        again = mine(server, targets(1), tmp_path / "home")
        assert server.calls == calls > paid + 3
    assert all(result.guarantee.certified for result in (nothing, capped, whole))
    assert nothing.guarantee.uncertain == nothing.guarantee.below_threshold > capped.guarantee.uncertain > 0
    assert whole.guarantee.escalated == whole.guarantee.below_threshold == nothing.guarantee.below_threshold
    assert whole.guarantee.uncertain == 0
    assert again.guarantee == whole.guarantee
    assert whole.cost.calls == calls
    assert whole.summary.run_id == nothing.summary.run_id


def test_a_budget_that_cannot_certify_is_refused_before_any_call(mine, tmp_path):
    budget = BudgetSettings(max_calls=20)
    with ChatServer(teacher) as server:
        with pytest.raises(SettingsError, match=r"max_calls of 20 cannot certify .* at least \d+ calls; .*at least 59"):
            mine(server, Targets(agreement=0.95, annotations=120), tmp_path / "home", budget=budget)
        with pytest.raises(SettingsError, match="takes at least 59 annotated texts to certify, and 40 are drawn"):
            mine(server, Targets(agreement=0.95, annotations=40), tmp_path / "home")
    assert server.calls == 0


def test_requirements_on_the_corpus_are_reported_first(mine):
    events = []
    with ChatServer(teacher) as server:
        mine(server, Targets(recall=0.9, annotations=120, escalate=1), on_event=events.append)
    stages = [event["stage"] for event in events]
    note = next(event for event in events if "at least 29 of the 120 texts" in event.get("note", ""))
    assert events.index(note) < stages.index("annotate")
