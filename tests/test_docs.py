"""Every code block of the README and the docs is executed; what cannot run here is parsed, and says why.

A block after ``<!-- not run: REASON -->`` is only parsed. A ``text`` block is what the block before it prints. The
blocks of a page run in order, in one folder and one namespace, with a scripted LLM and a tiny network.
"""

import ast
import asyncio
import inspect
import json
import re
import shlex
import shutil
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from laptops import (
    INSTRUCTION,
    PLAN,
    annotation_row,
    asked,
    is_planning,
    is_positive,
    reviews,
    teacher,
    write_corpus,
    write_lines,
    write_plan,
)
from loopback import ChatServer

from langchain_falconer import (
    Annotation,
    Answers,
    Falconer,
    Label,
    LabelStep,
    MineSettings,
    Plan,
    Proxy,
    RunSettings,
    TrainSettings,
    cli,
)
from langchain_falconer.model import encoder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *(page for page in sorted(ROOT.glob("docs/**/*.md")) if page.parent.name != "reference")]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page, relative to the repository.
        line: Its first line, from 0.
        reason: Why it cannot run here.
        output: What it prints, where the next block says so.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None
    output: str | None

    @property
    def is_run(self):
        return self.reason is None


def relative(page):
    return page.relative_to(ROOT).as_posix()


def blocks_of(page):
    text = page.read_text("utf-8")
    found = list(FENCE.finditer(text))
    assert text.count("```") == 2 * len(found), f"{page} has a fence that is not understood"
    followers = [*found[1:], None][: len(found)]
    return [
        Block(
            relative(page),
            text.count("\n", 0, match.start("code")),
            match["language"],
            textwrap.dedent(match["code"]),
            match["reason"],
            following["code"] if following and following["language"] == "text" else None,
        )
        for match, following in zip(found, followers, strict=True)
    ]


def commands(code):
    """The commands of a shell block as lists of words, without the assignments before them."""
    found = [[]]
    for line in code.replace("\\\n", " ").splitlines():
        for word in shlex.split(line, comments=True):
            if word in {"&&", "|", ";"}:
                found.append([])
            elif found[-1] or not re.fullmatch(r"[A-Z_]+=\S*", word):
                found[-1].append(word)
        found.append([])
    return [command for command in found if command]


def command_of(words):
    """The command that these words begin with, as typer has it, and the words after its name."""
    command, rest = typer.main.get_command(cli.app), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command, rest


def parse(words):
    """Parse a whole command line without running it. Raises typer's usage errors."""
    command, rest = command_of(words)
    command.callback = None
    command.main(rest, prog_name="falconer", standalone_mode=False)


def complete(request):
    """The teacher of the laptop reviews, who answers `falconer check`, too."""
    if "fresh snow" in json.dumps(request["messages"]):
        return '{"colour": "white"}'
    if is_planning(request) or "Task: Extract the price" in request["messages"][-1]["content"]:
        return teacher(request)
    return json.dumps({key: "love" in text.lower() for key, text in asked(request).items()})


@pytest.fixture(scope="module")
def server():
    with ChatServer(complete) as server:
        yield server


@pytest.fixture(scope="module")
def quick_defaults():
    """Settings whose defaults train in a second; blocks that set none of them run as they are written."""
    defaults = {
        TrainSettings: {"epochs": 2},
        MineSettings: {"unlabelled": 0, "train": TrainSettings(epochs=2), "run": RunSettings(backend="onnx")},
    }
    with pytest.MonkeyPatch.context() as patched:
        for settings, values in defaults.items():
            for name, value in values.items():
                patched.setattr(settings.model_fields[name], "default", value)
            settings.model_rebuild(force=True)
        yield
    for settings in defaults:
        settings.model_rebuild(force=True)


