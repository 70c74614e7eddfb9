"""The cheapest way: which is taken, why, what it costs, and that nothing is computed or paid twice."""

import json
import shutil

import pytest
from langchain_openai import ChatOpenAI
from laptops import PLAN, STEPS, annotation_row, annotations, asked, is_positive, prices, reviews, teacher, write_lines
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer, Plan, Proxy
from langchain_falconer.corpus import CorpusStats, Dataset
from langchain_falconer.errors import BudgetError, RunError, SettingsError
from langchain_falconer.evaluate import evaluate_plan
from langchain_falconer.graph import AskOptions, NodeContext, Router
from langchain_falconer.graph.costs import CostModel
from langchain_falconer.llm import Price
from langchain_falconer.records import Answers, Label
from langchain_falconer.settings import MineSettings, Targets, Trust

TRUST = Trust(verify=10, agreement=0.6)
CERTIFY = Targets(agreement=0.9, annotations=40, escalate=0.5)


@pytest.fixture
def server():
    with ChatServer(teacher) as server:
        yield server


@pytest.fixture
def llm(server):
    return llm_at(server, usd_per_million_tokens=(1.0, 2.0))


@pytest.fixture
def trained(proxy_folder, tmp_path, settings):
    """A home with a proxy for the laptop reviews, and no LLM."""
    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    return Falconer(home=tmp_path / "home", settings=settings)


def near_plan():
    """The same questions in other words."""
    steps = [{**STEPS[0], "id": "happy", "instruction": "Is this a positive review of it?"}]
    where = {"step": "happy", "equals": True}
    steps.append({**STEPS[1], "id": "cost", "instruction": "Extract the price of it", "where": where})
    return Plan.parse({"instruction": "What do happy people pay?", "steps": steps})


def found(result):
    return {row["text"]: [s["text"] for s in row["spans"].get("price", [])] for row in result.rows()}


def test_a_covered_question_takes_the_proxy_and_asks_nobody(trained):
    trained.add_documents("reviews", texts=reviews(48))
    result = trained.ask(PLAN, trained.corpus("reviews"))
    assert result.decision.chosen.name == "registry"
    assert result.decision.chosen.proxy == "laptops"
    assert result.cost.calls == 0
    assert result.summary.computed == 48
    assert found(result) == {t: prices(t) if is_positive(t) else [] for t in reviews(48)}


def test_one_step_of_a_trained_plan_is_covered_too_whatever_it_is_called(trained):
    trained.add_documents("reviews", texts=reviews(30))
    step = {**STEPS[0], "id": "liked"}
    result = trained.ask(Plan.parse({"instruction": "Who is happy?", "steps": [step]}), trained.corpus("reviews"))
    assert result.decision.chosen.name == "registry"
    assert [row["labels"]["liked"]["value"] for row in result.rows()] == [is_positive(t) for t in reviews(30)]


def test_the_same_question_again_is_the_same_answer_and_only_new_documents_are_computed(trained):
    trained.add_documents("reviews", texts=reviews(40))
    first = trained.ask(PLAN, trained.corpus("reviews"))
    again = trained.ask(PLAN, trained.corpus("reviews"))
    assert again.summary.cached
    assert again.output == first.output
    elsewhere = trained.settings.train.model_copy(update={"device": "cpu"})
    other_device = Falconer(home=trained.home.folder, settings=trained.settings.model_copy(update={"train": elsewhere}))
    assert other_device.ask(PLAN, trained.corpus("reviews")).summary.cached
    trained.add_documents("reviews", texts=reviews(45))
    grown = trained.ask(PLAN, trained.corpus("reviews"))
    assert grown.summary.computed == 5
    assert grown.result != first.result
    assert [row["text"] for row in grown.rows()] == reviews(45)
    assert list(first.rows()) == list(grown.rows())[:40]


def test_provenance_reaches_every_row(trained):
    trained.add_documents("a", [{"text": t, "url": f"https://x.example/{i}"} for i, t in enumerate(reviews(12))])
    result = trained.ask(PLAN, trained.corpus("a"))
    assert [row["metadata"]["url"] for row in result.rows()] == [f"https://x.example/{i}" for i in range(12)]
    top = result.summary.findings.top["price"][0]
    assert top.count == 1
    assert list(top.sources) == [f"https://x.example/{int(top.value[1:]) - 100}"]
    example = result.summary.findings.examples[0]
    assert example.id in {row["id"] for row in result.rows()}
    assert example.source.startswith("https://x.example/")


