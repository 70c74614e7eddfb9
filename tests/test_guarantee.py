"""Certificates: the decisions that they allow, and their coverage over a thousand simulated worlds per setting."""

import numpy as np
import pytest
from scipy.stats import binom

from langchain_falconer.corpus import sample_uniform
from langchain_falconer.evaluate import Certificate, Population, can_certify, certify, min_texts_to_certify, proportion
from langchain_falconer.execute import TARGET_METRICS, Comparison, certify_targets
from langchain_falconer.settings import Targets

WORLDS = 1_000
CONFIDENCE = 0.9  # a tenth of failures tests the coverage harder than a twentieth


# ---- decisions


def test_the_threshold_is_the_score_of_the_first_failure_too_many():
    scores = np.linspace(0, 1, 300)
    failed = np.isin(np.arange(300), [10, 50, 100, 150, 200, 210, 220, 230, 240, 250, 260])
    assert binom.cdf(8, 300, 0.05) <= 0.05 < binom.cdf(9, 300, 0.05)
    certificate = certify(scores, failed, 0.95)
    assert certificate.certified
    assert certificate.threshold == scores[100]  # eight failures lie above it, and more would be too many
    assert not certificate.allows(scores[100])
    assert certificate.allows(np.nextafter(scores[100], 1))
    assert (certificate.n, certificate.failures) == (300, 11)
    assert certificate.lower_bound == pytest.approx(proportion(289, 300, 0.9).low)
    assert Certificate.model_validate_json(certificate.model_dump_json()) == certificate


def test_few_failures_let_the_proxy_decide_everywhere():
    certificate = certify(np.full(59, 0.5), np.zeros(59), 0.95)
    assert certificate.certified
    assert certificate.threshold is None
    assert certificate.allows(0.0)


def test_a_sample_too_small_lets_it_decide_nowhere():
    certificate = certify(np.full(58, 0.5), np.zeros(58), 0.95)
    assert not certificate.certified
    assert not certificate.allows(1.0)
    nothing = certify([], [], 0.9)
    assert (nothing.certified, nothing.n, nothing.lower_bound) == (False, 0, 0.0)


def test_equal_scores_stay_together():
    scores = np.repeat([0.9, 0.5], 100)
    failed = np.zeros(200, bool)
    failed[100:110] = True
    certificate = certify(scores, failed, 0.97)
    assert certificate.threshold == 0.5
    assert (
        certify(np.full(200, 0.5), failed, 0.97).threshold == 0.5
    )  # no score is above it: the annotator decides all texts


def test_a_text_that_the_annotator_rejects_is_not_a_positive_any_more():
    """20 of 100 positives are wrong, all with lower scores than the rest: they leave, and 80 are enough."""
    scores, failed = np.arange(100) / 100, np.arange(100) < 20
    assert certify(scores, failed, 0.97, drops_out=True).certified is False
    assert certify(scores, failed, 0.96, drops_out=True).threshold == pytest.approx(0.19)


def test_a_small_corpus_needs_fewer_texts():
    scores, failed = np.full(40, 0.5), np.zeros(40)
    assert not certify(scores, failed, 0.95).certified
    assert certify(scores, failed, 0.95, population=Population(60, 60)).certified
    assert certify(scores, failed, 0.95, population=Population(200, 90)).certified  # 110 are right already
    assert not certify(scores, failed, 0.95, population=Population(10_000, 10_000)).certified
    assert certify([], [], 0.9, population=Population(100, 10)).certified  # ten texts cannot miss it
    assert certify([], [], 0.9, population=Population(100, 0)).certified


