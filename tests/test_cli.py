"""The command line: what it prints, what it refuses, and that a refusal harms nothing."""

import io
import json
import os
import re
import shutil
import sys

import pytest
from laptops import INSTRUCTION, PLAN, annotation_row, reviews, teacher, write_corpus, write_lines, write_plan
from loopback import ChatServer

from langchain_falconer import cli
from langchain_falconer.execute import read_rows

BAR = "━━"


class Outcome:
    def __init__(self, code, captured):
        self.code = code
        self.out = captured.out
        self.err = captured.err

    @property
    def messages(self):
        """What stderr says, progress aside."""
        return [line for line in self.err.splitlines() if line.strip() and BAR not in line]

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def falconer(monkeypatch, capsys):
    """Run ``falconer ARGUMENTS`` in this process."""

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["falconer", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Outcome(left.value.code or 0, capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_corpus(folder / "corpus.jsonl", reviews(60))
    write_lines(folder / "labels.jsonl", map(annotation_row, reviews(40)))
    write_plan(folder / "plan.json")
    return folder


@pytest.fixture
def mine(falconer, files, tiny_bert):
    """``falconer mine`` on a person's annotations; what is given replaces a part, None leaves it out."""

    def run(*more, corpus=files / "corpus.jsonl", output=files / "out.jsonl", **options):
        given = {"plan": files / "plan.json", "annotations": files / "labels.jsonl", "home": files / "home"}
        given |= {"base": tiny_bert, "backend": "onnx", **options}
        flags = [x for name, v in given.items() if v is not None for x in (f"--{name.replace('_', '-')}", v)]
        return falconer("mine", INSTRUCTION, corpus, "-o", output, *flags, *more)

    return run


# ---- what it does


def test_mine_with_annotations_of_ones_own(mine, files):
    done = mine("--json", "--report", files / "report.html")
    assert done.code == 0
    assert done.messages == []
    assert done.out.startswith("{")
    assert done.json["rows"]["total"] == 60
    assert done.json["cost"]["calls"] == 0
    assert done.json["report"] == str(files / "report.html")
    assert "<html" in (files / "report.html").read_text()
    found = [json.loads(line) for line in (files / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in found] == reviews(60)
    human = mine()
    assert human.code == 0
    assert "out.jsonl" in human.out.replace("\n", "")


def test_a_metric_is_served_and_what_it_gave_is_said(mine, files):
    done = mine("--json", metric="positive=recall:0.9", output=files / "metric.jsonl")
    assert done.code == 0
    said = " ".join(done.json["messages"])
    assert re.search(r"step 'positive' says yes from a probability of 0\.\d+ on, for recall:0\.9: precision", said)
    assert done.json["training"]["operating_points"]["positive"]["recall"] >= 0.9


def test_mine_and_plan_with_an_llm(falconer, files, tiny_bert, tmp_path, monkeypatch):
    with ChatServer(teacher) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
        planned = falconer("plan", INSTRUCTION, "--llm", "openai:loopback", "--json")
        assert (planned.code, planned.json["steps"]) == (0, PLAN.to_dict()["steps"])
        shown = falconer("plan", INSTRUCTION, "--llm", "openai:loopback")
        assert "def pipeline(text):" in shown.out
        options = ["--llm", "openai:loopback", "--home", tmp_path / "home", "--base", tiny_bert, "--annotate", 20]
        options += ["--yes", "--json", "--price", "1,2", "--max-usd", "5", "--backend", "onnx"]
        done = falconer("mine", INSTRUCTION, files / "corpus.jsonl", "-o", tmp_path / "o.parquet", *options)
        assert done.code == 0
    assert done.json["cost"]["calls"] == server.calls - 1
    assert done.json["cost"]["usd"] == pytest.approx((server.calls - 1) * (10 * 1 + 5 * 2) / 1e6)
    assert done.json["cost"]["prices"] == "as set"
    expected = re.search(r"to annotate 20 texts: about (\d+) LLM calls, [\d,]+ tokens, \$[\d.]+ \(as set\)", done.err)
    assert int(expected[1]) == 2 * (
        20 / 4 + 2
    )  # two steps, four texts a call, two texts again; --yes skips no estimate
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"sk-secret-0123456789" not in kept
    assert "sk-secret" not in done.out + done.err


def test_what_a_plan_costs_is_told_before_anything_but_the_plan_is_paid(falconer, files, tmp_path, monkeypatch):
    options = ["--llm", "openai:loopback", "--cost", files / "corpus.jsonl", "--home", tmp_path / "home"]
    with ChatServer(teacher) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        told = falconer("plan", INSTRUCTION, *options, "--price", "1,2", "--json")
        shown = falconer("plan", INSTRUCTION, *options)
        assert server.calls == 1  # the plan is found again
    assert told.json["steps"] == PLAN.to_dict()["steps"]
    ways = [told.json["costs"]["chosen"], *told.json["costs"]["others"]]
    assert {way["name"] for way in ways} >= {"llm", "train"}
    assert all(way["usd"] > 0 for way in ways)
    assert told.json["costs"]["break_even"]["texts_by_tokens"] == 301
    assert "training costs less than asking the LLM" in shown.out.replace("\n", " ")


def test_a_plan_is_answered_untrained(falconer, files, tmp_path):
    predicted = falconer("predict", files / "plan.json", files / "corpus.jsonl", "-o", tmp_path / "p.jsonl",
                         "--home", tmp_path / "home", "--backend", "torch", "--json")  # fmt: skip
    assert predicted.code == 0
    assert predicted.json["rows"]["total"] == 60
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()]
    assert {by for row in rows for by in row["decided_by"].values()} == {"proxy"}


def test_columns_to_keep_are_named_and_the_guessed_column_of_the_text_is_shown(falconer, files, tmp_path):
    corpus = write_lines(tmp_path / "c.jsonl", [{"id": i, "review": "Fine.", "stars": i, "day": "x"} for i in range(3)])
    arguments = ["predict", files / "plan.json", corpus, "-o", tmp_path / "p.jsonl", "--home", tmp_path / "home"]
    predicted = falconer(*arguments, "--backend", "torch", "--keep", "stars")
    assert predicted.code == 0
    assert "column review" in predicted.out.replace("\n", " ")
    assert [row["metadata"] for row in read_rows(tmp_path / "p.jsonl")] == [{"stars": i} for i in range(3)]
    assert refused(falconer(*arguments, "--keep", "star"), "no column 'star' to keep")


def test_train_predict_and_report(falconer, mine, files, tiny_bert, tmp_path, monkeypatch):
    trained = falconer("train", "--plan", files / "plan.json", "--annotations", files / "labels.jsonl",
                       "--unlabelled", files / "corpus.jsonl", "-o", tmp_path / "proxy", "--base", tiny_bert,
                       "--json")  # fmt: skip
    assert trained.code == 0
    assert (trained.json["annotations"], trained.json["unlabelled"]) == (40, 60)
    assert trained.json["export_difference"] < 1e-3
    home = ["--home", tmp_path / "home"]
    predicted = falconer("predict", tmp_path / "proxy", files / "corpus.jsonl", "-o", tmp_path / "p.jsonl", *home,
                         "--backend", "torch", "--json")  # fmt: skip
    assert predicted.code == 0
    assert predicted.json["backend"] == "torch"
    assert predicted.json["rows"]["total"] == 60
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 60
    assert (
        "60 rows"
        in falconer("predict", tmp_path / "proxy", files / "corpus.jsonl", "-o", tmp_path / "p.parquet", *home).out
    )

    again = falconer("predict", tmp_path / "proxy", files / "corpus.jsonl", "-o", tmp_path / "p.duckdb", *home,
                     "--backend", "torch", "--retry-failed", "--json")  # fmt: skip
    assert (again.json["rows"], again.json["texts_per_second"]) == (predicted.json["rows"], None)
    assert list(read_rows(tmp_path / "p.duckdb")) == list(read_rows(tmp_path / "p.jsonl"))

    mine(home=files / "home")
    reported = falconer("report", "--home", files / "home", "-o", tmp_path / "r.html")
    assert reported.code == 0
    assert "<html" in (tmp_path / "r.html").read_text()
    monkeypatch.chdir(tmp_path)
    assert falconer("report", "--home", files / "home").code == 0
    (tmp_path / "report.html").write_text("mine")
    assert falconer("report", "--home", files / "home").code == 2  # it replaces only what it was asked to
    assert (tmp_path / "report.html").read_text() == "mine"
    assert falconer("report", "--home", files / "home", "-o", "report.html").code == 0
    none = falconer("report", "nosuchrun", "--home", files / "home", "-o", tmp_path / "r2.html")
    assert (none.code, len(none.messages)) == (1, 1)


@pytest.fixture
def proxies(falconer, proxy_folder, tmp_path):
    """``falconer proxies`` on a home with two proxies of the same plan and a broken one."""
    for name in ("one", "two", "broken"):
        shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / name)
    (tmp_path / "home" / "proxies" / "broken" / "manifest.json").write_text("{")
    return lambda *arguments: falconer("proxies", *arguments, "--home", tmp_path / "home")


def test_proxies_are_listed_and_shown(falconer, proxies, tmp_path):
    assert "no proxy yet" in falconer("proxies", "--home", tmp_path / "empty").out
    listed = proxies("--json").json["proxies"]
    assert {entry["name"]: entry["broken"] is None for entry in listed} == {"one": True, "two": True, "broken": False}
    human = proxies()
    assert human.code == 0
    for words in ("one", "two", "broken: its"):
        assert words in human.out
    shown = proxies("show", "one", "--json").json
    assert (shown["plan"], shown["data"]["annotations"], shown["format"]) == (PLAN.to_dict(), 48, 2)
    human = proxies("show", "one")
    for words in ("def pipeline(text):", "48 annotations", "torch", "not measured"):
        assert words in human.out
    assert str(tmp_path / "home" / "proxies" / "one") in "".join(human.out.split())
    before = falconer("proxies", "--home", tmp_path / "home", "--json", "show", "one")
    assert before.json == shown


def test_proxies_are_moved_and_deleted(proxies, tmp_path):
    assert proxies("export", "one", tmp_path / "one.zip", "--json").json["path"] == str(tmp_path / "one.zip")
    assert proxies("import", tmp_path / "one.zip", "--name", "three", "--json").json["name"] == "three"
    assert proxies("delete", "three", "broken", "--yes", "--json").json == {"deleted": ["three", "broken"]}
    assert [entry["name"] for entry in proxies("--json").json["proxies"]] == ["one", "two"]


@pytest.mark.parametrize(("said", "left"), [("y", []), ("n", ["one"])])
def test_deleting_asks_first(said, left, proxies, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{said}\n"))
    assert proxies("delete", "one").code == (1 if left else 0)
    assert [entry["name"] for entry in proxies("--json").json["proxies"] if entry["name"] == "one"] == left


def test_a_manifest_that_says_odd_things_can_be_shown(proxies, tmp_path):
    file = tmp_path / "home" / "proxies" / "one" / "manifest.json"
    odd = {"data": 5, "training": {"loss": 1}, "backend": {"candidates": [7]}, "calibration": "x", "settings": []}
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    assert proxies("show", "one").code == 0
    assert proxies().code == 0


def test_help_lists_every_command(falconer):
    shown = falconer("--help")
    assert shown.code == 0
    for command in ("plan", "mine", "train", "predict", "proxies", "report", "review", "demo", "mcp", "benchmark"):
        assert command in shown.out


# ---- what it refuses


def lines(*rows):
    return lambda path: write_lines(path, rows)


def raw(data):
    return lambda path: path.write_bytes(data) and path


GOOD = {"id": "a", "text": "I love it, $5"}
BAD_CORPORA = {
    "no text column": (lines({"a": "x" * 30, "b": "y" * 30}), {}, ["--text-column"]),
    "wrong column": (lines(GOOD), {"text_column": "body"}, ["no column 'body'", "text"]),
    "broken UTF-8": (raw(b'{"text": "fine"}\n{"text": "caf\xe9"}\n'), {}, ["line 2", "UTF-8"]),
    "no text at all": (lines({"id": "a", "text": ""}, {"id": "b", "text": " \n"}), {}, ["none of the 2 rows"]),
    "text that is a number": (lines(GOOD, {"id": "b", "text": 7}), {}, ["line 2", "number"]),
    "not JSON": (raw(b'{"text": "fine"}\n{"text": \n'), {}, ["line 2", "JSON"]),
    "a line of 10 MB": (lines(GOOD, {"id": "b", "text": "x" * 10_000_000}), {}, ["line 2", "longer"]),
    "duplicate ids": (lines(GOOD, {"id": "b", "text": "x"}, GOOD), {}, ["line 3", "'a'", "--id-column"]),
    "lone surrogate": (raw(b'{"text": "\\ud800 x"}\n'), {}, ["line 1", "surrogate"]),
    "empty file": (raw(b""), {}, ["is empty"]),
    "blank file": (raw(b"\n \n"), {}, ["at least one"]),
}


def refused(outcome, *said, code=1):
    """One sentence and an exit code, nothing on stdout, no traceback."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert len(outcome.messages) == 1, outcome.messages
    (message,) = outcome.messages
    assert message.startswith("falconer: ")
    for words in said:
        assert words in message
    return True


@pytest.fixture
def untouched(files):
    """A path for the output, where an earlier run has left its rows; a refused run leaves them there."""
    output = files / "earlier.jsonl"
    output.write_text("earlier rows")
    yield output
    assert output.read_text() == "earlier rows"
    assert not list(files.glob(".*.partial"))


@pytest.mark.parametrize(("write", "options", "said"), BAD_CORPORA.values(), ids=BAD_CORPORA)
def test_a_bad_corpus_is_refused(write, options, said, mine, tmp_path, untouched):
    write(tmp_path / "c.jsonl")
    assert refused(mine(corpus=tmp_path / "c.jsonl", output=untouched, **options), "c.jsonl", *said)


def test_bad_rows_can_be_recorded_instead_and_stay_so_when_tried_again(mine, tmp_path):
    write_lines(tmp_path / "c.jsonl", [GOOD, {"id": "b", "text": 7}, {"id": "c", "text": "Terrible, $7"}])
    given = {"corpus": tmp_path / "c.jsonl", "output": tmp_path / "o.jsonl", "bad_rows": "record"}
    done = mine("--json", **given)
    assert (done.code, done.json["rows"]["total"], done.json["rows"]["failed"]) == (0, 3, 1)
    first = (tmp_path / "o.jsonl").read_bytes()
    again = mine(
        "--json", "--retry-failed", corpus=tmp_path / "c.jsonl", output=tmp_path / "o.jsonl", bad_rows="record"
    )
    assert (again.code, again.json["rows"]) == (0, done.json["rows"])
    assert (tmp_path / "o.jsonl").read_bytes() == first


def test_a_missing_corpus_is_refused(mine, tmp_path, untouched):
    assert refused(mine(corpus=tmp_path / "nowhere.jsonl", output=untouched), "nowhere.jsonl")


BAD_PLANS = {
    "not JSON": ("{", "not JSON"),
    "unknown field": ({"instruction": "x", "steps": [{"id": "a", "op": "get_span", "instruktion": "y"}]}, "'a'"),
    "a cycle": (
        {
            "instruction": "x",
            "steps": [
                {"id": "a", "op": "get_span", "instruction": "y", "of": "b"},
                {"id": "b", "op": "get_span", "instruction": "y", "of": "a"},
            ],
        },
        "wait for each other",
    ),
}


@pytest.mark.parametrize(("data", "said"), BAD_PLANS.values(), ids=BAD_PLANS)
def test_a_bad_plan_is_refused(data, said, mine, tmp_path, untouched):
    (tmp_path / "plan.json").write_text(data if isinstance(data, str) else json.dumps(data))
    assert refused(mine(plan=tmp_path / "plan.json", output=untouched), said)


BAD_LABELS = {
    "unknown step": ([{"text": "x", "labels": {"postive": True}}], ["line 1", "'postive'", "'positive'"]),
    "unknown label": ([{"text": "x", "labels": {"positive": "yes"}}], ["line 1", "'positive'", "true or false"]),
    "span out of range": ([{"text": "I paid $5", "spans": {"price": [[7, 99]]}}], ["line 1", "'price'", "[7, 99]"]),
    "no text": ([{"labels": {"positive": True}}], ["line 1", '"text"']),
    "only one text": ([{"text": "x", "labels": {"positive": True}}], ["at least two"]),
    "nothing for a step": (
        [{"text": f"x{i}", "labels": {"positive": False}} for i in range(20)],
        ["step 'price' has no annotation"],
    ),
    "none": ([], ["holds no annotations"]),
}


@pytest.mark.parametrize(("rows", "said"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_annotations_are_refused(rows, said, mine, tmp_path, untouched):
    write_lines(tmp_path / "labels.jsonl", rows)
    assert refused(mine(annotations=tmp_path / "labels.jsonl", output=untouched), *said)


BAD_SETTINGS = {
    "a target without an LLM": ({"target_agreement": 0.9}, ["target agreement", "--llm"], 2),
    "a target above one": ({"target_agreement": 1.5}, ["targets.agreement", "less than 1"], 2),
    "nobody annotates": ({"annotations": None}, ["--llm", "--annotations"], 2),
    "nobody plans": ({"plan": None}, ["--plan", "--llm"], 1),
    "a plan that is not there": ({"plan": "nowhere.json"}, ["nowhere.json"], 2),
    "annotations that are not there": ({"annotations": "nowhere.jsonl"}, ["nowhere.jsonl"], 1),
    "a base that is none": ({"base": "no/where", "home": "fresh"}, ["no/where"], 1),
    "an LLM without provider": ({"llm": "://x"}, ["provider:model"], 1),
    "an LLM without key": ({"llm": "openai:gpt-4.1-mini", "annotations": None}, ["OPENAI_API_KEY"], 1),
    "a metric of no step": ({"metric": "f1"}, ["--metric f1", "STEP=METRIC"], 2),
    "a metric that is none": ({"metric": "positive=auc"}, ["metrics", "'auc'", "recall:R"], 2),
    "a metric of spans": ({"metric": "price=f1"}, ["step 'price'", "'positive'"], 2),
    "a bad price": ({"llm": "openai:x", "price": "cheap"}, ["--price 'cheap'", "0.4,1.6"], 2),
    "a price of three": ({"llm": "openai:x", "price": "1,2,3"}, ["--price '1,2,3'"], 2),
    "a negative price": ({"llm": "openai:x", "price": "-1,2"}, ["price"], 2),
    "a price that is no number": ({"llm": "openai:x", "price": "nan,1"}, ["price"], 2),
    "a timeout of nothing": ({"llm": "openai:x", "timeout": 0}, ["timeout"], 2),
}


@pytest.mark.parametrize(("options", "said", "code"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_make_no_sense_are_refused(options, said, code, mine, tmp_path, untouched, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if options.get("home"):
        options = {**options, "home": tmp_path / "home"}
    assert refused(mine(output=untouched, **options), *said, code=code)


@pytest.mark.parametrize(("option", "extra"), [("backend", "openvino"), ("engine", "ray")])
def test_an_extra_that_is_not_installed_is_refused_at_the_start(
    option, extra, mine, falconer, files, untouched, monkeypatch
):
    monkeypatch.setitem(sys.modules, extra, None)
    said = f"pip install 'langchain-falconer[{extra}]'"
    assert refused(mine(output=untouched, **{option: extra}), said, code=2)
    predicted = falconer("predict", "no.proxy", files / "corpus.jsonl", "-o", untouched, f"--{option}", extra)
    assert refused(predicted, said, code=2)


def test_usd_need_a_price_before_anything_is_paid(mine, untouched, tmp_path, monkeypatch):
    with ChatServer(teacher) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        outcome = mine(llm="openai:loopback", annotations=None, max_usd=1, output=untouched, home=tmp_path)
    assert refused(outcome, "max_usd", "--price", code=2)
    assert server.calls == 0


@pytest.mark.parametrize("output", ["nowhere/out.jsonl", "out.pdf", "."])
def test_an_output_that_cannot_be_written_is_refused(output, mine, tmp_path):
    assert refused(mine(output=tmp_path / output), "output")


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(mine, tmp_path, untouched):
    assert refused(mine(report=tmp_path / "nowhere" / "r.html", output=untouched), "report", "nowhere")


def test_a_home_that_cannot_be_made_is_refused(mine, tmp_path, untouched):
    (tmp_path / "file").write_text("x")
    assert refused(mine(home=tmp_path / "file" / "home", output=untouched), "home", "--home")


def test_a_proxy_that_is_none_is_refused(falconer, files, tmp_path, untouched):
    assert refused(falconer("predict", tmp_path, files / "corpus.jsonl", "-o", untouched), "no proxy")


def test_a_proxy_is_never_written_over_something_else_nor_trained_for_that(falconer, files, tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_falconer.falconer.train_proxy", lambda *_, **__: pytest.fail("it was trained"))
    (tmp_path / "thesis.txt").write_text("x")
    outcome = falconer("train", "--plan", files / "plan.json", "--annotations", files / "labels.jsonl", "-o", tmp_path)
    assert refused(outcome, "is not a proxy")
    assert (tmp_path / "thesis.txt").read_text() == "x"


BAD_MOVES = {
    "an unknown name": (["show", "three"], ["no proxy 'three'", "one", "two"], 1),
    "a broken one": (["show", "broken"], ["'broken' is broken", "not JSON"], 1),
    "no name": (["export", "../one", "x"], ["not a proxy name"], 1),
    "nobody to ask": (["delete", "one"], ["--yes"], 2),
    "one of the names unknown": (["delete", "one", "three", "--yes"], ["no proxy 'three'"], 1),
    "a name that is taken": (["import", "home/proxies/one"], ["'one' already", "--name"], 1),
    "a file that is not there": (["import", "nowhere.zip"], ["nowhere.zip"], 1),
    "a place that is taken": (["export", "one", "home"], ["home is there already", "another path"], 1),
}


@pytest.mark.parametrize(("arguments", "said", "code"), BAD_MOVES.values(), ids=BAD_MOVES)
def test_what_cannot_be_done_to_proxies_is_refused(arguments, said, code, proxies, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(proxies(*arguments), *said, code=code)
    assert sorted(path.name for path in (tmp_path / "home" / "proxies").iterdir()) == ["broken", "one", "two"]


@pytest.mark.parametrize("arguments", [["plan", "x"], ["benchmark", "planning"]])
def test_what_needs_an_llm_says_so(falconer, arguments):
    assert refused(falconer(*arguments), "--llm", code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["mine"],
        ["mine", "x", "y", "-o", "z", "--annotate", "5"],
        ["fly"],
        ["mine", "--engine", "warp"],
        ["mine", "--backend", "tpu"],
        ["mine", "--bad-rows", "mend"],
    ],
)
def test_wrong_usage_exits_with_2(falconer, arguments):
    outcome = falconer(*arguments)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


def test_threads_of_a_command_wait_without_spinning_unless_the_user_says_otherwise(monkeypatch):
    from langchain_falconer.cli import main

    monkeypatch.setattr("sys.argv", ["falconer", "--version"])
    for policy, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if policy:
            monkeypatch.setenv("OMP_WAIT_POLICY", policy)
        with pytest.raises(SystemExit):
            main()
        assert os.environ["OMP_WAIT_POLICY"] == expected
