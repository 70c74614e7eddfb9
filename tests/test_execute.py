"""The run over a corpus: rows in order, resumable shards, backends that decide alike."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
from laptops import PLAN, annotations, is_positive, reviews, write_corpus, write_lines

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import open_corpus, open_corpus_files
from langchain_falconer.errors import CorpusError, FalconerError, ProxyError, RunError, SettingsError
from langchain_falconer.execute import (
    MIN_AGREEMENT,
    RowStatistics,
    Run,
    check_output,
    check_run,
    choose_backend,
    read_rows,
    share_of_equal_decisions,
)
from langchain_falconer.model import Proxy
from langchain_falconer.model.quantization import quantize_blocks
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.settings import CorpusSettings, RunSettings, TrainSettings
from langchain_falconer.train import train_proxy

TEXTS = [*reviews(45), "👩‍👩‍👧 $5\r\nI love 素晴らしい, paid $77", "x" * 2500]


@pytest.fixture
def corpus(tmp_path):
    return open_corpus_files([write_corpus(tmp_path / "corpus.jsonl", TEXTS)])


@pytest.fixture
def own(proxy_folder, tmp_path):
    """A copy of the proxy that a test may change."""
    return Proxy.load(shutil.copytree(proxy_folder, tmp_path / "proxy"))


def run(proxy, corpus, tmp_path, output="out.jsonl", **more):
    more = {"settings": RunSettings(shard_texts=10), **more}
    return Run(proxy, corpus, tmp_path / "shards", **more)(tmp_path / output)


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def shards(tmp_path):
    return sorted((tmp_path / "shards").glob("*/*.jsonl"))


def test_rows_are_the_contracts_in_corpus_order(proxy, corpus, tmp_path):
    report = run(proxy, corpus, tmp_path)
    result = rows(report.output)
    assert [row["id"] for row in result] == [f"r{i}" for i in range(len(TEXTS))]
    assert [row["text"] for row in result] == TEXTS
    for row in result:
        assert list(row) == ["id", "text", "labels", "spans", "match", "decided_by"]
        assert set(row["labels"]["positive"]) == {"value", "score"}
        assert ("price" in row["spans"]) is row["labels"]["positive"]["value"]
        assert row["match"] is bool(row["spans"].get("price"))
        assert row["decided_by"] == dict.fromkeys([*row["labels"], *row["spans"]], "proxy")
        for spans in row["spans"].values():
            for span in spans:
                assert row["text"][span["start"] : span["end"]] == span["text"]
    assert (report.statistics.total, report.statistics.failed) == (len(TEXTS), 0)
    assert report.statistics.matched == sum(row["match"] for row in result)
    assert report.texts == len(TEXTS)


TABLES = ["out.parquet", pytest.param("out.duckdb", marks=pytest.mark.skipif(not find_spec("duckdb"), reason="extra"))]


@pytest.mark.parametrize("name", TABLES)
def test_tables_hold_the_same_rows(name, proxy, corpus, tmp_path):
    as_json = run(proxy, corpus, tmp_path).output
    table = run(proxy, corpus, tmp_path, name).output
    assert list(read_rows(table)) == rows(as_json) == list(read_rows(as_json))
    assert list(read_rows(run(proxy, corpus, tmp_path, name).output)) == rows(as_json)
    assert not list(tmp_path.glob(".*"))


def test_tables_say_where_their_rows_come_from(proxy, tmp_path):
    file = write_corpus(tmp_path / "it's.jsonl", TEXTS)
    wanted = {
        "version": version("langchain-falconer"),
        "plan": proxy.plan.to_dict(),
        "proxy": {"id": proxy.fingerprint, "name": "laptops"},
        "backend": "onnx",
        "corpus": [str(file)],
    }
    parquet = pytest.importorskip("pyarrow.parquet")
    schema = parquet.read_schema(run(proxy, open_corpus_files([file]), tmp_path, "out.parquet").output)
    assert {name: json.loads(schema.metadata[f"falconer.{name}".encode()]) for name in wanted} == wanted
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(run(proxy, open_corpus_files([file]), tmp_path, "out.duckdb").output)) as database:
        (comment,) = database.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'rows'").fetchone()
        assert json.loads(comment) == wanted
        matches = database.execute("SELECT id, spans.price[1].text FROM rows WHERE match").fetchall()
    assert ("r1", "$101") in matches


def test_without_duckdb_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(RunError, match=r"pip install 'langchain-falconer\[duckdb\]', or choose \.jsonl"):
        check_output(tmp_path / "out.duckdb")


@pytest.mark.parametrize("name", TABLES)
def test_tables_hold_bad_rows_metadata_and_every_kind_of_step(name, tiny_bert, tmp_path):
    from langchain_falconer.plan import Plan

    steps = [
        {"id": "kind", "op": "get_label", "instruction": "Kind?", "labels": ["a", "b"]},
        {"id": "tags", "op": "get_label", "instruction": "Tags?", "labels": ["a", "b"], "multi_label": True},
        {"id": "word", "op": "get_span", "instruction": "Words"},
        {"id": "good", "op": "get_label", "instruction": "Good?", "of": "word"},
        {"id": "part", "op": "get_span", "instruction": "Parts", "of": "word"},
        {"id": "never", "op": "get_span", "instruction": "Never", "where": {"step": "kind", "equals": "b"}},
    ]
    plan = Plan.parse({"instruction": "Everything", "steps": steps})
    known = []
    for i, text in enumerate(TEXTS[:12]):
        inner = {"labels": {"good": Label(True)}, "spans": {"part": (Span.at(text, 0, 1),)}}
        spans = {"word": (Span(0, 5, text[:5], **inner),)}
        labels = {"kind": Label("ab"[i % 2]), "tags": Label([["a"], [], ["a", "b"]][i % 3])}
        known.append(Annotation(text, Answers(labels, spans | ({"never": ()} if i % 2 else {})), "human"))
    trained = train_proxy(plan, known, base=tiny_bert, settings=TrainSettings(epochs=20, learning_rate=5e-3))
    lines = [{"id": str(i), "text": t, "metadata": {"page": i, "by": None}} for i, t in enumerate(TEXTS[:20])]
    file = write_lines(tmp_path / "c.jsonl", [*lines[:7], {"id": "bad", "text": ""}, *lines[7:]])
    texts = open_corpus_files([file], CorpusSettings(on_bad_row="record"))
    as_json = run(trained, texts, tmp_path, known=known).output
    as_table = run(trained, texts, tmp_path, name, known=known).output
    assert list(read_rows(as_table)) == rows(as_json)
    assert rows(as_json)[0]["metadata"] == {"page": 0, "by": None}
    assert "labels" in rows(as_json)[0]["spans"]["word"][0]
    assert rows(as_json)[7] == {"id": "bad", "text": "", "error": "c.jsonl line 8: its text is empty"}


def test_other_columns_change_rows_but_no_answer_is_computed_again(proxy, tmp_path):
    def ran(stars, folder=tmp_path, **settings):
        lines = [{"id": str(i), "text": t, "stars": stars + i, "by": "x" * 3_000} for i, t in enumerate(TEXTS)]
        file = write_lines(tmp_path / "c.jsonl", lines)
        return run(proxy, open_corpus_files([file], CorpusSettings(**settings)), folder)

    assert ran(0).texts == len(TEXTS)
    edited = ran(5)
    assert edited.texts == 0
    assert [row["metadata"]["stars"] for row in rows(edited.output)] == [5 + i for i in range(len(TEXTS))]
    (tmp_path / "anew").mkdir()
    assert edited.output.read_bytes() == ran(5, tmp_path / "anew").output.read_bytes()
    named = ran(5, keep="stars")
    assert named.texts == 0
    assert rows(named.output)[0]["metadata"] == {"stars": 5}
    assert "metadata" not in rows(ran(5, keep="none").output)[0]


@pytest.mark.parametrize("kind", ["labels", "spans"])
def test_parquet_of_plans_without_spans_or_without_labels(kind, tiny_bert, tmp_path):
    from langchain_falconer.plan import Plan

    op = {"labels": "get_label", "spans": "get_span"}[kind]
    plan = Plan.parse({"instruction": "x", "steps": [{"id": "a", "op": op, "instruction": "What?"}]})
    answers = {
        "labels": lambda t: Answers(labels={"a": Label(is_positive(t))}),
        "spans": lambda t: Answers(spans={"a": (Span.at(t, 0, 3),)}),
    }[kind]
    known = [Annotation(t, answers(t), "human") for t in TEXTS[:10]]
    trained = train_proxy(plan, known, base=tiny_bert, settings=TrainSettings(epochs=2))
    report = run(trained, open_corpus(texts=TEXTS[:15]), tmp_path, "out.parquet")
    assert list(read_rows(report.output)) == rows(run(trained, open_corpus(texts=TEXTS[:15]), tmp_path).output)


def test_missing_shards_are_computed_again_to_the_same_bytes(proxy, corpus, tmp_path):
    first = run(proxy, corpus, tmp_path)
    wanted = first.output.read_bytes()
    all_shards = shards(tmp_path)
    assert len(all_shards) == 5
    all_shards[1].unlink()
    all_shards[2].with_suffix(".json").unlink()
    all_shards[4].unlink()
    first.output.unlink()
    again = run(proxy, corpus, tmp_path)
    assert again.output.read_bytes() == wanted
    assert again.texts == 27
    assert again.statistics == first.statistics
    resumed = run(proxy, corpus, tmp_path)
    assert (resumed.texts, resumed.texts_per_second) == (0, None)
    assert resumed.output.read_bytes() == wanted


def test_a_file_half_written_by_a_crash_is_not_taken_for_a_shard(proxy, corpus, tmp_path):
    wanted = run(proxy, corpus, tmp_path).output.read_bytes()
    shard = shards(tmp_path)[1]
    shard.rename(shard.with_suffix(".jsonl.partial"))
    shard.with_suffix(".jsonl.partial").write_bytes(b'{"id": "r1')
    assert run(proxy, corpus, tmp_path).output.read_bytes() == wanted


def test_progress_counts_rows(proxy, corpus, tmp_path):
    seen = []
    Run(proxy, corpus, tmp_path / "s", RunSettings(shard_texts=20))(None, seen.append)
    assert seen == [20, 40, 47]
    assert len(list(Run(proxy, corpus, tmp_path / "s", RunSettings(shard_texts=20)).rows)) == 47


def test_another_corpus_has_shards_of_its_own(proxy, corpus, tmp_path):
    run(proxy, corpus, tmp_path)
    other = open_corpus_files([write_corpus(tmp_path / "other.jsonl", TEXTS[:12])])
    assert [r["text"] for r in rows(run(proxy, other, tmp_path).output)] == TEXTS[:12]


def test_another_proxy_has_shards_of_its_own(proxy, corpus, tiny_roberta, tmp_path):
    known = annotations(reviews(48))
    settings = TrainSettings(**proxy.manifest["settings"])
    other = train_proxy(PLAN, known, base=tiny_roberta, settings=settings.model_copy(update={"epochs": 1.0}))
    other.manifest["settings"] = proxy.manifest["settings"]  # as if it had been trained alike, from another base
    other.manifest["calibration"] = proxy.manifest.get("calibration")
    proxy.set_session(proxy.torch_session())
    one = run(proxy, corpus, tmp_path).output.read_bytes()
    two = run(other, corpus, tmp_path, "two.jsonl").output.read_bytes()
    assert one != two
    assert [json.loads(line)["labels"]["positive"]["score"] for line in two.splitlines()] == [
        round(answers.labels["positive"].score, 4) for answers in other.answers(TEXTS)
    ]


NO_TEXT = "it has no text (column 'text')"


def test_bad_rows_are_recorded_with_their_reason(proxy, tmp_path):
    lines = [{"id": "a", "text": TEXTS[0]}, {"id": "b", "text": 7}, {"id": "c", "n": 1}, {"id": "d", "text": TEXTS[1]}]
    file = write_lines(tmp_path / "c.jsonl", lines)
    with pytest.raises(CorpusError, match="line 2"):
        run(proxy, open_corpus_files([file]), tmp_path)
    report = run(proxy, open_corpus_files([file], CorpusSettings(on_bad_row="record")), tmp_path)
    result = rows(report.output)
    assert [row["id"] for row in result] == ["a", "b", "c", "d"]
    assert "line 2: its text (column 'text') is a number" in result[1]["error"]
    assert result[2] == {"id": "c", "text": "", "metadata": {"n": 1}, "error": "c.jsonl line 3: " + NO_TEXT}
    counts = report.statistics.counts()
    assert (counts.total, counts.failed, counts.empty) == (4, 2, 1)


# ---- annotations


def test_annotations_stand_in_for_the_proxy_and_are_attributed(proxy, corpus, tmp_path):
    wrong = Answers({"positive": Label(True)}, {"price": (Span.at(TEXTS[0], 0, 8),)})
    no = Answers({"positive": Label(False)})
    known = [Annotation(TEXTS[0], wrong, "human"), Annotation(TEXTS[1], no, "openai:gpt-4.1-mini")]
    result = rows(run(proxy, corpus, tmp_path, known=known).output)
    assert [s["text"] for s in result[0]["spans"]["price"]] == ["Terrible"]
    assert result[0]["decided_by"] == {"positive": "human", "price": "human"}
    assert result[1]["labels"] == {"positive": {"value": False, "score": 1.0}}
    assert result[1]["decided_by"] == {"positive": "llm"}
    assert set(result[2]["decided_by"].values()) == {"proxy"}


def test_the_proxy_decides_steps_that_an_annotation_leaves_open(proxy, corpus, tmp_path):
    """A person who labelled one step only, and an LLM whose budget ended or whose reply failed."""
    known = [
        Annotation(TEXTS[1], Answers({"positive": Label(True)}), "human"),
        Annotation(TEXTS[2], Answers({"positive": Label(True)}), "openai:x", {"price": "no usable reply"}),
        Annotation(TEXTS[4], Answers(spans={"price": ()}), "openai:x"),
    ]
    result = rows(run(proxy, corpus, tmp_path, known=known).output)
    assert result[1]["decided_by"] == {"positive": "human", "price": "proxy"}
    assert result[1]["spans"]["price"][0]["text"] == "$101"
    assert result[1]["labels"]["positive"]["score"] == 1.0
    assert result[2]["decided_by"] == {"positive": "llm", "price": "proxy"}
    assert result[4]["decided_by"] == {"positive": "proxy", "price": "llm"}
    assert result[4]["spans"] == {"price": []}


# ---- backends


@pytest.mark.parametrize("name", ["onnx", "onnx-int8", "torch"])
def test_a_backend_that_decides_alike_is_never_refused(own, name):
    choice = choose_backend(own, TEXTS, name)
    assert choice.name == own.session.name == name
    assert choice.agreement >= MIN_AGREEMENT
    assert all(c.refused is None for c in choice.candidates)


@pytest.mark.parametrize("name", ["openvino", "openvino-bf16"])
def test_openvino_decides_alike(own, name):
    pytest.importorskip("openvino")
    assert choose_backend(own, TEXTS, name).agreement >= MIN_AGREEMENT
    assert own.session.name == name


def test_eight_bits_in_blocks_are_near_float32_where_one_value_is_large(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(200, 32)).astype(np.float32)
    tensors = [onnx.helper.make_tensor_value_info(name, 1, (None, n)) for name, n in (("x", 200), ("y", 32))]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a"
    )
    quantize_blocks(tmp_path / "a", tmp_path / "b")
    x = rng.normal(size=(7, 200)).astype(np.float32)
    x[0, 3] = 300.0  # with one scale for all, the rest would be rounded to nothing
    (y,) = onnxruntime.InferenceSession(str(tmp_path / "b")).run(None, {"x": x})
    assert np.abs(y - x @ weight)[1:].max() < 1
    with pytest.raises(ProxyError, match="no weights that can be quantised"):
        quantize_blocks(tmp_path / "b", tmp_path / "c")


def test_an_untrained_proxy_has_no_file_to_quantise():
    with pytest.raises(ProxyError, match=r"save it, or use backend='onnx'"):
        choose_backend(Proxy.zero_shot(PLAN), TEXTS, "onnx-int8")


def test_auto_takes_the_fastest_that_agrees_and_remembers(own):
    choice = choose_backend(own, TEXTS)
    fit = [c for c in choice.candidates if c.refused is None]
    assert choice.name == max(fit, key=lambda c: c.texts_per_second).name
    assert all(c.agreement >= MIN_AGREEMENT for c in fit)
    again = Proxy.load(own.path)
    assert choose_backend(again, ["never measured on this"]) == choice
    assert again.session.name == choice.name


def test_naming_a_backend_once_does_not_pin_it(own):
    choose_backend(own, TEXTS, "torch")
    assert len(choose_backend(own, TEXTS).candidates) >= 1
    assert "onnx" in [c.name for c in choose_backend(own, TEXTS).candidates]


def test_a_proxy_without_an_export_runs_on_torch_or_is_exported(own):
    (own.path / "model.onnx").unlink()
    plain = Proxy.load(own.path)
    assert choose_backend(plain, TEXTS, "torch").name == "torch"
    assert choose_backend(plain, TEXTS, "onnx").name == "onnx"
    assert (own.path / "model.onnx").is_file()


def test_a_backend_that_decides_otherwise_is_refused(own, monkeypatch):
    class Negated:
        name = "torch-bf16"
        n_parallel = 1
        tokens_per_batch = 1024

        def __init__(self, original):
            self.original = original

        def run(self, ids, mask, weights):
            spans, labels = self.original.run(ids, mask, weights)
            return spans, -labels

    monkeypatch.setattr(own, "bf16_session", lambda _: Negated(own.torch_session()))
    with pytest.raises(ProxyError, match=r"torch-bf16: only .*%.*backend='onnx'"):
        choose_backend(own, TEXTS, "torch-bf16")


def test_bfloat16_decides_and_scores_like_float32(own):
    own.set_session(own.torch_session())
    exact = own.answers(TEXTS, apply_conditions=False)
    own.set_session(own.bf16_session())
    near = own.answers(TEXTS, apply_conditions=False)
    assert share_of_equal_decisions(exact, near) >= 1 - 1 / len(TEXTS)  # a span of a tiny network may score one half
    alone = [own.answers([text], apply_conditions=False)[0] for text in TEXTS]  # no padding
    for other in (near, alone):
        off = [abs(a.labels["positive"].score - b.labels["positive"].score) for a, b in zip(exact, other, strict=True)]
        assert max(off) < 0.02


def test_bfloat16_gives_the_same_on_any_number_of_cores(own):
    results = []
    for cores in (1, 2):
        own.set_session(own.bf16_session(cores))
        results.append(own.answers(TEXTS * 8, apply_conditions=False))
    assert results[0] == results[1]


def test_computing_on_several_cores_leaves_torch_as_it_was(own):
    import torch

    before = torch.get_num_threads()
    own.set_session(own.bf16_session(2))
    own.answers(TEXTS)
    with ThreadPoolExecutor(1) as pool:
        assert {torch.get_num_threads(), pool.submit(torch.get_num_threads).result()} == {before}


def test_a_saved_bert_runs_in_bfloat16_without_transformers(proxy_folder):
    from langchain_falconer.model.bf16_bert import BertSession

    if not BertSession.fits({}):
        pytest.skip("torch has no bfloat16 of oneDNN here")
    code = (
        "import sys; from langchain_falconer.model import Proxy; proxy = Proxy.load(sys.argv[1]); "
        "proxy.set_session(proxy.bf16_session()); assert proxy.run(['It works']); print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(proxy_folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_backend_is_refused_before_anything_runs(proxy):
    with pytest.raises(SettingsError, match="no backend 'tpu'; choose auto, onnx"):
        choose_backend(proxy, TEXTS, "tpu")
    with pytest.raises(ValueError, match="torch-bf16"):
        RunSettings(backend="tpu")


def test_a_missing_gpu_is_reported(proxy):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for call in (
        lambda: choose_backend(proxy, TEXTS, device="cuda"),
        lambda: check_run(RunSettings(device="cuda")),
        lambda: proxy.run(TEXTS, device="cuda"),
    ):
        with pytest.raises(FalconerError, match="no cuda device here; choose the device auto or cpu"):
            call()
    with pytest.raises(SettingsError, match="the backend onnx computes on the CPU"):
        check_run(RunSettings(backend="onnx", device="cuda"))


def test_the_same_on_a_device_that_is_named(own):
    here = own.run(TEXTS)
    assert own.run(TEXTS, device="cpu") == own.run(TEXTS, device="auto") == here
    assert choose_backend(own, TEXTS, device="cpu").candidates[0].name == "onnx"


def test_a_backend_that_answers_annotations_worse_is_refused(own, monkeypatch):
    class Biased:
        name = "torch-bf16"
        n_parallel = 1
        tokens_per_batch = 1024

        def __init__(self, *_):
            self.original = own.torch_session()

        def run(self, ids, mask, weights):
            spans, labels = self.original.run(ids, mask, weights)
            return (spans, -labels) if len(ids) < len(known) * 2 else (spans, labels)

    known = annotations(TEXTS[:3])
    monkeypatch.setattr(own, "bf16_session", Biased)
    with pytest.raises(ProxyError, match="less than float32 against the annotations"):
        choose_backend(own, TEXTS, "torch-bf16", known)


def test_agreement_counts_decisions_one_by_one():
    yes, no = Answers({"a": Label(True)}, {"s": ()}), Answers({"a": Label(False)}, {"s": (Span(0, 1, "x"),)})
    assert share_of_equal_decisions([yes, no], [yes, no]) == 1
    assert share_of_equal_decisions([yes, no], [yes, yes]) == 0.5
    assert share_of_equal_decisions([], []) == 1
    spans = [Span(i, i + 1, "x") for i in range(0, 30, 2)]
    one, moved = (Answers(spans={"s": (*spans[:-1], last)}) for last in (spans[-1], Span(28, 30, "xx")))
    assert share_of_equal_decisions([one], [moved]) == 14 / 15
    assert share_of_equal_decisions([one], [Answers(spans={"s": tuple(spans[:-1])})]) == 14 / 15
    assert share_of_equal_decisions([one], [Answers()]) == 0
    few, many = (Answers({"a": Label(names)}) for names in (("x", "y"), ("x", "y", "z")))
    assert share_of_equal_decisions([few], [many]) == 2 / 3
    red, blue = (Answers(spans={"s": (Span(0, 1, "x", labels={"of": Label(c)}),)}) for c in ("red", "blue"))
    assert share_of_equal_decisions([red], [blue]) == 0.5


@pytest.fixture
def untrained(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN.to_dict()))
    return tmp_path / "plan.json"


@pytest.mark.parametrize("backend", ["auto", "onnx"])
def test_an_untrained_proxy_predicts_without_torch(untrained, tmp_path, backend):
    write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    code = (
        "import sys; from langchain_falconer.cli import main; sys.argv[0] = 'falconer'\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*({'torch', 'transformers', 'onnxruntime'} & sys.modules.keys()))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "predict",
        untrained,
        tmp_path / "corpus.jsonl",
        "-o",
        tmp_path / "out.jsonl",
    ]
    command += ["--home", tmp_path / "home", "--backend", backend]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "onnxruntime"
    assert len(rows(tmp_path / "out.jsonl")) == len(TEXTS)
    assert f"{len(TEXTS)}/?" not in done.stderr


def test_what_is_measured_is_bounded_however_long_the_texts(own, monkeypatch):
    read = []
    answers = own.answers
    monkeypatch.setattr(
        own, "answers", lambda texts, **more: read.append(sum(map(len, texts))) or answers(texts, **more)
    )
    choose_backend(own, ["I love it, I paid $5. " * 5_000] * 50)
    assert max(read) <= 40_000


# ---- outputs


@pytest.mark.parametrize(
    ("name", "message"),
    [("rows.pdf", "must end in"), ("nowhere/rows.jsonl", "does not exist"), ("folder.jsonl", "is a folder")],
)
def test_an_output_that_cannot_be_written_is_refused_early(proxy, corpus, tmp_path, name, message):
    (tmp_path / "folder.jsonl").mkdir()
    for work in (lambda: check_output(tmp_path / name), lambda: run(proxy, corpus, tmp_path, name)):
        with pytest.raises(RunError, match=message) as caught:
            work()
        assert "\n" not in str(caught.value)
    assert shards(tmp_path) == []


def test_an_earlier_output_stays_until_the_new_one_is_complete(proxy, tmp_path):
    file = write_lines(tmp_path / "c.jsonl", [*({"text": t} for t in TEXTS), {"text": 7}])
    (tmp_path / "out.jsonl").write_text("earlier")
    with pytest.raises(CorpusError):
        run(proxy, open_corpus_files([file]), tmp_path)
    assert (tmp_path / "out.jsonl").read_text() == "earlier"
    assert not list(tmp_path.glob(".*partial*"))


def test_row_statistics_survive_json_and_add_up(proxy, corpus, tmp_path):
    report = run(proxy, corpus, tmp_path)
    again = RowStatistics.from_dict(json.loads(json.dumps(report.statistics.to_dict())))
    assert again == report.statistics
    again += report.statistics
    assert again.total == 2 * report.statistics.total
    summary = report.statistics.counts()
    result = rows(report.output)
    assert summary.labels["positive"]["true"] == sum(r["labels"]["positive"]["value"] for r in result)
    assert summary.spans["price"].spans == sum(len(r["spans"].get("price", [])) for r in result)
    assert sum(summary.scores["positive"]) == len(result)