@pytest.fixture(scope="module")
def folder(tiny_bert, tmp_path_factory):
    """The files that the pages name, and a home, for all pages: a job that a page has done is done for the next."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("reviews", "more", "a"):
        write_corpus(folder / f"{name}.jsonl", reviews(60))
    pq.write_table(pa.table({"text": reviews(12, 100)}), folder / "b.parquet")
    write_lines(folder / "labels.jsonl", map(annotation_row, reviews(62)))
    write_plan(folder / "plan.json")
    Proxy.zero_shot(PLAN, base=tiny_bert).save(folder / "my.proxy")
    shutil.copytree(folder / "my.proxy", folder / "home" / "proxies" / "NAME")
    return folder


@pytest.fixture
def world(server, quick_defaults, folder, tiny_bert, monkeypatch, capsys):
    """A page's world: that folder, an LLM behind `openai:gpt-4.1-mini`, and a tiny `falconer-small`."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("FALCONER_HOME", str(folder / "home"))
    return World(tiny_bert, monkeypatch, capsys)


def moody(text):
    return Annotation(text, Answers({"positive": Label(is_positive(text))}), "me")


class World:
    """Runs blocks.

    Attributes:
        names: Names that a page may use without making them, and those that its blocks made.
    """

    def __init__(self, tiny_bert, monkeypatch, capsys):
        self.tiny_bert, self.monkeypatch, self.capsys = tiny_bert, monkeypatch, capsys
        moods = Plan(instruction="Moods", steps=(LabelStep(id="positive", instruction="Is the writer happy?"),))
        falconer = Falconer("openai:gpt-4.1-mini")
        falconer.add_documents("reviews", "reviews.jsonl")
        self.names = {
            "falconer": falconer,
            "instruction": INSTRUCTION,
            "plan": PLAN,
            "texts": reviews(20, 300),
            "retriever": RunnableLambda(lambda query: [Document(f"About {query}: love it, I paid $5.")]),
            "second_plan": moods,
            "second_annotations": [
                Annotation(t, Answers({"positive": Label(is_positive(t))}), "me") for t in reviews(12)
            ],
        }

    def run(self, block):
        """Run a block, and return what it prints. What has an output is answered by the real `falconer-small`."""
        self.capsys.readouterr()
        with self.monkeypatch.context() as patched:
            if block.output is None:
                patched.setattr(encoder, "_SHIPPED", Path(self.tiny_bert))
            getattr(self, f"_{block.language}")(block)
        return self.capsys.readouterr().out

    def _python(self, block):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * block.line + block.code, block.page, "exec", flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, self.names))
        else:
            exec(code, self.names)

    def _bash(self, block):
        for program, *words in commands(block.code):
            if program == "falconer":
                self._falconer(block, words)
            else:
                assert program == "export", f"{block.page}: {program} cannot run here; mark the block as not run"

    def _falconer(self, block, words):
        takes_backend = any(parameter.name == "backend" for parameter in command_of(words)[0].params)
        quick = ["--backend", "onnx"] if takes_backend and "--backend" not in words else []
        self.monkeypatch.setattr(sys, "argv", ["falconer", *words, *quick])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code, f"{block.page}: falconer {shlex.join(words)}\n{self.capsys.readouterr().err}"

    def _sql(self, block):
        duckdb = pytest.importorskip("duckdb")
        self._falconer(block, ["predict", "plan.json", "reviews.jsonl", "-o", "rows.duckdb"])
        with duckdb.connect("rows.duckdb") as connection:
            connection.execute(block.code)

    def _toml(self, block):
        Path("falconer.toml").write_text(block.code, "utf-8")
        self._falconer(block, ["proxies"])
        Path("falconer.toml").unlink()

    def _json(self, block):
        data = json.loads(block.code)
        if "steps" in data:
            Plan.parse(data)
        for server in data.get("mcpServers", {}).values():
            assert server["command"] == "falconer"
            parse(server["args"])


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_blocks_of_a_page_run(page, world):
    for block in blocks_of(page):
        if not block.is_run:
            for program, *words in commands(block.code) if block.language == "bash" else ():
                if program == "falconer":
                    parse(words)
        elif block.language not in {"text", "mermaid", ""}:
            printed = world.run(block)
            assert block.output in {None, printed}, f"{block.page}:{block.line} prints\n{printed}"


