"""The proxy: training, saving, export and prediction, with a tiny random encoder."""

import itertools
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from laptops import PLAN, annotations, is_positive, prices, review, reviews
from safetensors.numpy import load_file

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import overlapping, split_passages
from langchain_falconer.errors import ProxyError, SettingsError
from langchain_falconer.execute import share_of_equal_decisions
from langchain_falconer.model import PASSAGE_CHARS, OnnxSession, Proxy
from langchain_falconer.model.decoding import best_path, without_overlap
from langchain_falconer.model.encoder import load_tokenizer
from langchain_falconer.model.tokenization import WindowSplitter
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.settings import Metric, TrainSettings
from langchain_falconer.train import calibrate, train_proxy

BRIEF = TrainSettings(epochs=2)
LEARN = TrainSettings(epochs=30, learning_rate=5e-3)
ARCHITECTURES = ["tiny_bert", "tiny_roberta", "tiny_deberta", "tiny_modernbert"]
SEEN, UNSEEN = reviews(24), reviews(20, start=60)
HARD_TEXTS = [
    "",
    " \t\r\n ",
    "a",
    "$5\r\n$6\r\n",
    "Ich liebe 👩‍👩‍👧 mein 💻, e\u0301 zum Preis von $７７ — 素晴らしいノートパソコン、$100です。",
    "\u200f\u200bשלום $12 \ufeff\u0000x",
    "ﬁne Straße İstanbul ẞ ǅ $3",
    "$" * 700,
    "I love this laptop. " * 90 + "I paid $55. " + "it works " * 200,
    "x" * 3000,
    " " * 2000,
]


def plan_of(*steps):
    return Plan.parse({"instruction": "Find things", "steps": list(steps)})


def annotated(text, labels=None, spans=None):
    labels = {name: Label(value) for name, value in (labels or {}).items()}
    return Annotation(text, Answers(labels, spans or {}), "human")


def all_spans(answers):
    """Every list of spans in answers, those of ``of`` steps too."""
    for spans in answers.spans.values():
        yield spans
        for span in spans:
            yield from all_spans(span)


def check(text, answers):
    """The invariant: a span is exactly what stands at its offsets, and spans of one step never overlap."""
    for spans in all_spans(answers):
        for span in spans:
            assert 0 <= span.start < span.end <= len(text)
            assert text[span.start : span.end] == span.text
            assert 0 <= span.score <= 1.000001
        for one, other in itertools.pairwise(spans):
            assert one.end <= other.start


# ---- training, saving


def test_it_learns_from_annotations(proxy):
    for text, record in zip(UNSEEN, proxy.run(UNSEEN), strict=True):
        assert record.labels["positive"].value is is_positive(text)
        if is_positive(text):
            assert [s.text for s in record.spans["price"]] == prices(text)
            assert record.match
        else:
            assert "price" not in record.spans
            assert not record.match
        assert set(record.decided_by) == {*record.labels, *record.spans}
        check(text, record)


def test_saved_and_loaded_it_answers_the_same(proxy, tmp_path):
    here = proxy.run(UNSEEN)
    moved = Proxy.load(proxy.save(tmp_path / "deep" / "copy"))
    assert moved.run(UNSEEN) == here
    assert moved.plan == PLAN
    assert moved.get_label(UNSEEN, "Is this a positive review?") == proxy.get_label(
        UNSEEN, "Is this a positive review?"
    )
    assert moved.get_span(UNSEEN, "Extract the price") == proxy.get_span(UNSEEN, "Extract the price")


def test_get_label_and_get_span_answer_the_trained_questions(proxy):
    labels = proxy.get_label(UNSEEN, "Is this a positive review?")
    assert [label.value for label in labels] == [is_positive(text) for text in UNSEEN]
    spans = proxy.get_span(UNSEEN, "Extract the price")
    loved = [found for text, found in zip(UNSEEN, spans, strict=True) if is_positive(text)]
    assert [[s.text for s in found] for found in loved] == [prices(t) for t in UNSEEN if is_positive(t)]


def test_new_questions_are_answered_from_their_words(proxy):
    assert {label.value for label in proxy.get_label(UNSEEN, "Which colour?", ["red", "green"])} <= {"red", "green"}
    assert all(isinstance(label.value, bool) for label in proxy.get_label(UNSEEN, "Is it red?"))
    assert len(proxy.get_span(UNSEEN, "Extract the colours")) == len(UNSEEN)
    assert proxy.get_label([], "Is it red?") == []


