"""How the metamodel is made: tasks drawn from datasets, the loop and its checkpoints, bundles, the recipe."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from laptops import PLAN, annotations, is_positive, prices, reviews
from safetensors.torch import load_file

import langchain_falconer.model
from langchain_falconer.errors import CorpusError, ProxyError, SettingsError
from langchain_falconer.falconer import Falconer
from langchain_falconer.model import Embedder, Proxy, save_metamodel
from langchain_falconer.model.encoder import load_tokenizer
from langchain_falconer.model.metamodel import load_model
from langchain_falconer.plan import Plan
from langchain_falconer.pretrain import (
    Anchors,
    LabelSource,
    Mixture,
    PretrainSettings,
    QuestionSource,
    Recipe,
    SpanSource,
    StepMaker,
    adopt,
    make,
    pretrain,
    read_datasets,
    read_written,
    write_bundle,
)
from langchain_falconer.settings import DEFAULT_BASE, MineSettings, TrainSettings
from langchain_falconer.train import train_proxy

REVIEWS = reviews(80)
SEED = random.Random


def price_rows():
    for text in REVIEWS:
        found = [(text.index(p), text.index(p) + len(p)) for p in prices(text)]
        yield text, {"price": found} if found else {}


def price_source(**options):
    names = {"price": ["price", "amount of money", "What does it cost?"]}
    return SpanSource(list(price_rows()), names, "review", **options)


def mood_source(**options):
    rows = [(t, ["good" if is_positive(t) else "bad"]) for t in REVIEWS]
    names = {"good": ["positive", "good"], "bad": ["negative", "bad"]}
    return LabelSource(rows, names, ["Is the review positive?", "How is it?"], **options)


def many_source():
    rows = [(f"text {i}", [c for c in "abcdef" if i % (ord(c) - 95) == 0]) for i in range(1, 60)]
    return LabelSource(rows, {c: [c, f"the letter {c}"] for c in "abcdef"}, ["Which letters?"], exclusive=False)


def three_source():
    rows = [(f"text {i}", ["abc"[i % 3]]) for i in range(1, 60)]
    return LabelSource(rows, {c: [c] for c in "abc"}, ["Which letter?"])


def yes_no_source():
    return LabelSource(
        [(f"text {i}", ["yes" if i % 2 else "no"]) for i in range(20)], {"yes": ["yes"], "no": ["no"]}, ["Is i odd?"]
    )


def question_source():
    return QuestionSource(
        [
            (
                f"Text {i} names Bob.",
                f"Whom does text {i} name?",
                [(len(f"Text {i} names "), len(f"Text {i} names Bob"))],
            )
            for i in range(20)
        ]
    )


ALL = [price_source, mood_source, many_source, three_source, yes_no_source, question_source]


# ---- tasks


@pytest.mark.parametrize("make_source", ALL)
def test_a_task_answers_only_what_it_asks_and_within_its_texts(make_source):
    source = make_source()
    for seed in range(60):
        task = source.draw(SEED(seed), 12)
        assert 0 < len(task.texts) <= 12
        for question in task.spans:
            assert question.words
            for row, spans in question.answers.items():
                assert all(0 <= a < b <= len(task.texts[row]) for a, b in spans)
        for question in task.labels:
            assert len(set(question.options)) == len(question.options) > 0
            for row, answer in question.answers.items():
                assert 0 <= row < len(task.texts)
                if question.exclusive:
                    assert 0 <= answer < len(question.options)
                else:
                    assert len(answer) == len(question.options)


@pytest.mark.parametrize("make_source", ALL)
def test_the_same_seed_draws_the_same_task(make_source):
    assert make_source().draw(SEED(3), 8) == make_source().draw(SEED(3), 8)


def test_spans_are_asked_for_in_many_wordings_and_types_that_no_text_holds_too():
    source = price_source(mentions=0.0)
    questions = [q for seed in range(80) for q in source.draw(SEED(seed), 8).spans]
    assert len({q.words for q in questions}) > 40
    assert any(not any(q.answers.values()) for q in questions)
    assert any(any(q.answers.values()) for q in questions)


def test_a_question_goes_astray_only_to_texts_that_do_not_answer_it():
    source = question_source()
    astray = 0
    for seed in range(30):
        task = source.draw(SEED(seed), 8)
        for question in task.spans:
            for row, spans in question.answers.items():
                own = question.words.split()[3] == task.texts[row].split()[1]
                assert bool(spans) == own
                astray += not own
    assert astray > 10


def test_none_of_these_is_the_answer_of_texts_whose_class_is_not_shown():
    hidden, answers = 0, set()
    for seed in range(200):
        for question in three_source().draw(SEED(seed), 9).labels:
            if question.exclusive and not set(question.options) <= set("abc"):
                hidden += 1
                assert len(question.options) == 3
                assert question.options[2] not in "abc"
                answers |= set(question.answers.values())
    assert hidden > 10
    assert answers == {0, 1, 2}


def test_a_mixture_draws_by_weight():
    mixture = Mixture({"p": price_source(), "m": mood_source()}, {"p": 3, "m": 1})
    drawn = [mixture.draw(SEED(i), 2)[0] for i in range(400)]
    assert 0.65 < drawn.count("p") / len(drawn) < 0.85


# ---- datasets


def write_dataset(folder, meta, rows, *, part="train", packed=False):
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
    content = "".join(json.dumps(row) + "\n" for row in rows)
    if packed:
        with gzip.open(folder / f"{part}.jsonl.gz", "wt") as out:
            out.write(content)
    else:
        (folder / f"{part}.jsonl").write_text(content, "utf-8")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    spans = [
        {
            "text": t,
            "labels": {"mood": "good" if is_positive(t) else "bad", "tags": ["a", "b"][: i % 3]},
            "spans": [
                {"start": a, "end": b, "label": "price", "polarity": "high" if i % 2 else "low"}
                for a, b in s.get("price", [])
            ],
        }
        for i, (t, s) in enumerate(price_rows())
    ]
    meta = {
        "kind": "review",
        "instructions": {
            "spans": {"price": "Extract the prices (with currency)"},
            "labels": {
                "mood": {"prompt": "How is it?", "classes": {"good": "it is liked", "bad": "it is not"}},
                "tags": {"prompt": "Which tags?", "classes": ["a", "b"]},
            },
        },
    }
    write_dataset(folder / "reviews", meta, spans, packed=True)
    asked = [
        {"text": f"Text {i} names Bob.", "question": "Who?", "answers": [[0, 4]] if i % 2 else []} for i in range(20)
    ]
    write_dataset(folder / "asked", {"kind": "text"}, asked, part="qa")
    return folder


def test_a_dataset_is_read_by_its_meta_data_alone(data):
    sources = read_datasets([data])
    assert set(sources) == {"reviews/spans", "reviews/mood", "reviews/tags", "reviews/polarity", "asked/questions"}
    assert sources["reviews/spans"].names == {
        "price": ["Extract the prices (with currency)", "prices (with currency)", "prices", "price"]
    }
    assert sources["reviews/mood"].names == {"good": ["good", "it is liked"], "bad": ["bad", "it is not"]}
    assert sources["reviews/mood"].exclusive
    assert not sources["reviews/tags"].exclusive
    text, (polarity,) = sources["reviews/polarity"].rows[0]
    assert "« " in text
    assert polarity in ("high", "low")


def test_a_dataset_that_is_held_out_is_not_read(data):
    assert set(read_datasets([data], ["reviews"])) == {"asked/questions"}


def test_spans_of_long_texts_stay_where_they_are(tmp_path):
    text = "Nothing is said here. " * 60 + "It cost $40 in the end. " + "Nor here. " * 60
    at = text.index("$40")
    rows = [{"text": text, "labels": {}, "spans": [{"start": at, "end": at + 3, "label": "price"}]}] * 8
    write_dataset(tmp_path / "d" / "long", {"instructions": {"spans": {"price": "Extract prices"}}}, rows)
    source = read_datasets([tmp_path / "d"])["long/spans"]
    found = [t[a:b] for t, spans in source.rows for a, b in spans.get("price", [])]
    assert found == ["$40"] * 8
    assert max(len(t) for t, _ in source.rows) <= 500


def test_a_folder_without_datasets_or_with_a_broken_one_is_one_sentence(tmp_path):
    with pytest.raises(CorpusError, match="holds no dataset"):
        read_datasets([tmp_path])
    write_dataset(tmp_path / "broken", {"instructions": {"spans": {"x": "Extract x"}}}, [{"words": "no text"}])
    with pytest.raises(CorpusError, match="broken") as error:
        read_datasets([tmp_path])
    assert error.value.path == tmp_path / "broken"


def test_the_written_texts_are_marked_where_they_say():
    sources = read_written()
    assert sum(map(len, sources.values())) > 3_000
    for source in sources.values():
        if isinstance(source, SpanSource):
            assert all(
                "⟦" not in text and 0 <= a < b <= len(text)
                for text, spans in source.rows
                for own in spans.values()
                for a, b in own
            )
            assert {name for _, spans in source.rows for name in spans} <= set(source.names)
        else:
            assert {name for _, classes in source.rows for name in classes} <= set(source.names)


@pytest.mark.parametrize(
    "block", ["# A | text | b: bee\nHe saw ⟦it|c⟧.", "? Which? | text\n= a: one\nb > No such class."]
)
def test_a_written_block_that_names_what_it_does_not_declare_is_refused(tmp_path, block):
    (tmp_path / f"{'spans' if block[0] == '#' else 'labels'}_A.txt").write_text(block, "utf-8")
    with pytest.raises(CorpusError, match="block 1"):
        read_written(tmp_path)


# ---- the recipe


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot be read"),
        ("{", "recipe"),
        ('{"name": "x", "settings": {"steps": 5, "seconds": 5}}', "either steps or seconds"),
        ('{"name": "x", "settings": {"steps": 5}, "mix": {}}', "mix"),
    ],
)
def test_a_broken_recipe_is_one_sentence(tmp_path, text, match):
    file = tmp_path / "recipe.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=match):
        Recipe.read(file)


def test_the_shipped_recipe_holds_out_what_the_benchmark_scores():
    from langchain_falconer.benchmarks.harness import SETS

    assert {s.name for s in SETS} <= set(Recipe.read().holdout)


# ---- the loop


def settings_of(steps, **more):
    return PretrainSettings(
        **{"steps": steps, "learning_rate": 3e-3, "checkpoint_every": 5, "texts": 16, "tasks": 2, "keep": 0.0, **more}
    )


def maker_of(base, mixture, settings):
    vectors = Embedder(base)(REVIEWS).astype(np.float16) if settings.keep else np.zeros((0, 1), np.float16)
    anchors = Anchors(REVIEWS if settings.keep else [], vectors)
    return StepMaker(mixture, anchors, load_tokenizer(base), settings)


def start(base):
    torch.manual_seed(0)  # the weights that a bare encoder lacks are random
    return load_model(base)


def pretrained(base, mixture, settings, folder, **options):
    model = start(base)
    pretrain(model, maker_of(base, mixture, settings), folder, **options)
    return model


def weights(model):
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def test_a_run_that_was_cut_short_and_resumed_equals_an_undisturbed_one(tiny_bert, tmp_path):
    mixture = Mixture({"p": price_source(), "m": mood_source()}, {"p": 1, "m": 1})

    class CutError(Exception):
        pass

    class Cut(StepMaker):
        def make(self, step):
            if step == 8:
                raise CutError
            return super().make(step)

    settings = settings_of(12, keep=1.0)
    whole = pretrained(str(tiny_bert), mixture, settings, tmp_path / "whole")
    maker = maker_of(str(tiny_bert), mixture, settings)
    with pytest.raises(CutError):
        pretrain(start(str(tiny_bert)), Cut(**vars(maker)), tmp_path / "cut")
    resumed = pretrained(str(tiny_bert), mixture, settings, tmp_path / "cut")
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole).values(), weights(resumed).values(), strict=True))


@pytest.mark.timeout(60)
def test_steps_made_in_worker_processes_are_the_same(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # as the command line sets it
    mixture = Mixture({"p": price_source(), "m": mood_source()}, {"p": 1, "m": 1})
    settings = settings_of(4)

    class Recording(StepMaker):
        def make(self, step):
            made = super().make(step)
            (Path(self.folder) / str(step)).write_bytes(made.ids.tobytes() + made.word_ids.tobytes())
            return made

    def steps(name, workers):
        folder = tmp_path / name
        folder.mkdir()
        maker = Recording(**vars(maker_of(str(tiny_bert), mixture, settings)))
        maker.folder = folder
        maker.tokenizer.encode(REVIEWS * 20, 64, 0)  # starts the threads of tokenizers
        pretrain(start(str(tiny_bert)), maker, folder / "checkpoints", workers=workers)
        return [(folder / str(step)).read_bytes() for step in range(4)]

    assert steps("here", 0) == steps("there", 2)


def test_a_duration_ends_a_run_and_is_reported(tiny_bert, tmp_path):
    mixture = Mixture({"p": price_source()}, {"p": 1})
    shares = []
    settings = settings_of(None, seconds=1.5)
    pretrained(str(tiny_bert), mixture, settings, tmp_path, on_progress=lambda p: shares.append(p.share))
    assert shares == sorted(shares)
    assert all(0 < share <= 1 for share in shares)


@pytest.fixture(scope="module")
def metamodel(tiny_bert, tmp_path_factory):
    """A metamodel that knows prices and moods in words other than those of the plan."""
    folder = tmp_path_factory.mktemp("metamodel")
    mixture = Mixture({"p": price_source(mentions=0.0), "m": mood_source()}, {"p": 1, "m": 1})
    model = pretrained(str(tiny_bert), mixture, settings_of(300, learning_rate=1e-3), folder / "checkpoints")
    save_metamodel(model, load_tokenizer(str(tiny_bert)), folder, {"recipe": "toy"})
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
    rows = [{"text": text, "spans": {"price": spans.get("price", [])}} for text, spans in price_rows()]
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
    (message,) = mined(tiny_bert, "calm", learning_rate=5e-3, epochs=30).summary.messages
    assert "learned from all" in message


def test_the_sentence_space_is_preserved(tiny_bert, tmp_path):
    mixture = Mixture({"p": price_source()}, {"p": 1})

    def drift(keep):
        model = pretrained(str(tiny_bert), mixture, settings_of(30, keep=keep), tmp_path / str(keep))
        save_metamodel(model, load_tokenizer(str(tiny_bert)), tmp_path / f"m{keep}", {})
        before, after = (Embedder(base)(REVIEWS) for base in (str(tiny_bert), str(tmp_path / f"m{keep}")))
        return 1 - np.mean(np.sum(before * after, axis=1))

    assert drift(20.0) < drift(0.0) / 2


def test_the_share_of_the_start_is_mixed_into_the_result(tiny_bert, tmp_path):
    mixture = Mixture({"p": price_source()}, {"p": 1})
    before = weights(start(str(tiny_bert)))

    def change(share):
        model = pretrained(str(tiny_bert), mixture, settings_of(10, start_share=share), tmp_path / str(share))
        return sum(float(np.abs(w - before[name]).sum()) for name, w in weights(model).items() if "layer" in name)

    assert change(0.75) == pytest.approx(change(0.0) / 4, rel=0.01)


# ---- recipes and bundles end to end


@pytest.fixture
def recipe(tiny_bert, monkeypatch):
    monkeypatch.setattr("langchain_falconer.pretrain.recipe.PLAIN_BASE", str(tiny_bert))
    return Recipe(name="toy", base=str(tiny_bert), settings=settings_of(3, keep=1.0), anchors=30, holdout=("asked",))


def test_a_recipe_makes_a_metamodel_with_its_card(recipe, data, tmp_path):
    card = make(recipe, [data], tmp_path / "made")
    assert card["ran"]["steps"] == 3
    assert not any("asked" in name for name in card["sources"])
    assert json.loads((tmp_path / "made" / "recipe.json").read_text("utf-8")) == card
    assert Proxy.zero_shot(PLAN, base=str(tmp_path / "made")).run(REVIEWS[:2])
    assert not (tmp_path / "made" / "checkpoints").exists()


_MODULES_USED = """
import atexit, sys
atexit.register(lambda: open("modules.txt", "w").write(" ".join(sys.modules)))
"""


def test_a_bundle_runs_without_the_package_and_is_taken_home(recipe, data, tmp_path):
    size = write_bundle(recipe, [data], tmp_path / "bundle")
    assert size < 60 * 2**20
    with pytest.raises(ProxyError, match=r"run its run.py first"):
        adopt(tmp_path / "bundle", tmp_path / "home")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_MODULES_USED)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "run.py", "--device", "cpu", "--workers", "0"]
    ran = subprocess.run(command, cwd=tmp_path / "bundle", env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    used = set((tmp_path / "bundle" / "modules.txt").read_text().split())
    assert not used & {"pydantic", "langchain_core", "langgraph", "lazy_loader", "langchain_falconer.plan"}
    card = adopt(tmp_path / "bundle", tmp_path / "home")
    assert card["ran"]["steps"] == 3
    here = make(recipe, [data], tmp_path / "here")
    assert here["sources"] == card["sources"]
    home, local = (load_file(tmp_path / f / "model.safetensors") for f in ("home", "here"))
    assert all(np.allclose(home[name].float(), local[name].float(), atol=2e-3) for name in home)


def test_a_result_that_does_not_fit_its_bundle_is_refused(recipe, data, tmp_path):
    from safetensors.torch import save_file

    write_bundle(recipe, [data], tmp_path / "bundle")
    result = tmp_path / "bundle" / "result"
    result.mkdir()
    (result / "ran.json").write_text("{}")
    other = {
        name: w[:1].contiguous() for name, w in load_file(tmp_path / "bundle" / "model.safetensors").items() if w.dim()
    }
    save_file(other, result / "weights.safetensors")
    with pytest.raises(ProxyError, match="does not fit"):
        adopt(tmp_path / "bundle", tmp_path / "home")


# ---- what ships


def test_the_shipped_metamodel_is_small_has_a_card_and_answers():
    folder = Path(langchain_falconer.model.__file__).parent / DEFAULT_BASE
    assert sum(f.stat().st_size for f in folder.iterdir()) < 50e6
    assert "Apache-2.0" in (folder / "README.md").read_text("utf-8")
    card = json.loads((folder / "recipe.json").read_text("utf-8"))
    assert set(Recipe.read().holdout) == set(card["recipe"]["holdout"])
    assert not any(name.split("/")[0] in Recipe.read().holdout for name in card["sources"])
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