def option_names(command):
    return {"--help", "-h"} | {name for p in command.params for name in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_in_a_line_name_what_exists(page):
    prose = FENCE.sub("", page.read_text("utf-8"))
    for code in INLINE.findall(prose):
        if code.startswith("falconer "):
            check_options(" ".join(code.split()))
        elif re.match(r"([A-Z_]+=\S+ )*pytest ", code):
            check_tests(" ".join(code.split()))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_in_a_page_exist(page):
    for file in re.findall(r"\b(?:tests|examples|graphs)/\w+\.\w+", page.read_text("utf-8")):
        assert (ROOT / file).is_file(), file


def check_options(code):
    command, rest = command_of(shlex.split(code)[1:])
    assert not hasattr(command, "commands") or not rest or rest[0].startswith("-"), f"{code}: no such command"
    unknown = {word.partition("=")[0] for word in rest if word.startswith("-")} - option_names(command)
    assert not unknown, f"{code}: no option {unknown}"


def check_tests(code):
    words = shlex.split(code)
    files = [ROOT / word for word in words if word.startswith("tests/")]
    for file in files:
        names = re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
        if "-k" in words:
            assert any(words[words.index("-k") + 1] in name for name in names), f"{code}: -k selects no test"


def test_the_extras_that_pages_install_exist():
    declared = set(metadata("langchain-falconer").get_all("Provides-Extra"))
    named = {
        extra
        for page in PAGES
        for extras in re.findall(r"\.\[([\w,]+)\]|langchain-falconer\[([\w,]+)\]", page.read_text("utf-8"))
        for extra in ",".join(filter(None, extras)).split(",")
    }
    assert named <= declared
    assert "demo" in named


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    stub = (ROOT / "langchain_falconer" / "__init__.pyi").read_text("utf-8")
    public = set(re.findall(r"^from \S+ import \w+ as (\w+)$", stub, re.MULTILINE))
    listed = re.findall(r"^::: langchain_falconer\.(\w+)$", pages, re.MULTILINE)
    assert not public.symmetric_difference(listed), "docs/reference lists each public name once"
    assert len(listed) == len(public)


def test_llms_txt_lists_every_page():
    text = (ROOT / "docs" / "llms.txt").read_text("utf-8")
    assert re.match(r"# .+\n\n> .+\n", text)
    listed = set(re.findall(r"^- \[[^\]]+\]\(\S+/main/(docs/\S+\.md)\): .+$", text, re.MULTILINE))
    assert len(listed) == text.count("](")
    assert listed == {relative(page) for page in PAGES} - {"README.md"}


def test_the_skill_names_what_mine_prints(world, capsys):
    page = ROOT / "docs" / "SKILL.md"
    assert re.match(r"---\nname: [a-z-]{1,64}\ndescription: [^\n]{1,1024}\n---\n", page.read_text("utf-8"))
    mine = next(b for b in blocks_of(page) if b.language == "bash" and "falconer mine" in b.code)
    printed = world.run(mine)
    summary = json.loads(printed[printed.rindex("\n{") if "\n{" in printed else 0 :])
    table = re.findall(r"^\| (`.+`) \| .+ \|$", page.read_text("utf-8"), re.MULTILINE)
    paths = [path for cell in table for path in INLINE.findall(cell)]
    assert len(paths) > 10
    for path in [*paths, "annotations.review", "corpus.guessed_columns"]:
        found = summary
        for key in path.split("."):
            assert key in found, f"{path} is not in the summary"
            found = found[key]


def test_the_readme_is_short_and_keeps_its_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 1_000
    assert "pip install -c requirements.lock -e '.[dev,studio]' && pytest -q" in text


OUTSIDE = ("README.md", "CHANGELOG.md", ".github/CONTRIBUTING.md", "langchain_falconer/model/falconer-small/README.md")


@pytest.mark.parametrize("page", OUTSIDE)
def test_links_lead_somewhere(page):
    """Those of the site are checked when it is built."""
    file = ROOT / page
    for link, anchor in re.findall(r"\]\((?![a-z]+:|#)([^)#]+)#?([^)]*)\)", FENCE.sub("", file.read_text("utf-8"))):
        target = file.parent / link
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_the_notebook_runs(world):
    cells = json.loads((ROOT / "examples" / "mining.ipynb").read_text("utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            world.run(Block(f"mining.ipynb:{cell['id']}", 0, "python", "".join(cell["source"]), None, None))
    result = world.names["result"]
    assert result.summary.rows.total == len(world.names["notes"])
    assert "matched" in result._repr_html_()