def test_a_new_question_changes_no_other_answer(proxy):
    before = proxy.answers(HARD_TEXTS, apply_conditions=False)
    proxy.get_label(["x"], "Is it a new question?")
    assert proxy.answers(HARD_TEXTS, apply_conditions=False) == before


def test_same_seed_same_weights(tiny_bert, tmp_path):
    known = annotations(reviews(12))

    def weights(name, seed, unlabelled=UNSEEN):
        settings = TrainSettings(epochs=2, seed=seed)
        proxy = train_proxy(PLAN, known, base=tiny_bert, unlabelled=unlabelled, settings=settings)
        folder = proxy.save(tmp_path / name)
        return (folder / "model.safetensors").read_bytes(), (folder / "heads.safetensors").read_bytes()

    first = weights("a", 7)
    assert weights("b", 7) == first
    assert weights("c", 8) != first
    assert weights("d", 7, UNSEEN[1:]) != first


def test_unlabelled_texts_train_a_second_network(tiny_bert):
    steps = []
    long = "It came in a box. " * 200  # several passages
    proxy = train_proxy(
        PLAN,
        annotations(reviews(12)),
        base=tiny_bert,
        unlabelled=[*UNSEEN, long, ""],
        settings=LEARN,
        on_step=lambda done, total, loss: steps.append((done, total)),
    )
    total = len(steps)
    assert steps == [(done, total) for done in range(1, total + 1)]
    facts = proxy.manifest
    assert (facts["data"]["annotations"], facts["data"]["unlabelled"]) == (12, 22)
    assert facts["training"]["steps"] == total
    assert facts["training"]["examples"] == 12
    found = proxy.answers(UNSEEN)
    assert [a.labels["positive"].value for a in found] == [is_positive(t) for t in UNSEEN]
    alone = train_proxy(PLAN, annotations(reviews(12)), base=tiny_bert, settings=LEARN)
    assert total > alone.manifest["training"]["steps"]
    assert alone.manifest["data"]["sha256"] != facts["data"]["sha256"]


def test_development_annotations_select_the_checkpoint(tiny_bert, tmp_path):
    plan = plan_of(PLAN["positive"].model_dump(mode="json", exclude_none=True))
    settings = TrainSettings(epochs=30, learning_rate=2e-3)

    def of(texts, happy):
        return [annotated(text, {"positive": is_positive(text) == happy}) for text in texts]

    def trained(name, held_out):
        proxy = train_proxy(plan, of(SEEN, True), base=tiny_bert, development=held_out, settings=settings)
        folder = proxy.save(tmp_path / name)
        weights = [(folder / file).read_bytes() for file in ("model.safetensors", "heads.safetensors")]
        return weights, proxy.manifest["training"]["selected_after"], proxy

    def right(proxy):
        found = proxy.get_label(UNSEEN, plan.steps[0].instruction)
        return sum(label.value == is_positive(text) for label, text in zip(found, UNSEEN, strict=True))

    def confidence(proxy):
        return sum(label.score for label in proxy.get_label(UNSEEN, plan.steps[0].instruction))

    to_the_end, selected_after, proxy = trained("end", ())
    assert selected_after == [1.0]
    assert right(proxy) == len(UNSEEN)
    at_the_end = confidence(proxy)
    weights, selected_after, proxy = trained("agreed", of(reviews(60, start=300), True))
    assert (weights, selected_after) == (to_the_end, [1.0])
    weights, selected_after, proxy = trained("few", of(reviews(49, start=300), False))
    assert (weights, selected_after) == (to_the_end, [1.0])
    weights, selected_after, proxy = trained("opposed", of(reviews(60, start=300), False))
    assert weights != to_the_end
    assert selected_after[0] < 1
    assert confidence(proxy) < at_the_end


