"""How the metamodel is made: tasks drawn from sets, the loop and its checkpoints, an LLM's answers, the recipe."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from langchain_openai import ChatOpenAI
from laptops import PLAN, annotations, is_positive, prices, reviews
from loopback import ChatServer
from safetensors.torch import load_file

import langchain_falconer.model
from langchain_falconer.errors import CorpusError, LLMError, SettingsError
from langchain_falconer.falconer import Falconer
from langchain_falconer.llm import LLM
from langchain_falconer.model import Embedder, Proxy, save_metamodel
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.pretrain import (
    LABELS,
    MARKS,
    SHIPPED,
    LabelSource,
    MarkedText,
    Mixture,
    NextTokensSource,
    OpenSource,
    PairSource,
    PretrainSettings,
    Recipe,
    SpanSource,
    distil,
    filled,
    named,
    pretrain,
    sections,
    sources,
)
from langchain_falconer.settings import DEFAULT_BASE, MineSettings, TrainSettings
from langchain_falconer.train import train_proxy

DATA = Path(__file__).parents[2] / "shared" / "data"
REVIEWS = reviews(80)
SEED = random.Random


def price_rows():
    for text in REVIEWS:
        found = [(text.index(p), text.index(p) + len(p)) for p in prices(text)]
        yield MarkedText(text, {"price": found, "$": found[:1]} if found else {})


def price_source(**options):
    return SpanSource(list(price_rows()), "review", ("disease",), {"price": "What does it cost?"}, **options)


def mood_source(**options):
    rows = [(t, ["good" if is_positive(t) else "bad"]) for t in REVIEWS]
    classes = {"good": ("positive", "good"), "bad": ("negative", "bad")}
    return LabelSource(rows, classes, ("Is the review positive?", "How is it?"), **options)


def manifold_source():
    rows = [(f"text {i}", [c for c in "abcdef" if i % (ord(c) - 95) == 0]) for i in range(1, 60)]
    return LabelSource(rows, {c: (c, f"the letter {c}") for c in "abcdef"}, ("Which letters?",), exclusive=False)


def pair_source():
    return PairSource([(f"left {i % 7}", f"right {i % 7}") for i in range(30)], ("Which goes with it?",))


def next_source():
    text = "The old mill stood by the river, and nobody had used the "
    return NextTokensSource([(text, "nobody had used the", [(4, 12)])] * 3)


def open_source():
    return OpenSource(
        [
            MarkedText("Olaf Scholz leads the SPD.", {"politician": [(0, 11)], "political party": [(22, 25)]}),
            MarkedText("The Greens won in Bremen.", {"party": [(4, 10)], "city": [(18, 24)]}),
            MarkedText("Heat stars Al Pacino.", {"film": [(0, 4)], "person": [(11, 20)]}),
        ]
    )


ALL = [price_source, mood_source, manifold_source, pair_source, next_source, open_source]


# ---- tasks


@pytest.mark.parametrize("make", ALL)
def test_a_task_answers_only_what_it_asks_and_within_its_texts(make):
    source = make()
    for seed in range(60):
        task = source.draw(SEED(seed), 12)
        assert task.examples
        steps = {s.id: s for s in task.index.steps}
        for example in task.examples:
            assert {*example.labels, *example.spans} <= set(steps)
            for spans in example.spans.values():
                assert all(0 <= a < b <= len(example.text) for a, b in spans)
            for name, value in example.labels.items():
                step = steps[name]
                assert isinstance(step, LabelStep)
                if step.kind == "yes_no":
                    assert isinstance(value, bool)
                else:
                    assert set([value] if step.kind == "choice" else value) <= set(step.names)
        if isinstance(source, PairSource):
            assert len({e.labels["p"] for e in task.examples}) == len(task.examples)


@pytest.mark.parametrize("make", ALL)
def test_the_same_seed_draws_the_same_task(make):
    one, other = (make().draw(SEED(5), 12) for _ in range(2))
    assert one == other


def test_spans_are_asked_for_in_many_wordings_and_types_that_no_text_holds_too():
    drawn = [price_source(mentions=0.0).draw(SEED(i), 8) for i in range(80)]
    asked = {s.instruction for task in drawn for s in task.index.steps}
    assert len(asked) > 12
    assert "What does it cost?" in asked
    assert any("disease" in words or "illness" in words for words in asked)
    for task in drawn:
        for step in task.index.steps:
            assert isinstance(step, SpanStep)
            if "disease" in step.instruction:
                assert not any(e.spans[step.id] for e in task.examples)


def test_mentions_are_yes_no_or_which_of_them():
    tasks = [price_source(mentions=1.0).draw(SEED(i), 8) for i in range(20)]
    kinds = {s.kind for task in tasks for s in task.index.steps if isinstance(s, LabelStep)}
    assert kinds == {"yes_no", "multi"}


def test_a_type_of_another_text_is_absent_unless_it_may_be_there():
    task = open_source().draw(SEED(1), 3)
    named = {
        word: s.id
        for s in task.index.steps
        for word in ("politician", "party", "film", "person", "city")
        if word in s.instruction
    }
    answers = {e.text.split()[0]: e.spans for e in task.examples}
    assert answers["Olaf"][named["film"]] == []
    assert answers["Heat"][named["city"]] == []
    assert named["party"] not in answers["Olaf"] or answers["Olaf"][named["party"]]  # it names a political party
    assert named["person"] not in answers["Olaf"]  # a politician is a person


def test_names_of_news_are_marked_by_type_and_family_and_only_where_all_are_known():
    known = "Tony Blair led Labour into the 2001 general election, Chelsea beat Arsenal."
    rows = list(named([known, "Tony Blair met Zebediah Quux.", "nobody is named here."]))
    assert [row.text for row in rows] == [known]
    found = {kind: [known[a:b] for a, b in spans] for kind, spans in rows[0].spans.items()}
    assert found["politician"] == found["person"] == ["Tony Blair"]
    assert found["political party"] == ["Labour"]
    assert found["election"] == found["event"] == ["2001 general election"]
    assert found["sports club"] == ["Chelsea", "Arsenal"]
    assert set(found["organisation"]) == {"Labour", "Chelsea", "Arsenal"}


@pytest.mark.parametrize("name", sections())
def test_sentences_to_fill_in_are_whole_and_marked_where_they_stand(name):
    made = filled(sections()[name], 300)
    assert made == filled(sections()[name], 300)
    for _, row in made:
        assert not set("{}") & set(row.text)
        assert all(row.text[a:b].strip() == row.text[a:b] != "" for spans in row.spans.values() for a, b in spans)
    signs = {sign for sign, _ in made}
    assert signs == ({"positive", "negative", "neutral"} if name.startswith(("review", "opinion")) else {""})


def test_a_mixture_draws_by_weight_and_knows_its_sources():
    mixture = Mixture({"p": price_source(), "m": mood_source()}, {"p": 3, "m": 1})
    names = [mixture.draw(SEED(i), 4)[0] for i in range(400)]
    assert 250 < names.count("p") < 350
    with pytest.raises(SettingsError, match="the mix names x: no such source"):
        Mixture({"p": price_source()}, {"x": 1})


def test_the_shipped_recipe_holds_out_what_the_benchmark_scores():
    recipe = Recipe.read(SHIPPED)
    assert {"snips", "crossner_politics"} <= set(recipe.holdout)
    assert not any(name.startswith(held) for name in recipe.mix for held in recipe.holdout)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"name": "x"}', "settings: Field required"), ("not json", "Invalid JSON"), (None, "cannot be read")],
)
def test_a_broken_recipe_is_one_sentence(tmp_path, text, message):
    file = tmp_path / "recipe.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        Recipe.read(file)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
def test_a_recipe_goes_on_from_what_its_start_makes(tiny_bert, tmp_path):
    settings = PretrainSettings(base=str(tiny_bert), steps=1, texts=4, tasks=1, keep=0)
    start = Recipe(name="first", settings=settings, mix={"name_sentences": 1})
    recipe = Recipe(name="second", settings=settings, mix={"film_questions": 1}, start=start)
    card = langchain_falconer.pretrain.make(recipe, DATA, tmp_path / "made")
    assert card["recipe"]["start"]["mix"] == {"name_sentences": 1}
    first, second = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "made" / "start", tmp_path / "made")
    )
    change = max(float((first[name].float() - second[name].float()).abs().max()) for name in first)
    assert 1e-6 < change < 0.01  # one step on from what the start made


def test_data_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(CorpusError, match="name their folder with --data"):
        sources(tmp_path)


# ---- the loop


def settings_of(base, steps, **more):
    brief = {"learning_rate": 3e-3, "checkpoint_every": 5, "texts": 16}
    return PretrainSettings.model_validate({"base": base, "steps": steps, **brief, **more})


def weights(model):
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def test_cut_short_and_gone_on_with_it_is_the_same_as_undisturbed(tiny_bert, tmp_path):
    mixture = Mixture({"p": price_source(), "m": mood_source()}, {"p": 1, "m": 1})

    class CutError(Exception):
        pass

    def cut(rng, size):
        if len(seen) == 16:
            raise CutError
        seen.append(1)
        return mixture.draw(rng, size)

    seen: list[int] = []
    settings = settings_of(tiny_bert, 12)
    whole, _ = pretrain(mixture.draw, REVIEWS, settings, tmp_path / "whole")
    with pytest.raises(CutError):
        pretrain(cut, REVIEWS, settings, tmp_path / "cut")
    resumed, _ = pretrain(mixture.draw, REVIEWS, settings, tmp_path / "cut")
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole).values(), weights(resumed).values(), strict=True))


@pytest.fixture(scope="module")
def metamodel(tiny_bert, tmp_path_factory):
    """A metamodel that knows prices and moods in words other than those of the plan."""
    folder = tmp_path_factory.mktemp("metamodel")
    mixture = Mixture({"p": price_source(mentions=0.0), "m": mood_source()}, {"p": 1, "m": 1})
    model, tokenizer = pretrain(
        mixture.draw, REVIEWS, settings_of(tiny_bert, 300, keep=0.0, learning_rate=1e-3), folder / "checkpoints"
    )
    save_metamodel(model, tokenizer, folder, {"recipe": "toy"})
    return str(folder)


def test_a_metamodel_answers_before_any_training(metamodel, tiny_bert):
    def right(base):
        proxy = Proxy.zero_shot(PLAN, base=base)
        spans = [[s.text for s in found] for found in proxy.get_span(REVIEWS, "Extract the price")]
        moods = proxy.get_label(REVIEWS, "How is the review?", ["positive", "negative"])
        hits = sum(
            m.value == ("positive" if is_positive(t) else "negative") for m, t in zip(moods, REVIEWS, strict=True)
        )
        return sum(s == prices(t) for s, t in zip(spans, REVIEWS, strict=True)) / len(REVIEWS), hits / len(REVIEWS)

    pretrained, bare = right(metamodel), right(tiny_bert)
    assert min(pretrained) > 0.9
    assert min(bare) < 0.7


def test_a_zero_shot_proxy_is_kept_like_any_other(metamodel, tmp_path):
    proxy = Proxy.zero_shot(PLAN, base=metamodel)
    before = proxy.answers(REVIEWS, apply_conditions=False)
    proxy.save(tmp_path / "p")
    proxy.export()
    loaded = Proxy.load(tmp_path / "p")
    assert loaded.manifest["data"]["annotations"] == 0
    assert [a.labels["positive"].value for a in loaded.answers(REVIEWS, apply_conditions=False)] == [
        a.labels["positive"].value for a in before
    ]


def test_the_first_answer_needs_no_torch(metamodel):
    code = f"""
