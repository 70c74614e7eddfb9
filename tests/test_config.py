"""``falconer.toml`` and ``falconer init``: options in a file, under those of the command line."""

import json
import os

import pytest
import typer
from laptops import PLAN, annotation_row, reviews, write_corpus, write_lines, write_plan
from test_cli import falconer, refused  # noqa: F401 (a fixture)

from langchain_falconer import Plan, cli
from langchain_falconer.cli.config import options_of, tomllib

ROOT = typer.main.get_command(cli.app)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predict(falconer, proxy_folder, here):  # noqa: F811
    write_lines(here / "c.jsonl", [{"id": str(i), "text": t, "n": i, "m": "x"} for i, t in enumerate(reviews(4))])
    return lambda *more: falconer("predict", proxy_folder, "c.jsonl", "-o", "o.jsonl", "--home", "home", *more)


def metadata(here):
    return [set(json.loads(line)["metadata"]) for line in (here / "o.jsonl").read_text("utf-8").splitlines()]


def test_options_come_from_the_file_of_the_folder_and_the_command_line_overrides_them(predict, here):
    (here / "falconer.toml").write_text('keep = "n"\nmax_usd = 1\n[mine]\nyes = true\n')
    done = predict()
    assert done.code == 0
    assert "with the options of falconer.toml" in done.err
    assert metadata(here) == [{"n"}] * 4
    predict("--keep", "m")
    assert metadata(here) == [{"m"}] * 4
    (here / "falconer.toml").write_text('keep = "n"\n[predict]\nkeep = ["n", "m"]\n')
    predict()
    assert metadata(here) == [{"n", "m"}] * 4


@pytest.mark.parametrize("before", [True, False])
def test_a_named_file_is_taken_instead(before, falconer, proxy_folder, predict, here):  # noqa: F811
    (here / "falconer.toml").write_text('keep = "all"\n')
    (here / "other.toml").write_text('keep = "none"\nhome = "home"\n')
    command = ["predict", proxy_folder, "c.jsonl", "-o", "o.jsonl"]
    named = ["--config", "other.toml"]
    assert falconer(*(named + command if before else command + named)).code == 0
    assert not any("metadata" in json.loads(line) for line in (here / "o.jsonl").read_text("utf-8").splitlines())
    assert (here / "home").is_dir()