def test_calibration_moves_scores_and_no_decision(proxy_folder, tmp_path):
    proxy = Proxy.load(shutil.copytree(proxy_folder, tmp_path / "p"))
    before = proxy.answers(UNSEEN, apply_conditions=False)
    calibrate(proxy, annotations(reviews(20, start=200)))
    after = proxy.answers(UNSEEN, apply_conditions=False)
    assert share_of_equal_decisions(before, after) == 1
    assert proxy.manifest["calibration"]["temperatures"]["positive"] != 1
    assert proxy.manifest["calibration"]["scales"]["price"] != [1, 0]
    spans = [[(s.start, s.end) for s in a.spans["price"]] for a in before]
    assert spans == [[(s.start, s.end) for s in a.spans["price"]] for a in after]
    assert [s.score for a in before for s in a.spans["price"]] != [s.score for a in after for s in a.spans["price"]]
    assert Proxy.load(tmp_path / "p").answers(UNSEEN, apply_conditions=False) == after


def test_a_span_step_without_annotations_is_calibrated_like_the_others(tiny_bert):
    plan = plan_of(
        {"id": "price", "op": "get_span", "instruction": "Extract the price"},
        {"id": "kind", "op": "get_span", "instruction": "Extract the kind of thing"},
    )

    def known(text, kinds):
        price, kind = text.index("$"), text.index("laptop")
        found = (Span.at(text, kind, kind + 6),) if kinds else ()
        return annotated(text, spans={"price": (Span.at(text, price, price + 4),), "kind": found})

    proxy = train_proxy(plan, [known(t, kinds=True) for t in SEEN], base=tiny_bert, settings=LEARN)
    only_prices = [annotated(t, spans={"price": known(t, kinds=True).answers.spans["price"]}) for t in UNSEEN]
    calibrate(proxy, only_prices)
    scales = proxy.manifest["calibration"]["scales"]
    assert scales["price"] != [1, 0]
    assert scales["kind"] == pytest.approx(scales["price"], rel=0.5)


def test_a_threshold_is_chosen_for_the_metric_and_saved(proxy_folder, tmp_path):
    proxy = Proxy.load(shutil.copytree(proxy_folder, tmp_path / "p"))
    all_good = [
        Annotation(t, replace(a.answers, labels={"positive": Label(True)}), "human")
        for t, a in zip(UNSEEN, annotations(UNSEEN), strict=True)
    ]
    calibrate(proxy, all_good, {"positive": Metric.model_validate("recall:1")})
    point = proxy.manifest["operating_points"]["positive"]
    assert (point["recall"], point["n"], point["positives"]) == (1, len(UNSEEN), len(UNSEEN))
    assert proxy.manifest["calibration"]["thresholds"]["positive"] == point["threshold"] < 0.5
    answers = Proxy.load(tmp_path / "p").answers(UNSEEN)
    assert all(a.labels["positive"].value for a in answers)
    unlikely = [a.labels["positive"].score for a, t in zip(answers, UNSEEN, strict=True) if not is_positive(t)]
    assert max(unlikely) < 0.5  # yes, though the score says how unlikely
    assert [label.value for label in proxy.get_label(UNSEEN, "Is this a positive review?")] == [True] * len(UNSEEN)


def test_where_no_threshold_reaches_the_metric_one_half_decides(proxy_folder, tmp_path):
    proxy = Proxy.load(shutil.copytree(proxy_folder, tmp_path / "p"))
    none_good = [annotated(text, {"positive": False}) for text in UNSEEN]
    calibrate(proxy, none_good, {"positive": Metric.model_validate("f1")})
    assert proxy.manifest["operating_points"] == {"positive": {"metric": "f1"}}
    assert [a.labels["positive"].value for a in proxy.answers(UNSEEN)] == list(map(is_positive, UNSEEN))
    with pytest.raises(SettingsError, match=r"step 'price' has no threshold.* this plan are 'positive'"):
        calibrate(proxy, none_good, {"price": Metric.model_validate("f1")})


def test_any_of_has_one_threshold_for_all_its_labels(tiny_bert):
    known = [annotated(t, {"kind": "love" if is_positive(t) else "terrible", "tags": tags(t)}) for t in SEEN]
    proxy = train_proxy(labels_only(), known, base=tiny_bert, settings=BRIEF)
    calibrate(proxy, known, {"tags": Metric.model_validate("recall:1")})
    for text, answers in zip(SEEN, proxy.answers(SEEN), strict=True):
        assert set(tags(text)) <= set(answers.labels["tags"].value)