import sys
from langchain_falconer.plan import Plan
from langchain_falconer.model import Proxy
plan = Plan.parse({PLAN.to_dict()!r})
Proxy.zero_shot(plan, base={metamodel!r}).answers(["It was $20."])
print(sorted({{"torch", "transformers"}} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_training_starts_from_what_the_metamodel_knows(metamodel, tiny_bert):
    few, brief = annotations(REVIEWS[:6]), TrainSettings(epochs=1, learning_rate=2e-5)
    unseen = REVIEWS[40:70]

    def right(base):
        found = train_proxy(PLAN, few, base=base, settings=brief).get_span(unseen, "Extract the price")
        return sum([s.text for s in one] == prices(t) for one, t in zip(found, unseen, strict=True))

    assert right(metamodel) > right(tiny_bert) + 5


def test_many_annotations_take_a_metamodel_fewer_passes_and_few_as_many(metamodel, tiny_bert):
    def steps(base, texts, **settings):
        return train_proxy(PLAN, annotations(texts), base=base, settings=TrainSettings(**settings)).manifest[
            "training"
        ]["steps"]

    many = reviews(200)
    assert steps(metamodel, many) < steps(tiny_bert, many) == steps(metamodel, many, reset_head=True)
    assert steps(metamodel, many[:60]) == steps(tiny_bert, many[:60])


def test_a_training_that_makes_it_worse_is_said_and_undone(metamodel, tiny_bert, tmp_path):
    labels, corpus = tmp_path / "labels.jsonl", tmp_path / "corpus.txt"
    rows = [{"text": row.text, "spans": {"price": row.spans.get("price", [])}} for row in price_rows()]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = Plan.parse(
        {"instruction": "prices", "steps": [{"id": "price", "op": "get_span", "instruction": "the price"}]}
    )
    corpus.write_text("\n".join(reviews(10, start=500)))

    def mined(base, home, **train):
        settings = MineSettings(base=base, train=TrainSettings(**train))
        falconer = Falconer(annotations=labels, home=tmp_path / home, settings=settings)
        return falconer.mine("prices", corpus, plan=plan)

    wild = mined(metamodel, "wild", learning_rate=0.5, epochs=2)
    assert "training made the proxy worse" in " ".join(wild.summary.messages)
    assert wild.quality.agreement.value > 0.8
    assert not mined(tiny_bert, "calm", learning_rate=5e-3, epochs=30).summary.messages


def test_the_sentence_space_is_kept(tiny_bert, tmp_path):
    mixture = Mixture({"p": price_source()}, {"p": 1})

    def drift(keep):
        model, tokenizer = pretrain(mixture.draw, REVIEWS, settings_of(tiny_bert, 30, keep=keep), tmp_path / str(keep))
        save_metamodel(model, tokenizer, tmp_path / f"m{keep}", {})
        before, after = (Embedder(base)(REVIEWS) for base in (tiny_bert, str(tmp_path / f"m{keep}")))
        return 1 - np.mean(np.sum(before * after, axis=1))

    assert drift(20.0) < drift(0.0) / 2


# ---- an LLM's answers


def llm_at(server):
    return LLM(ChatOpenAI(base_url=server.base_url, api_key="test-key", model="loopback", max_retries=0))


def test_an_llm_labels_texts_once_and_no_text_is_kept(tmp_path):
    answer = json.dumps({"t": "a bus", "f": "travel", "s": "negative", "e": "anger", "p": "complain"})
    file = tmp_path / "answers.jsonl.gz"
    with ChatServer(lambda request: answer) as server:
        assert distil(llm_at(server), LABELS, ["the bus never came", "late again"], file) == 2
        assert distil(llm_at(server), LABELS, ["late again", "the bus never came", "third"], file) == 3
        assert server.calls == 3
    with gzip.open(file, "rt") as lines:
        kept = lines.read()
    assert "late again" not in kept
    assert kept.count('"emotion": "anger"') == 3


def test_what_an_llm_marks_is_kept_as_offsets_of_verbatim_names(tmp_path):
    text = "Olaf Scholz met the press in Berlin."
    marked = [("Olaf Scholz", "Politician"), ("met the press", "action"), ("Paris", "city"), ("Berlin", "capital city")]
    answer = json.dumps({"x": [{"q": quote, "t": kind} for quote, kind in marked]})
    file = tmp_path / "answers.jsonl.gz"
    with ChatServer(lambda request: answer) as server:
        assert distil(llm_at(server), MARKS, [text], file) == 1
        assert distil(llm_at(server), MARKS, [text], file) == 1
        assert server.calls == 1
    with gzip.open(file, "rt") as lines:
        row = json.loads(lines.read())
    assert row["marks"] == {"politician": [[0, 11]], "capital city": [[29, 35]]}


def test_a_text_that_the_llm_fails_on_is_asked_again_next_time(tmp_path):
    with ChatServer(lambda request: "no JSON") as server:
        assert distil(llm_at(server), LABELS, ["a text"], tmp_path / "a.gz") == 0
        assert not (tmp_path / "a.gz").exists()
        with pytest.raises(LLMError, match="gives no usable answers"):
            distil(llm_at(server), LABELS, [f"text {i}" for i in range(30)], tmp_path / "a.gz")


# ---- what ships


def test_the_shipped_metamodel_is_small_has_a_card_and_answers():
    folder = Path(langchain_falconer.model.__file__).parent / DEFAULT_BASE
    assert sum(f.stat().st_size for f in folder.iterdir()) < 50e6
    assert "Apache-2.0" in (folder / "README.md").read_text("utf-8")
    assert json.loads((folder / "recipe.json").read_text("utf-8"))["recipe"] == Recipe.read().model_dump(mode="json")
    steps = [
        {
            "id": "topic",
            "op": "get_label",
            "instruction": "What is it about?",
            "labels": ["sports", "business", "politics"],
        },
        {"id": "place", "op": "get_span", "instruction": "Extract locations."},
    ]
    proxy = Proxy.zero_shot(Plan.parse({"instruction": "topics and places", "steps": steps}))
    texts = [
        "The striker scored twice in the final.",
        "Shares of the bank fell by 3%.",
        "She flew from Paris to Tokyo.",
    ]
    answers = proxy.answers(texts)
    assert [a.labels["topic"].value for a in answers[:2]] == ["sports", "business"]
    assert [s.text for s in answers[2].spans["place"]] == ["Paris", "Tokyo"]