def test_with_nobody_to_ask_the_untrained_base_guesses_and_a_quality_is_refused(trained):
    trained.add_documents("reviews", texts=reviews(20))
    step = {"id": "a", "op": "get_label", "instruction": "Is it about fish?"}
    plan = Plan.parse({"instruction": "x", "steps": [step]})
    assert trained.estimate(plan, trained.corpus("reviews")).chosen.name == "zero-shot"
    guess = trained.ask(plan, trained.corpus("reviews"))
    assert guess.summary.is_untrained
    assert any("guesses of the untrained model" in message for message in guess.summary.messages)
    assert guess.estimates.reason
    with pytest.raises(RunError, match="name an LLM"):
        trained.ask(plan, trained.corpus("reviews"), quality=0.9)


def test_few_texts_are_left_to_the_llm_and_not_paid_twice(llm, server, tmp_path, settings):
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("few", texts=reviews(8))
    result = falconer.ask(PLAN, falconer.corpus("few"), trust=TRUST)
    assert result.decision.chosen.name == "llm"
    assert found(result) == {t: prices(t) if is_positive(t) else [] for t in reviews(8)}
    assert {by for row in result.rows() for by in row["decided_by"].values()} == {"llm"}
    assert result.cost.calls == server.calls
    assert result.cost.usd > 0
    paid = server.calls
    falconer.add_documents("few", texts=reviews(9))
    assert len(list(falconer.ask(PLAN, falconer.corpus("few"), trust=TRUST).rows())) == 9
    assert server.calls - paid <= 2


def test_a_near_proxy_is_verified_before_it_is_trusted(proxy_folder, llm, server, tmp_path, settings):
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("reviews", texts=reviews(48, start=48))
    result = falconer.ask(near_plan(), falconer.corpus("reviews"), trust=TRUST)
    assert result.decision.chosen.name == "similar"
    assert result.decision.chosen.proxy == "laptops"
    assert result.quality.agreement.n == result.estimates.texts == 10
    assert result.estimates.matched.estimate is not None  # by the texts that it was verified on
    assert 0 < result.cost.calls <= 20
    right = [row["labels"]["happy"]["value"] == is_positive(row["text"]) for row in result.rows()]
    assert all(right)


def test_a_near_proxy_that_disagrees_is_not_trusted_and_one_is_trained(proxy_folder, llm, server, tmp_path, settings):
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")

    def contrary(request):
        about_price = "Task: Extract the price" in request["messages"][-1]["content"]
        return json.dumps({k: prices(t) if about_price else not is_positive(t) for k, t in asked(request).items()})

    server.reply = contrary
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("reviews", texts=reviews(60, start=50))
    result = falconer.ask(near_plan(), falconer.corpus("reviews"), trust=TRUST)
    assert result.decision.chosen.name == "train"
    assert {way.name for way in result.decision.others} == {"similar", "zero-shot"}
    assert "too little to trust" in result.decision.others[0].reason
    assert result.cost.calls == server.calls
    assert result.summary.quality
    paid = server.calls
    falconer.add_documents("reviews", texts=reviews(65, start=50))
    grown = falconer.ask(near_plan(), falconer.corpus("reviews"), trust=TRUST)
    assert grown.decision.chosen.name == "registry"
    assert grown.summary.computed == 5
    assert server.calls == paid


# ---- a quality that is asked for


def measured(folder, agreement, by="openai:loopback"):
    """A proxy's manifest, with the agreement on 100 held-out texts that its training found."""
    texts = reviews(100)
    told = annotations(texts)
    missed = round(100 * (1 - agreement))
    wrong = [Answers({"positive": Label(not is_positive(a.text))}) for a in told[:missed]]
    quality = evaluate_plan(PLAN, [a.answers for a in told], [*wrong, *(a.answers for a in told[missed:])])
    Proxy.load(folder).update_manifest(quality=quality.model_dump(mode="json"), annotator=by)