def test_confidence_is_a_share(proxy):
    confidences = proxy.confidence([*UNSEEN, *HARD_TEXTS])
    assert len(confidences) == len(UNSEEN) + len(HARD_TEXTS)
    assert all(0 <= c <= 1 for c in confidences)
    assert len({round(c, 3) for c in confidences}) > 1


# ---- architectures and backends


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_every_architecture_trains_saves_loads_and_exports(base, request, tmp_path):
    base = request.getfixturevalue(base)
    proxy = train_proxy(PLAN, annotations(reviews(24)), base=base, settings=LEARN)
    proxy.save(tmp_path / "p")
    trained = proxy.answers([*UNSEEN, *HARD_TEXTS], apply_conditions=False)
    assert proxy.export() < 1e-3
    loaded = Proxy.load(tmp_path / "p")
    assert loaded.session.name == "onnx"
    exported = loaded.answers([*UNSEEN, *HARD_TEXTS], apply_conditions=False)
    n = len(UNSEEN)  # of the hard texts, windows that are all alike tie
    assert share_of_equal_decisions(trained[:n], exported[:n]) == 1
    for text, one, other in zip([*UNSEEN, *HARD_TEXTS], trained, exported, strict=True):
        check(text, one)
        check(text, other)
        assert abs(one.labels["positive"].score - other.labels["positive"].score) < 1e-3


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_every_architecture_freezes_its_word_embeddings_and_keeps_the_first_layers(base, request, tmp_path):
    base = request.getfixturevalue(base)
    brief = TrainSettings(epochs=2, layers=1)
    folder = train_proxy(PLAN, annotations(reviews(6)), base=base, settings=brief).save(tmp_path / "p")
    before, after = load_file(f"{base}/model.safetensors"), load_file(folder / "model.safetensors")
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    (words,) = (name for name, weights in before.items() if len(weights) == size)
    assert np.array_equal(before[words], after[f"encoder.{words}"])
    first, second = ([name for name in before if re.search(rf"layers?\.{i}\.", name)] for i in (0, 1))
    assert second
    assert {f"encoder.{name}" for name in first} <= after.keys()
    assert not {f"encoder.{name}" for name in second} & after.keys()
    run_on_every_session(folder)


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_spans_are_trained_and_found_at_exact_offsets_whatever_the_characters(base, request):
    plan = plan_of({"id": "price", "op": "get_span", "instruction": "Extract the price"})
    texts = [f"👩‍👩‍👧 é e\u0301 {'ノート' * (i % 3)} I paid ${100 + i} — ok" for i in range(24)]
    known = [annotated(t, spans={"price": (Span.at(t, t.index("$"), t.index("$") + 4),)}) for t in texts]
    base = request.getfixturevalue(base)
    proxy = train_proxy(plan, known, base=base, settings=LEARN)
    found = [[s.text for s in a.spans["price"]] for a in proxy.answers(texts)]
    assert found == [prices(t) for t in texts]


def test_onnx_and_torch_decide_alike_whatever_the_plan(proxy):
    assert isinstance(proxy.session, OnnxSession)
    texts = [t for t in (*UNSEEN, *HARD_TEXTS) if len(set(t)) > 1]  # parts of one letter, all alike, tie
    one = proxy.answers(texts, apply_conditions=False)
    proxy.set_session(proxy.torch_session())
    other = proxy.answers(texts, apply_conditions=False)
    assert share_of_equal_decisions(one, other) == 1


# ---- exactness

texts = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(["$5", "I paid", "love", "👩‍👩‍👧", "\r\n", "素晴", "e\u0301", " ", "ﬁ", "İ", "-", "."]),
        max_size=60,
    ).map("".join),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts, min_size=1, max_size=4))
@example(HARD_TEXTS[:7])  # each span of a long text would be asked about
def test_a_span_is_exactly_what_stands_at_its_offsets(spanful, batch):
    for text, answers in zip(batch, spanful.answers(batch, apply_conditions=False), strict=True):
        check(text, answers)