def test_the_file_is_over_the_environment_and_serves_groups_of_commands(falconer, here, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FALCONER_HOME", str(here / "of-the-environment"))
    (here / "falconer.toml").write_text('home = "of-the-file"\n')
    for arguments in (["proxies"], ["proxies", "list"]):
        assert "of-the-file" in falconer(*arguments).out.replace("\n", "")
    assert "given" in falconer("proxies", "list", "--home", "given").out.replace("\n", "")


def test_settings_without_an_option_are_taken(falconer, here, tiny_bert):  # noqa: F811
    write_plan(here / "plan.json")
    write_lines(here / "labels.jsonl", map(annotation_row, reviews(20)))
    head = f'plan = "plan.json"\nannotations = "labels.jsonl"\nbase = {json.dumps(str(tiny_bert))}\n'
    (here / "falconer.toml").write_text(f"{head}[settings]\npassage_chars = 700\n[settings.train]\nepochs = 2\n")
    trained = falconer("train", "--home", "home", "--json")
    assert trained.code == 0
    manifest = json.loads((here / trained.json["proxy"] / "manifest.json").read_text("utf-8"))
    assert (manifest["passage_chars"], manifest["settings"]["epochs"]) == (700, 2)
    assert Plan.parse(manifest["plan"]) == PLAN
    listed = falconer("proxies", "--home", "home", "--json").json["proxies"]
    assert [here / "home" / "proxies" / one["name"] for one in listed] == [here / trained.json["proxy"]]


WRONG = {
    "an unknown option": ("max-usdd = 1", ["falconer.toml", "no option 'max-usdd'", "did you mean max-usd?"]),
    "an option of another command": ("[train]\nmax-usd = 1", ["[train]", "no option 'max-usd'"]),
    "an unknown command": ("[minee]\nllm = 'x'", ["no option 'minee'", "did you mean mine?"]),
    "an unknown setting": ("[settings.train]\nepoch = 3", ["settings.train.epoch", "did you mean epochs?"]),
    "a setting out of range": ("[settings]\npassage_chars = 1", ["settings.passage_chars", "greater than or equal"]),
    "a setting with an option": ("[settings]\nseed = 1", ["settings.seed", "has an option"]),
    "what each command has of its own": ("output = 'x.csv'", ["'output' means something else", "[mine]"]),
    "a command that is no table": ("mine = 3", ["mine is a command", "[mine]"]),
    "no TOML": ("llm = ", ["falconer.toml is not TOML", "falconer init"]),
    "a secret by its name": ("openai_api_key = 'abc'", ["is a secret", "OPENAI_API_KEY"]),
    "a secret by its value": ("llm = 'sk-abcdefghijklmnop'", ["is a secret"]),
    "a secret in a table": ("[mine]\nllm = 'openai:sk-proj-abcdefghijklmnop'", ["is a secret"]),
    "a password in a URL": ("unlabelled = ['s3://me:pass@host/x']", ["is a secret"]),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_sentence(text, said, falconer, here):  # noqa: F811
    (here / "falconer.toml").write_text(text)
    write_plan(here / "plan.json")
    write_corpus(here / "c.jsonl", reviews(2))
    outcome = falconer("mine", "x", "c.jsonl", "-o", "o.jsonl", "--plan", "plan.json", "--home", "home")
    message = outcome.err.splitlines()[-1]
    assert (outcome.code, outcome.out) == (2, "")
    for words in said:
        assert words in message
    assert "abcdefgh" not in outcome.err
    assert "pass@" not in outcome.err


def test_a_value_of_the_wrong_type_is_wrong_usage(falconer, here):  # noqa: F811
    (here / "falconer.toml").write_text('annotate = "many"')
    outcome = falconer("mine", "x", "c.jsonl", "-o", "o.jsonl")
    assert outcome.code == 2
    assert "--annotate" in outcome.err
    assert refused(falconer("--config", "nowhere.toml", "proxies"), "nowhere.toml", code=2)


def test_init_writes_a_plan_and_every_option(falconer, here):  # noqa: F811
    assert falconer("init", "new").code == 0
    plan = Plan.parse((here / "new" / "plan.json").read_bytes())
    assert {step.op for step in plan.steps} == {"get_label", "get_span"}
    text = (here / "new" / "falconer.toml").read_text("utf-8")
    assert not {name for name, value in tomllib.loads(text).items() if not isinstance(value, dict)}
    every = "\n".join(line[2:] if line.startswith("# ") and " = " in line else line for line in text.splitlines())
    data = tomllib.loads(every.replace("\n# falconer.toml", ""))
    wanted = {name for command in ("mine", "predict", "train") for name in options_of(ROOT.commands[command])}
    assert {*data} - {"settings", "mine", "predict", "train"} == wanted - {"output", "yes"}
    assert (data["mine"].keys(), data["predict"].keys()) == ({"output", "yes"}, {"output"})
    assert {"held_out", "unlabelled", "train", "annotate", "corpus", "run"} <= set(data["settings"])
    assert not {"seed", "base", "targets", "budget", "metrics"} & set(data["settings"])
    (here / "falconer.toml").write_text(every)
    assert falconer("proxies").code == 0  # all of it is known
    (here / "falconer.toml").unlink()
    assert refused(falconer("init", "new"), "is there already")
    assert falconer("mine", "--help").code == 0


# ---- help


def test_help_shows_the_defaults_and_the_ways_to_ask_for_it(falconer, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "160")
    for flag in ("-h", "--help"):
        shown = falconer("mine", flag)
        assert shown.code == 0
        for default in ("[default: 300]", "[default: auto]", "[default: (no limit)]", "$FALCONER_HOME or ~/.falconer"):
            assert default in shown.out
    assert "--install-completion" in falconer("-h").out
    assert falconer("--version").out.strip()


def test_the_package_is_a_command(here):
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "langchain_falconer", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    completion = {**os.environ, "_FALCONER_COMPLETE": "complete_bash", "COMP_WORDS": "falconer pr", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['falconer']; from langchain_falconer.cli import main; main()"
    shell = subprocess.run([sys.executable, "-c", code], env=completion, capture_output=True, text=True, check=False)
    assert {"predict", "proxies"} <= set(shell.stdout.split())