def test_a_trained_proxy_that_was_measured_good_enough_is_used_and_asks_nobody(
    proxy_folder, llm, server, tmp_path, settings
):
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")
    measured(tmp_path / "proxies" / "laptops", 0.99)
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("reviews", texts=reviews(48))
    result = falconer.ask(PLAN, falconer.corpus("reviews"), quality=0.9)
    assert result.decision.chosen.name == "registry"
    assert (result.target.quality, result.target.met) == (0.9, True)
    assert "99% agreement on 100 texts" in result.target.reason
    assert server.calls == 0


@pytest.mark.parametrize(("agreement", "by"), [(0.7, "openai:loopback"), (0.99, "openai:another"), (None, None)])
def test_one_that_was_not_is_verified_on_texts_that_it_never_saw(
    agreement, by, proxy_folder, llm, server, tmp_path, settings
):
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")
    if agreement:
        measured(tmp_path / "proxies" / "laptops", agreement, by)
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("reviews", texts=[*reviews(48), *reviews(96, start=100)])
    first = falconer.estimate(PLAN, falconer.corpus("reviews"), quality=0.7, trust=Trust(verify=50)).chosen
    assert (first.name, first.texts) == ("registry", 50)
    result = falconer.ask(PLAN, falconer.corpus("reviews"), quality=0.7, trust=Trust(verify=50))
    assert result.decision.chosen.name == "registry"
    assert result.target.met
    assert result.quality.agreement.n < 50  # those that it learnt from are no proof
    assert server.calls > 0
    assert result.summary.annotations.source == "openai:loopback"


def test_one_that_falls_short_is_not_used_and_what_is_trained_is_certified(
    proxy_folder, llm, server, tmp_path, settings
):
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")

    def contrary(request):
        about_price = "Task: Extract the price" in request["messages"][-1]["content"]
        return json.dumps({k: prices(t) if about_price else not is_positive(t) for k, t in asked(request).items()})

    server.reply = contrary
    falconer = Falconer(llm, home=tmp_path, settings=settings.model_copy(update={"targets": CERTIFY}))
    falconer.add_documents("reviews", texts=reviews(160, start=50))
    result = falconer.ask(PLAN, falconer.corpus("reviews"), quality=0.8, trust=TRUST)
    assert result.decision.chosen.name == "train"
    assert {way.name for way in result.decision.others} == {"registry", "zero-shot"}
    assert result.target.met == (result.guarantee.certified and not result.guarantee.uncertain)
    assert result.target.reason == " ".join(result.guarantee.statements)
    assert result.summary.proxy != str(tmp_path / "proxies" / "laptops")


def test_without_an_llm_a_proxy_that_falls_short_is_used_and_it_is_said(trained):
    measured(trained.home.folder / "proxies" / "laptops", 0.8)
    trained.add_documents("reviews", texts=reviews(48))
    result = trained.ask(PLAN, trained.corpus("reviews"), quality=0.9)
    assert result.decision.chosen.name == "registry"
    assert not result.target.met
    assert "80% agreement" in result.target.reason
    assert "name an LLM" in result.target.reason


def test_where_no_quality_is_asked_for_a_poor_proxy_is_used_and_its_agreement_told(trained):
    measured(trained.home.folder / "proxies" / "laptops", 0.6)
    trained.add_documents("reviews", texts=reviews(48))
    result = trained.ask(PLAN, trained.corpus("reviews"))
    assert result.target is None
    assert any("60% agreement" in message for message in result.summary.messages)


def test_the_llm_itself_meets_any_quality(llm, tmp_path, settings):
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    result = falconer.ask(PLAN, texts=reviews(12), quality=0.99)
    assert result.decision.chosen.name == "llm"
    assert result.target.met


def test_another_llm_and_another_quality_are_another_answer(llm, server, tmp_path, settings):
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("few", texts=reviews(8))
    first = falconer.ask(PLAN, falconer.corpus("few"))
    assert falconer.ask(PLAN, falconer.corpus("few")).result == first.result
    model = ChatOpenAI(base_url=server.base_url, api_key="test-key", model="another", max_retries=0)
    other = Falconer(model, home=tmp_path, settings=settings)
    answers = [other.ask(PLAN, other.corpus("few")), falconer.ask(PLAN, falconer.corpus("few"), quality=0.9)]
    assert len({first.result, *(one.result for one in answers)}) == 3
    assert answers[0].summary.annotations.source == "openai:another"