@pytest.fixture(scope="module")
def spanful(tiny_bert):
    """A proxy that finds many spans, and spans in spans, in any text."""
    plan = plan_of(
        {"id": "word", "op": "get_span", "instruction": "Extract words"},
        {"id": "part", "op": "get_span", "instruction": "Extract parts of {span}", "of": "word"},
        {"id": "kind", "op": "get_label", "instruction": "Is {span} a thing?", "of": "part"},
    )
    known = []
    for text in reviews(10):
        words = [Span.at(text, s, e) for s, e in ((0, 10), (12, 20), (22, 26))]
        inner = [replace(Span.at(text, s.start, s.start + 3), labels={"kind": Label(True)}) for s in words]
        found = tuple(replace(s, spans={"part": (i,)}) for s, i in zip(words, inner, strict=True))
        known.append(annotated(text, spans={"word": found}))
    return train_proxy(plan, known, base=tiny_bert, settings=LEARN)


def test_the_spanful_proxy_does_find_spans_in_spans(spanful):
    found = spanful.answers(reviews(10))
    assert all(a.spans["word"] for a in found)
    parts = [p for a in found for w in a.spans["word"] for p in w.spans["part"]]
    assert parts
    assert all("kind" in p.labels for p in parts)


def test_a_long_text_is_read_passage_by_passage_to_its_end(proxy):
    text = "  " + "\n\n".join(reviews(60)) + "\n"
    passages = overlapping(text, split_passages(text, PASSAGE_CHARS), PASSAGE_CHARS // 8)
    assert len(passages) > 2
    proxy.update_manifest(passage_chars=2 * PASSAGE_CHARS)  # so that these are not cut again
    alone = proxy.answers([text[a:b] for a, b in passages], apply_conditions=False)
    proxy.update_manifest(passage_chars=PASSAGE_CHARS)
    each = {
        (s.start + start, s.end + start)
        for (start, _), answers in zip(passages, alone, strict=True)
        for s in answers.spans["price"]
    }
    (whole,) = proxy.answers([text], apply_conditions=False)
    check(text, whole)
    found = [(s.start, s.end) for s in whole.spans["price"]]
    assert set(found) <= each
    assert all(any(a < end and start < b for a, b in found) for start, end in each)  # nothing is lost but doubles
    assert found[0][0] < passages[0][1]
    assert found[-1][0] > passages[-1][0]


@pytest.mark.parametrize("base", ARCHITECTURES)
@pytest.mark.parametrize("text", ["$ 5 " * 700, "I paid $5. " * 300, "-" * 1500])
def test_windows_cover_every_word_of_what_is_too_long_for_one(base, text, request):
    windows = WindowSplitter(load_tokenizer(request.getfixturevalue(base)), 512)([text])
    assert len(windows) > 1
    assert all(len(w.ids) <= 512 for w in windows)
    covered = set()
    for window in windows:
        for start, end in zip(window.starts, window.ends, strict=True):
            covered.update(range(start, end))
    assert covered == {i for i, char in enumerate(text) if not char.isspace()}


def test_the_same_text_gets_the_same_answer_alone_and_in_a_crowd(proxy):
    crowd = [*HARD_TEXTS, *UNSEEN]
    together = proxy.answers(crowd, apply_conditions=False)
    alone = [proxy.answers([text], apply_conditions=False)[0] for text in crowd]
    assert share_of_equal_decisions(together, alone) == 1


def lawful(path):
    return all(state != 2 or before != 0 for before, state in itertools.pairwise([0, *path]))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([0.3, 1.0, 5.0]))
def test_the_decoded_path_is_the_best_of_all(seed, length, spread):
    scores = np.random.default_rng(seed).normal(0, spread, (length, 3))
    log_p = scores - np.logaddexp.reduce(scores, -1, keepdims=True)
    paths = [p for p in itertools.product(range(3), repeat=length) if lawful(p)]
    best = max(sum(log_p[t, state] for t, state in enumerate(path)) for path in paths)
    found = best_path(log_p.copy())
    assert lawful(found)
    assert sum(log_p[t, state] for t, state in enumerate(found)) == pytest.approx(best)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from([0.1, 0.5, 0.9])), max_size=15))
def test_of_overlapping_spans_the_best_stay(found):
    spans = [(start, start + length, score) for start, length, score in found]
    kept = without_overlap(spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(kept))
    for start, end, score in spans:
        rivals = [k for k in kept if k[0] < end and start < k[1]]
        assert rivals
        assert max(r[2] for r in rivals) >= score


# ---- kinds of plans