def test_the_sample_size_is_known_in_advance():
    assert (min_texts_to_certify(0.9, 0.95), min_texts_to_certify(0.95, 0.95), min_texts_to_certify(0.99, 0.95)) == (
        29,
        59,
        299,
    )
    for target, confidence in ((0.9, 0.95), (0.5, 0.75), (0.8, 0.99), (0.999, 0.9)):
        n = min_texts_to_certify(target, confidence)
        assert can_certify(target, confidence, n)
        assert not can_certify(target, confidence, n - 1)
    assert can_certify(0.95, 0.95, 40, Population(60, 60))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [True, False], 0.9), "same shape"),
        (([float("nan")], [True], 0.9), "same shape"),
        (([0.5], [True], 1.0), "a target of 1.0 cannot be certified"),
        (([0.5], [True], 0.9, 0.4), "a confidence of 0.4"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        certify(*arguments)


# ---- coverage over many worlds


def allowed(certificate, scores):
    return certificate.certified & (scores > (-np.inf if certificate.threshold is None else certificate.threshold))


class World:
    """A simulated corpus: answers of LLM and proxy (yes or no) and confidence of the proxy for every text."""

    def __init__(self, rng, positives, separation, *, n=1_000, ties=False, ordered=False):
        self.llm = rng.random(n) < positives
        if ordered:  # by source, the second one much noisier
            self.llm = np.where(np.arange(n) < n // 2, self.llm, rng.random(n) < 0.5)
        odds = separation * (rng.normal(size=n) + separation * (self.llm - 0.5))
        if 0 < positives < 1:
            odds += np.log(positives / (1 - positives))
        self.proxy = odds > 0
        self.confidence = 1 / (1 + np.exp(-np.abs(odds)))
        if ties:
            self.confidence = np.round(self.confidence, 1)

    def sampled(self, rng):
        """Return the outcome of a certificate of each kind, from a uniform sample of a fifth of the texts."""
        rows = self.draw(rng)
        return {kind: self.outcome(kind, rows) for kind in TARGETS}

    def draw(self, rng):
        return rng.choice(len(self.llm), len(self.llm) // 5, replace=False)

    def outcome(self, kind, rows, known=()):
        """Return whether the target holds in the corpus, and the share of texts that the proxy decides."""
        open_ = np.ones(len(self.llm), bool)
        open_[list(known)] = False
        decides = open_ & allowed(self.certificate(kind, rows, CONFIDENCE, open_), self.confidence)
        return self.holds(kind, decides), decides.mean()

    def certificate(self, kind, rows, confidence, open_):
        of = {"agreement": np.ones_like(self.llm), "recall": self.llm, "precision": self.proxy}[kind]
        sampled = rows[of[rows]]
        return certify(
            self.confidence[sampled],
            (self.llm != self.proxy)[sampled],
            TARGET,
            confidence,
            drops_out=kind == "precision",
            population=Population(len(open_), int(open_.sum())) if kind == "agreement" else None,
        )

    def holds(self, kind, decides):
        """Return whether the target is reached if the proxy decides these texts, and the LLM the others."""
        final = np.where(decides, self.proxy, self.llm)
        right = final == self.llm
        counted = {"agreement": right, "recall": right[self.llm], "precision": right[final]}[kind]
        return not len(counted) or counted.mean() >= TARGET


TARGET = 0.9
TARGETS = ("agreement", "recall", "precision")
SETTINGS = {
    "common": {"positives": 0.3, "separation": 2.0},
    "hard": {"positives": 0.4, "separation": 1.0},
    "rare": {"positives": 0.05, "separation": 3.0, "n": 4_000},
    "very rare": {"positives": 0.004, "separation": 2.0},
    "ties": {"positives": 0.3, "separation": 1.5, "ties": True},
    "ordered rows": {"positives": 0.1, "separation": 1.5, "ordered": True},
    "no positives": {"positives": 0.0, "separation": 1.5},
    "only positives": {"positives": 1.0, "separation": 1.5},
}


def assert_valid(outcomes):
    """Assert that at most a tenth of the guarantees fail, up to the error of so many worlds."""
    broken = sum(not holds for holds, _ in outcomes)
    assert proportion(broken, len(outcomes), 0.99).low <= 1 - CONFIDENCE, f"{broken} of {len(outcomes)}"


@pytest.mark.parametrize("setting", SETTINGS)
def test_guarantees_hold(setting):
    rng = np.random.default_rng(sum(map(ord, setting)))
    outcomes = [World(rng, **SETTINGS[setting]).sampled(rng) for _ in range(WORLDS)]
    for kind in TARGETS:
        assert_valid([one[kind] for one in outcomes])
        if setting in ("common", "rare"):
            assert (
                np.mean([decided for _, decided in (one[kind] for one in outcomes)]) > 0.2
            )  # and the target is not trivial


@pytest.mark.parametrize("setting", ["common", "very rare", "ties", "ordered rows", "only positives"])
def test_several_guarantees_hold_together(setting):
    """Each has its share of the error budget; the LLM decides a text if any guarantee that concerns it requires so."""
    rng = np.random.default_rng(len(setting))
    each = Targets(**dict.fromkeys(TARGETS, TARGET), confidence=CONFIDENCE).confidence_of(1)
    outcomes = []
    for _ in range(WORLDS):
        world = World(rng, **SETTINGS[setting])
        rows, every = world.draw(rng), np.ones(len(world.llm), bool)
        certificates = {kind: world.certificate(kind, rows, each, every) for kind in TARGETS}
        # A target that is not certified sends no text to the LLM.
        allows = {k: allowed(c, world.confidence) if c.certified else every for k, c in certificates.items()}
        decides = allows["agreement"] & np.where(world.proxy, allows["precision"], allows["recall"])
        certified_kinds = [kind for kind in TARGETS if certificates[kind].certified]
        outcomes.append((all(world.holds(kind, decides) for kind in certified_kinds), decides.mean()))
    assert_valid(outcomes)


EVERY = ("agreement", "spans", "recall", "precision")


class Plans:
    """Simulated corpora of a plan that filters and extracts: its labels and spans err together or apart."""

    def __init__(self, rng, *, n, errors, together, positives=0.5):
        hard = rng.random(n)
        self.match = rng.random(n) < positives
        flipped = rng.random(n) < 2 * errors * hard
        self.is_match = self.match ^ flipped
        shared = rng.random(n) < together
        self.missed = np.where(shared, flipped, rng.random(n) < 2 * errors * hard)
        self.equal = ~(flipped | self.missed | (rng.random(n) < errors / 2))
        self.confidence = np.clip(1 - hard * errors + rng.normal(0, errors / 3, n), 0, 1)

    def comparison(self, i):
        fields = (self.confidence, self.match, self.is_match, self.equal, self.missed)
        return Comparison(*(column[i].item() for column in fields))

    def outcome(self, targets, rows):
        """Return whether all certified targets hold, and the share of texts that the proxy decides."""
        n = len(self.match)
        certificates = certify_targets(targets, [self.comparison(i) for i in rows], Population(n, n))
        decides = np.ones(n, bool)
        for name, one in certificates.items():
            concerned = np.array([TARGET_METRICS[name].concerns(match) for match in (False, True)])[
                self.match.astype(int)
            ]
            if one.certified:
                decides &= allowed(one, self.confidence) | ~concerned
        final = np.where(decides, self.match, self.is_match)
        reached = {
            "agreement": self.equal | ~decides,
            "spans": ~self.missed | ~decides,
            "recall": final[self.is_match],
            "precision": self.is_match[final],
        }
        share = {name: values.mean() if len(values) else 1.0 for name, values in reached.items()}
        holds = all(share[name] >= one.target for name, one in certificates.items() if one.certified)
        return holds, decides.mean()


@pytest.mark.parametrize(
    ("targets", "world", "drawn"),
    [
        ({"agreement": 0.8, "spans": 0.9}, {"n": 2_000, "errors": 0.15, "together": 0.9}, 100),
        ({"agreement": 0.9, "spans": 0.9}, {"n": 2_000, "errors": 0.07, "together": 0.0}, 60),
        ({"agreement": 0.85, "spans": 0.85}, {"n": 200, "errors": 0.12, "together": 0.5}, 120),
        ({"agreement": 0.8, "spans": 0.95, "recall": 0.9}, {"n": 1_000, "errors": 0.1, "together": 0.5}, 150),
        ({"recall": 0.9, "precision": 0.9}, {"n": 1_000, "errors": 0.1, "together": 0.5}, 150),
        ({"recall": 0.85, "precision": 0.7}, {"n": 300, "errors": 0.15, "together": 0.5, "positives": 0.3}, 100),
        (
            dict.fromkeys(("agreement", "spans", "recall", "precision"), 0.85),
            {"n": 500, "errors": 0.1, "together": 0.9},
            100,
        ),
    ],
)
def test_the_targets_of_a_plan_hold_together(targets, world, drawn):
    """With correlated errors, few texts and small corpora, whether one family finishes and leaves its budget or not."""
    rng = np.random.default_rng(7)
    settings = Targets(**targets, confidence=CONFIDENCE)
    outcomes = []
    for _ in range(WORLDS // 2):
        plan = Plans(rng, **world)
        outcomes.append(plan.outcome(settings, rng.choice(world["n"], drawn, replace=False)))
    assert_valid(outcomes)
    assert np.mean([decided for _, decided in outcomes]) > 0.05


def test_one_score_for_two_targets_decides_more_than_a_split_budget():
    """In every world, for the level of a split is lower; agreement 0.9 with spans 0.95 tolerates more of 300 texts."""
    rng = np.random.default_rng(8)
    targets = Targets(agreement=0.9, spans=0.95)
    gains = []
    for _ in range(50):
        plan = Plans(rng, n=2_000, errors=0.08, together=0.5)
        comparisons = [plan.comparison(i) for i in rng.choice(2_000, 300, replace=False)]
        everything = Population(2_000, 2_000)
        joint = certify_targets(targets, comparisons, everything)
        split = {
            name: TARGET_METRICS[name].certify(comparisons, share, targets.confidence_of(1), everything)
            for name, share in targets.shares.items()
        }
        assert len({one.threshold for one in joint.values()}) == 1
        by_joint, by_split = (
            np.logical_and.reduce([allowed(one, plan.confidence) for one in certificates.values()])
            for certificates in (joint, split)
        )
        assert not (by_split & ~by_joint).any()
        gains.append(by_joint.mean() - by_split.mean())
    assert np.mean(gains) > 0.01


def test_a_target_that_holds_anyway_leaves_its_budget_to_the_others():
    rng = np.random.default_rng(9)
    plan = Plans(rng, n=2_000, errors=0.1, together=0.5)
    comparisons = [plan.comparison(i) for i in range(300)]
    both = certify_targets(Targets(agreement=0.9, recall=0.5), comparisons, Population(2_000, 2_000))
    alone = certify_targets(Targets(agreement=0.9), comparisons, Population(2_000, 2_000))
    assert both["recall"].certified
    assert both["recall"].threshold is None
    assert both["agreement"] == alone["agreement"]


def test_a_target_that_no_number_of_failures_certifies_holds_up_no_other():
    comparisons = [Comparison(0.9, True, True, equal=True, missed=False)] * 60
    both = certify_targets(Targets(agreement=0.99, spans=0.9), comparisons, Population(10_000, 10_000))
    assert (both["agreement"].certified, both["spans"].certified) == (False, True)


def test_guarantees_are_not_trivially_empty():
    """The worst case: a proxy whose failures are uniform over its scores, slightly more than the target allows."""
    rng = np.random.default_rng(1)
    n, target, broken = 100_000, 0.9, 0
    for _ in range(WORLDS):
        failed = rng.random(300) < 1 - target + 10 / n
        broken += certify(rng.random(300), failed, target, CONFIDENCE).threshold is None
    assert broken / WORLDS > 0.02
    assert proportion(broken, WORLDS, 0.99).low <= 1 - CONFIDENCE


def test_guarantees_hold_where_training_texts_leave_the_sample():
    """Training uses the texts with the lowest confidence; those of them in the sample are removed from it."""
    rng = np.random.default_rng(2)
    outcomes = []
    for _ in range(WORLDS):
        world = World(rng, 0.3, 1.2, n=600)
        known = rng.choice(600, 300, replace=False)
        known = known[np.argsort(world.confidence[known])[:150]]
        rows = rng.choice(600, 120, replace=False)
        outcomes.append(world.outcome("agreement", np.setdiff1d(rows, known), known=known))
    assert_valid(outcomes)


def test_guarantees_hold_on_ordered_rows_sampled_by_index():
    """Rows sorted by source and a sample of their indices, as in a run."""
    rng = np.random.default_rng(3)
    world = World(rng, 0.1, 1.5, n=500, ordered=True)
    draws = (sample_uniform(range(500), 100, seed, key=str) for seed in range(WORLDS))
    assert_valid([world.outcome("agreement", np.array(rows)) for rows in draws])


def test_a_separable_corpus_takes_a_few_percent_of_the_texts():
    """10,000 texts, 5% positives three standard deviations apart: 0.95 at 95% from 300 annotations."""
    sent = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        world = World(rng, 0.05, 3.0, n=10_000)
        rows = rng.choice(10_000, 300, replace=False)
        wrong = world.llm != world.proxy
        certificate = certify(world.confidence[rows], wrong[rows], 0.95, population=Population(10_000, 10_000))
        decides = allowed(certificate, world.confidence)
        decides[rows] = False
        assert (wrong & decides).mean() <= 0.05
        sent.append(1 - decides.mean())
    assert max(sent) <= 0.06