@pytest.mark.parametrize("quality", [0, 1, -0.5, 90])
def test_a_quality_is_a_share(quality, trained):
    with pytest.raises(SettingsError, match="between 0 and 1"):
        trained.ask(PLAN, texts=reviews(3), quality=quality)


def test_caps_hold_for_what_is_asked_before_and_in_training_together(llm, server, tmp_path, settings):
    capped = settings.model_copy(update={"budget": settings.budget.model_copy(update={"max_calls": 3})})
    falconer = Falconer(llm, home=tmp_path, settings=capped)
    falconer.add_documents("reviews", texts=reviews(60))
    with pytest.raises(BudgetError, match="max_calls"):
        falconer.ask(PLAN, falconer.corpus("reviews"), trust=TRUST)
    assert server.calls <= 3


def test_costs_are_told_before_anything_is_paid(llm, server, tmp_path, settings):
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("reviews", texts=reviews(60))
    decision = falconer.estimate(PLAN, falconer.corpus("reviews"), trust=TRUST)
    assert [decision.chosen.name, *(way.name for way in decision.others)] == ["zero-shot", "train"]
    assert decision.break_even.texts_by_tokens == settings.annotations + 1
    assert decision.others[0].usd > decision.chosen.usd > 0
    assert server.calls == 0


def test_the_cost_model_favours_training_exactly_beyond_the_break_even():
    def gain(texts):
        costs = CostModel(texts, chars=200, steps=2, annotations=300, price=Price(1.0, 2.0, "as set"))
        return costs.strategy("llm", texts).tokens - costs.strategy("train", 300).tokens

    costs = CostModel(300, chars=200, steps=2, annotations=300)
    assert gain(300) == 0
    assert gain(costs.break_even.texts_by_tokens) > 0
    at = costs.break_even.texts_by_seconds
    for texts, sign in ((at - 20, -1), (at + 20, 1)):
        here = CostModel(texts, chars=200, steps=2, annotations=300)
        assert (here.strategy("llm", texts).seconds - here.strategy("train", 300).seconds) * sign > 0


def test_a_persons_annotations_train_where_there_is_no_llm(tmp_path, settings):
    labels = write_lines(tmp_path / "labels.jsonl", map(annotation_row, reviews(30)))
    falconer = Falconer(annotations=labels, home=tmp_path / "home", settings=MineSettings.model_validate(settings))
    falconer.add_documents("reviews", texts=reviews(40))
    falconer.add_documents("reviews", texts=reviews(50))
    result = falconer.ask(PLAN, falconer.corpus("reviews"))
    assert result.decision.chosen.name == "train"
    assert [row["text"] for row in result.rows()] == reviews(50)
    assert list(falconer.mine("x", falconer.corpus("reviews"), plan=PLAN).rows()) == list(result.rows())
    falconer.add_documents("reviews", texts=reviews(53))
    assert falconer.ask(PLAN, falconer.corpus("reviews")).summary.computed == 3


# ---- what the LLM did not answer, and what is not known


def silent_about(*texts):
    """A teacher that answers `{}` where one of these texts is asked about."""
    return lambda request: "{}" if {*texts} & {*asked(request).values()} else teacher(request)


def test_an_llm_that_answers_half_of_the_texts_is_not_called_the_answer(llm, server, tmp_path, settings):
    texts = [*reviews(4), reviews(4)[3]]  # the last one twice: rows are counted
    server.reply = silent_about(*texts[2:])
    label = Plan.parse({"instruction": "x", "steps": [STEPS[0]]})
    partial = Falconer(llm, home=tmp_path, settings=settings).ask(label, texts=texts, quality=0.9)
    assert [row["decided_by"]["positive"] for row in partial.rows()] == ["llm", "llm", "proxy", "proxy", "proxy"]
    assert partial.summary.unanswered == 3
    assert any("answered 2 of 5 texts" in message for message in partial.summary.messages)
    assert not partial.target.met
    server.reply = teacher
    paid = server.calls
    whole = Falconer(llm, home=tmp_path, settings=settings).ask(label, texts=texts, quality=0.9)
    assert {row["decided_by"]["positive"] for row in whole.rows()} == {"llm"}
    assert (whole.summary.unanswered, whole.target.met) == (0, True)
    assert server.calls == paid + 1  # two open texts share a call; nothing is paid twice