def labels_only():
    return plan_of(
        {"id": "kind", "op": "get_label", "instruction": "Which kind?", "labels": ["love", "terrible"]},
        {
            "id": "tags",
            "op": "get_label",
            "instruction": "Which tags?",
            "labels": ["works", "broke", "cost"],
            "multi_label": True,
        },
    )


def tags(text):
    return [name for name in ("works", "broke", "cost") if name in text]


def test_a_plan_of_labels_only(tiny_bert, tmp_path):
    known = [annotated(t, {"kind": "love" if is_positive(t) else "terrible", "tags": tags(t)}) for t in SEEN]
    proxy = train_proxy(labels_only(), known, base=tiny_bert, settings=LEARN)
    proxy.save(tmp_path / "p")
    proxy.export()
    loaded = Proxy.load(tmp_path / "p")
    for text, record in zip(SEEN, loaded.run(SEEN), strict=True):
        assert record.labels["kind"].value == ("love" if is_positive(text) else "terrible")
        assert record.labels["tags"].value == tuple(tags(text))
        assert record.spans == {}


def test_a_plan_of_spans_only(tiny_bert, tmp_path):
    plan = plan_of({"id": "price", "op": "get_span", "instruction": "Extract the price"})
    known = [annotated(t, spans={"price": (Span.at(t, t.index("$"), t.index("$") + 4),)}) for t in SEEN]
    proxy = train_proxy(plan, known, base=tiny_bert, settings=LEARN)
    proxy.save(tmp_path / "p")
    proxy.export()
    loaded = Proxy.load(tmp_path / "p")
    assert loaded.session.name == "onnx"
    assert [[s.text for s in r.spans["price"]] for r in loaded.run(SEEN)] == [prices(t) for t in SEEN]


def test_a_hundred_labels(tiny_bert):
    names = [f"unit {i}" for i in range(100)]
    plan = plan_of({"id": "unit", "op": "get_label", "instruction": "Which unit?", "labels": names})
    known = [annotated(review(i), {"unit": names[i]}) for i in range(1, 60)]
    proxy = train_proxy(plan, known, base=tiny_bert, settings=BRIEF)
    assert {r.labels["unit"].value for r in proxy.run(UNSEEN)} <= set(names)
    assert all(0 < r.labels["unit"].score <= 1 for r in proxy.run(UNSEEN))


@pytest.mark.parametrize("unsure", ["a score", "three annotators"])
def test_scores_are_as_sure_as_the_annotators(unsure, tiny_bert):
    kinds = ["love", "terrible", "neither"]
    plan = plan_of(
        {"id": "good", "op": "get_label", "instruction": "Is this a positive review?"},
        {"id": "kind", "op": "get_label", "instruction": "Which kind?", "labels": kinds},
    )

    def known(text):
        good, kind = is_positive(text), kinds[0 if is_positive(text) else 1]
        if unsure == "a score":
            return [Annotation(text, Answers({"good": Label(good, 2 / 3), "kind": Label(kind, 2 / 3)}), "llm")]
        sure = annotated(text, {"good": good, "kind": kind})
        return [sure, sure, annotated(text, {"good": not good, "kind": "neither"})]

    proxy = train_proxy(plan, [a for t in SEEN for a in known(t)], base=tiny_bert, settings=LEARN)
    for text, answers in zip(SEEN, proxy.answers(SEEN), strict=True):
        assert answers.labels["good"].value is is_positive(text)
        assert answers.labels["kind"].value == kinds[0 if is_positive(text) else 1]
        assert all(0.5 < label.score < 0.85 for label in answers.labels.values())


def test_a_step_of_the_text_may_wait_for_steps_of_spans(tiny_bert):
    plan = plan_of(
        {"id": "price", "op": "get_span", "instruction": "Extract the price"},
        {"id": "paid", "op": "get_label", "instruction": "Was {span} paid?", "of": "price"},
        {
            "id": "owner",
            "op": "get_label",
            "instruction": "Is the writer an owner?",
            "where": {"step": "paid", "equals": True},
        },
    )
    known = []
    for text in SEEN:
        price = replace(Span.at(text, text.index("$"), text.index("$") + 4), labels={"paid": Label(True)})
        known.append(annotated(text, {"owner": True}, {"price": (price,)}))
    proxy = train_proxy(plan, known, base=tiny_bert, settings=LEARN)
    for record in proxy.run(SEEN):
        assert [s.labels["paid"].value for s in record.spans["price"]] == [True]
        assert record.labels["owner"].value is True
        assert set(record.decided_by) == {"price", "owner"}


# ---- errors


def test_there_must_be_something_to_learn_for_every_step(tiny_bert):
    with pytest.raises(ProxyError, match=r"step 'price' has no annotation"):
        train_proxy(PLAN, [annotated(review(1), {"positive": True})], base=tiny_bert, settings=BRIEF)
    with pytest.raises(ProxyError, match="step 'positive' has no annotation"):
        train_proxy(PLAN, [], base=tiny_bert, settings=BRIEF)


def test_a_missing_base_is_refused(tmp_path):
    with pytest.raises(ProxyError, match="nowhere"):
        train_proxy(PLAN, annotations(reviews(3)), base=str(tmp_path / "nowhere"))


def test_a_base_without_a_fast_tokenizer_is_refused(tiny_deberta, tmp_path):
    folder = shutil.copytree(tiny_deberta, tmp_path / "spm")
    (folder / "tokenizer.json").rename(folder / "spm.model")
    with pytest.raises(ProxyError, match=r"tokenizer.json.*sentencepiece"):
        train_proxy(PLAN, annotations(reviews(3)), base=str(folder), settings=BRIEF)


def break_file(name, content):
    def broken(folder):
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(
                content if isinstance(content, bytes) else (folder / name).read_bytes()[:content]
            )

    return broken


def other_format(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))


def bad_plan(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"plan": {"steps": []}}))


def lacking(key):
    def broken(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest[key]
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return broken


BROKEN = {
    "no manifest": break_file("manifest.json", None),
    "manifest cut": break_file("manifest.json", 100),
    "manifest a list": break_file("manifest.json", b"[]"),
    "manifest no UTF-8": break_file("manifest.json", b"\xff\xfe"),
    "other format": other_format,
    "bad plan": bad_plan,
    "manifest without max_tokens": lacking("max_tokens"),
    "manifest without passage_chars": lacking("passage_chars"),
    "no heads": break_file("heads.safetensors", None),
    "heads cut": break_file("heads.safetensors", 50),
    "heads garbage": break_file("heads.safetensors", b"garbage"),
    "no tokenizer": break_file("tokenizer.json", b"{"),
    "no weights": break_file("model.safetensors", None),
    "weights cut": break_file("model.safetensors", 1000),
    "weights garbage": break_file("model.safetensors", b"\x80\x04cos\nsystem\n"),
    "no config": break_file("config.json", None),
    "config cut": break_file("config.json", 20),
    "onnx garbage": break_file("model.onnx", b"garbage"),
}


def run_on_every_session(folder):
    proxy = Proxy.load(folder)
    proxy.run(["I paid $5"])
    proxy.set_session(proxy.torch_session())
    proxy.run(["I paid $5"])


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_proxy_is_refused_in_one_sentence(damage, proxy_folder, tmp_path):
    folder = shutil.copytree(proxy_folder, tmp_path / "broken")
    damage(folder)
    with pytest.raises(ProxyError) as caught:
        run_on_every_session(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_heads_that_do_not_fit_the_plan_are_refused(proxy_folder, tmp_path):
    folder = shutil.copytree(proxy_folder, tmp_path / "p")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["plan"] = labels_only().to_dict()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ProxyError, match="train it again"):
        Proxy.load(folder).run(["x"])


def test_saving_never_replaces_anything_but_a_proxy(proxy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ProxyError, match="not a proxy"):
        proxy.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("falconer-smal", "there is no base 'falconer-smal' here; did you mean falconer-small?"),
        ("./no/such/folder", "there is no base './no/such/folder' here, nor on the hub; name a folder"),
        ("somebody/encoder", "there is no base 'somebody/encoder' here, and the hub cannot be reached"),
    ],
)
def test_a_base_that_is_not_there_is_an_error_at_once(base, reason, monkeypatch):
    import huggingface_hub

    asked = []

    def unreachable(_, repo, timeout):
        asked.append(timeout)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(ProxyError) as caught:
        Proxy.zero_shot(PLAN, base=base)
    assert str(caught.value).startswith(reason)
    assert len(asked) == (base == "somebody/encoder")