def test_texts_to_verify_on_are_drawn_apart_from_those_that_training_measures_on(llm, tmp_path, settings):
    corpus = write_lines(tmp_path / "corpus.jsonl", ({"text": t} for t in reviews(600)))
    dataset = Dataset.of_files([corpus], settings.corpus)
    context = NodeContext(Falconer(llm, home=tmp_path, settings=settings).home, llm, settings)
    router = Router(context, PLAN, dataset, AskOptions(trust=TRUST))
    verified, rest = router.stats.sample[: router.n_verify], router.stats.sample[router.n_verify :]
    assert len(verified) == 10
    assert not {*verified} & {*rest}  # backends are chosen on others, too
    held_out = CorpusStats.of(dataset, settings.passage_chars, settings.seed, settings.annotations).sample
    assert len({*verified} & {*held_out}) < 5  # by chance: 30 of 600


def test_where_not_even_the_base_answers_untrained_a_proxy_is_trained(tiny_cuckoo, llm, tmp_path, settings):
    corpus = write_lines(tmp_path / "corpus.jsonl", ({"text": t} for t in reviews(600)))
    settings = settings.model_copy(update={"base": tiny_cuckoo})
    dataset = Dataset.of_files([corpus], settings.corpus)
    context = NodeContext(Falconer(llm, home=tmp_path, settings=settings).home, llm, settings)
    router = Router(context, PLAN, dataset, AskOptions(trust=TRUST))
    state = {"run_id": "run", "instruction": PLAN.instruction, "corpus": [str(corpus)], "plan": PLAN.to_dict()}
    assert router.choose(state).strategy.name == "train"


def test_several_measured_proxies_share_the_error_of_the_best(proxy_folder, llm, tmp_path, settings):
    """One that alone is known to reach the quality is not known to, where it is the best of ten."""
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "best")
    measured(tmp_path / "proxies" / "best", 0.96)
    falconer = Falconer(llm, home=tmp_path, settings=settings)
    falconer.add_documents("reviews", texts=reviews(48))
    low = Proxy.load(tmp_path / "proxies" / "best").manifest["quality"]["agreement"]["low"]
    required = low - 0.005
    chosen = falconer.estimate(PLAN, falconer.corpus("reviews"), quality=required).chosen
    assert (chosen.name, chosen.texts) == ("registry", 0)
    for i in range(9):
        shutil.copytree(tmp_path / "proxies" / "best", tmp_path / "proxies" / f"other-{i}")
        measured(tmp_path / "proxies" / f"other-{i}", 0.8)
    decision = falconer.estimate(PLAN, falconer.corpus("reviews"), quality=required)
    assert not any(way.name == "registry" and way.texts == 0 for way in (decision.chosen, *decision.others))


def test_an_unknown_price_is_unknown_and_no_projection_is_below_what_was_spent(server, tmp_path, settings):
    unpriced = Falconer(llm_at(server), home=tmp_path, settings=settings)
    estimate = unpriced.estimate(PLAN, texts=reviews(8))
    assert estimate.chosen.usd is None
    server.reply = lambda request: {
        "content": teacher(request),
        "usage": {"prompt_tokens": 9_000, "completion_tokens": 9},
    }
    result = unpriced.ask(PLAN, texts=reviews(8))
    assert result.cost.usd is None
    assert result.decision.chosen.usd is None
    assert result.cost.tokens_for_every_text >= result.cost.tokens
    assert result.decision.prices is None
    page = result.report(tmp_path / "report.html").read_text("utf-8")
    assert "no price known" in page
    assert "$0" not in page.replace("$0.", "")


def test_what_asks_nobody_costs_nothing_whatever_the_price(trained):
    trained.add_documents("reviews", texts=reviews(12))
    assert trained.ask(PLAN, trained.corpus("reviews")).decision.chosen.usd == 0
