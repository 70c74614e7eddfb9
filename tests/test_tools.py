"""The agent tools, by LangChain's own standard tests and inside an agent."""

import asyncio
import json
import os
import shutil
import sys
import threading
from contextlib import contextmanager

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from laptops import INSTRUCTION, PLAN, asked, is_positive, prices, reviews, teacher, write_corpus
from loopback import ChatServer, llm_at

from langchain_falconer import Falconer, FalconerToolkit, ProgressEvent
from langchain_falconer.tools import MAX_TOKENS
from langchain_falconer.tools.answers import StepAnswer

KEYS = {
    "list_corpora": [],
    "add_documents": ["corpus", "documents", "files"],
    "mine_corpus": ["instruction", "corpus", "quality", "by"],
    "get_label": ["instruction", "texts", "corpus", "labels", "multi_label", "by"],
    "get_span": ["instruction", "texts", "corpus", "by"],
    "read_results": [
        "result",
        "step",
        "value",
        "contains",
        "source",
        "where",
        "count_by",
        "order_by",
        "row",
        "offset",
        "limit",
    ],
}
TEXTS = reviews(12, start=30)
STORED = reviews(48)  # those that the proxy was trained on: its answers about them are right on any machine
POSITIVE, PRICE = (step.instruction for step in PLAN.steps)
SITES = ["https://a.example", "https://b.example"]


@pytest.fixture(scope="module")
def home(proxy_folder, tmp_path_factory):
    """A home with a trained proxy, a stored corpus, and no LLM."""
    folder = tmp_path_factory.mktemp("tools")
    shutil.copytree(proxy_folder, folder / "home" / "proxies" / "laptops")
    (folder / "inbox").mkdir()
    (folder / "inbox" / "more.txt").write_text("A text in a file.", "utf-8")
    (folder / "secret.txt").write_text("Not for agents.", "utf-8")
    write_corpus(folder / "own.jsonl", reviews(20))
    documents = [{"text": t, "url": SITES[i % 2]} for i, t in enumerate(STORED)]
    Falconer(home=folder / "home").add_documents("stored", documents)
    return folder


@pytest.fixture(scope="module")
def toolkit(home):
    from langchain_falconer.settings import MineSettings

    falconer = Falconer(home=home / "home", settings=MineSettings.model_validate({"run": {"backend": "onnx"}}))
    return FalconerToolkit(falconer, corpora={"files": home / "own.jsonl"}, files_folder=home / "inbox")


@pytest.fixture(scope="module")
def tools(toolkit):
    return {tool.name: tool for tool in toolkit.get_tools()}


@pytest.fixture(scope="module")
def mined(tools):
    return call(tools["mine_corpus"], instruction=INSTRUCTION, corpus="stored").artifact


@pytest.fixture(scope="module")
def examples(mined):
    return {
        "list_corpora": {},
        "add_documents": {"corpus": "tried", "documents": [{"text": "One.", "source": "me"}]},
        "mine_corpus": {"instruction": INSTRUCTION, "corpus": "stored"},
        "get_label": {"texts": TEXTS, "instruction": POSITIVE},
        "get_span": {"texts": TEXTS, "instruction": PRICE},
        "read_results": {"result": mined["result"]},
    }


def call(tool, **arguments):
    return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})


def size(content):
    return len(content.encode()) / 3


class _Standard:
    name = ""

    @pytest.fixture(autouse=True)
    def _setup(self, tools, examples):
        self.constructed, self.example = tools[self.name], examples[self.name]

    @property
    def tool_constructor(self):
        return self.constructed

    @property
    def tool_invoke_params_example(self):
        return self.example


NAMES = ["list_corpora", "add_documents", "mine_corpus", "get_label", "get_span", "read_results"]
for _name in NAMES:
    _title = "".join(part.title() for part in _name.split("_"))
    for _kind, _suite in (("Unit", ToolsUnitTests), ("Integration", ToolsIntegrationTests)):
        globals()[f"Test{_title}{_kind}"] = type(f"Test{_title}{_kind}", (_Standard, _suite), {"name": _name})


# ---- what they answer


def test_a_trained_proxy_labels_and_extracts_for_free(tools):
    texts = reviews(12, start=24)
    labels = call(tools["get_label"], texts=texts, instruction=POSITIVE)
    assert labels.status == "success"
    assert labels.artifact["decision"]["strategy"] == "registry"
    assert labels.artifact["cost"]["llm_calls"] == 0
    assert [label["value"] for label in labels.artifact["labels"]] == [is_positive(t) for t in texts]
    assert json.loads(labels.content) == labels.artifact
    spans = call(tools["get_span"], texts=texts, instruction=PRICE)
    for text, text_spans in zip(texts, spans.artifact["spans"], strict=True):
        assert all(text[s["start"] : s["end"]] == s["text"] for s in text_spans)
        if is_positive(text):
            assert [s["text"] for s in text_spans] == prices(text)


def test_mining_returns_counts_sources_quality_and_strategy(mined, tools):
    assert mined["rows"] == len(STORED)
    assert mined["matched"] == sum(map(is_positive, STORED))
    assert mined["steps"]["positive"]["counts"] == {"true": 32, "false": 16}
    assert mined["steps"]["positive"]["sources"]["true"] == dict.fromkeys(SITES, 16)
    assert mined["steps"]["price"]["spans"] == 32
    top = mined["steps"]["price"]["top"][0]
    assert top["count"] == 1
    assert set(top["sources"]) <= set(SITES)
    ids = {document.id for document in tools["mine_corpus"].falconer.corpus("stored")}
    assert {example["id"] for example in mined["examples"]} <= ids
    assert {example["source"] for example in mined["examples"]} == set(SITES)
    assert mined["decision"]["strategy"] == "registry"
    assert "/" not in mined["result"]
    again = call(tools["mine_corpus"], instruction=INSTRUCTION, corpus="stored").artifact
    assert again["decision"]["strategy"] == "answered before"
    assert again["result"] == mined["result"]


def test_a_requested_quality_is_reported_as_met_or_not(tools, mined):
    answer = call(tools["mine_corpus"], instruction=INSTRUCTION, corpus="stored", quality=0.9).artifact
    assert answer["result"] != mined["result"]
    assert (answer["target"]["quality"], answer["target"]["met"]) == (0.9, False)
    assert "never measured" in answer["target"]["reason"]
    assert "target" not in mined


def test_no_answer_is_longer_than_the_budget(tools, mined):
    many = reviews(300, start=1000)
    calls = [
        call(tools["get_label"], texts=many, instruction=POSITIVE),
        call(tools["get_span"], texts=many, instruction=PRICE),
        call(tools["read_results"], result=mined["result"], limit=50),
        call(tools["read_results"], result=mined["result"], count_by="price", limit=50),
        call(tools["mine_corpus"], instruction=INSTRUCTION, corpus="stored"),
    ]
    for message in calls:
        assert message.status == "success"
        assert size(message.content) <= MAX_TOKENS
        assert json.loads(message.content) == message.artifact
    assert calls[0].artifact["shortened"]
    assert sum(calls[0].artifact["steps"]["label"]["counts"].values()) == 300


def test_results_are_paged_filtered_and_counted(tools, mined):
    def read(**arguments):
        message = call(tools["read_results"], result=mined["result"], **arguments)
        assert message.status == "success", message.content
        return message.artifact

    positive = [t for t in STORED if is_positive(t)]
    first = read(limit=7)
    assert (first["rows"], len(first["page"]), first["next_offset"]) == (48, 7, 7)
    rest = read(limit=7, offset=47)
    assert (len(rest["page"]), "next_offset" in rest) == (1, False)
    assert read(only_matches=True)["rows"] == len(positive)
    assert read(step="positive", value="false")["rows"] == 16
    assert read(step="positive", value=True)["rows"] == 32
    assert read(step="price")["rows"] == 32
    one = read(step="price", value="$101")["page"]
    assert [row["spans"]["price"] for row in one] == [["$101"]]
    assert read(contains="TERRIBLE")["rows"] == 16
    assert read(contains="%' OR true --")["rows"] == 0
    assert read(source="b.example")["rows"] == 24
    labels = read(count_by="positive")["values"]
    assert [(one["value"], one["count"], one["rows"]) for one in labels] == [("true", 32, 48), ("false", 16, 48)]
    by_source = read(count_by="source", only_matches=True)["values"]
    assert sum(v["count"] for v in by_source) == 32
    spans = read(count_by="price", limit=5)
    assert (spans["distinct"], len(spans["values"]), spans["next_offset"]) == (32, 5, 5)
    whole = read(row=one[0]["id"])["row"]
    assert whole["text"] == STORED[1]
    assert whole["metadata"]["url"] == SITES[1]


def test_a_row_of_many_long_columns_is_shown_in_brief(tools):
    wide = [{"text": t, "source": "s", **{f"c{i}": "x" * 3_000 for i in range(99)}} for t in TEXTS]
    tools["mine_corpus"].falconer.add_documents("wide", wide)
    mined = call(tools["mine_corpus"], instruction=INSTRUCTION, corpus="wide").artifact
    page = call(tools["read_results"], result=mined["result"]).artifact["page"]
    row = call(tools["read_results"], result=mined["result"], row=page[0]["id"]).artifact["row"]
    assert row["text"] in TEXTS
    assert row["metadata"]["c0"].startswith("xxx")
    assert "70 more columns" in row["metadata"].values()


def test_documents_are_added_and_asked_about(tools):
    added = call(tools["add_documents"], corpus="fresh", documents=[{"text": t, "title": "T"} for t in TEXTS]).artifact
    assert (added["added"], added["documents"]) == (12, 12)
    again = call(tools["add_documents"], corpus="fresh", documents=[{"text": TEXTS[0]}], files=["more.txt"]).artifact
    assert (again["added"], again["duplicates"], again["documents"]) == (1, 1, 13)
    names = {c["name"]: c for c in call(tools["list_corpora"]).artifact["corpora"]}
    assert names["fresh"]["documents"] == 13
    assert names["files"]["file"] == "own.jsonl"
    mined = call(tools["get_label"], corpus="fresh", instruction=POSITIVE).artifact
    assert mined["rows"] == 13
    assert call(tools["get_label"], corpus="files", instruction=POSITIVE).artifact["rows"] == 20


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("mine_corpus", {"instruction": "x", "corpus": "/etc/passwd"}, ["no corpus '/etc/passwd'", "stored"]),
        ("mine_corpus", {"instruction": "x", "corpus": "../stored"}, ["no corpus '../stored'"]),
        ("mine_corpus", {"instruction": "", "corpus": "stored"}, ["instruction"]),
        ("mine_corpus", {"corpus": "stored"}, ["instruction"]),
        ("mine_corpus", {"instruction": "new words", "corpus": "stored"}, ["LLM", "get_label", "get_span"]),
        ("mine_corpus", {"instruction": "x", "corpus": "stored", "quality": 90}, ["quality"]),
        ("get_label", {"texts": [], "instruction": "x"}, ["texts"]),
        ("get_label", {"texts": "one", "instruction": "x"}, ["texts"]),
        ("get_label", {"instruction": "x"}, ["either texts or"]),
        ("get_label", {"instruction": "x", "texts": ["a"], "corpus": "stored"}, ["either texts or"]),
        ("get_label", {"texts": ["a"], "instruction": "x", "labels": ["only"]}, ["labels"]),
        ("get_label", {"texts": ["a"], "instruction": "x", "labels": ["b", "b"]}, ["'b'"]),
        ("get_label", {"texts": ["a"], "instruction": "x", "multi_label": True}, ["multi_label needs labels"]),
        ("get_span", {"texts": ["a"], "instruction": " "}, ["instruction"]),
        ("add_documents", {"corpus": "../x", "documents": [{"text": "a"}]}, ["not a corpus name"]),
        ("add_documents", {"corpus": "files", "documents": [{"text": "a"}]}, ["another corpus name"]),
        ("add_documents", {"corpus": "x"}, ["nothing to add"]),
        ("add_documents", {"corpus": "x", "files": ["../secret.txt"]}, ["no file '../secret.txt'", "more.txt"]),
        ("add_documents", {"corpus": "x", "files": ["/etc/passwd"]}, ["no file '/etc/passwd'"]),
        ("add_documents", {"corpus": "x", "files": ["a\0b"]}, ["no file"]),
        ("add_documents", {"corpus": "x", "documents": [{"text": "  "}]}, ["blank"]),
        ("read_results", {"result": "../../etc/passwd"}, ["not a result id"]),
        ("read_results", {"result": "0123456789abcdef"}, ["no result '0123456789abcdef'"]),
    ],
)
def test_a_bad_call_gets_an_error_that_names_the_fix(tool, arguments, expected, tools):
    message = call(tools[tool], **arguments)
    if tool == "add_documents" and expected == ["blank"]:
        assert message.artifact["unreadable"] == 1
        assert "blank" in message.artifact["reasons"][0]
        return
    assert message.status == "error"
    assert "Traceback" not in message.content
    assert "\n" not in message.content
    for words in expected:
        assert words in message.content


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"step": 'x"; DROP TABLE rows; --'}, "it has: positive, price"),
        ({"step": "positive", "value": "maybe"}, "answers true or false"),
        ({"value": "x"}, "value needs a step"),
        ({"count_by": "text"}, "use a step (positive, price) or: source"),
        ({"row": "nope"}, "no row 'nope'"),
        ({"where": {"stars": 5}}, "have no column 'stars'"),
        ({"count_by": "month"}, "have no column 'month'"),
        ({"order_by": "score"}, "needs a step"),
        ({"order_by": "size", "count_by": "positive"}, "use count, value or share"),
        ({"offset": -1}, "offset"),
        ({"limit": 51}, "limit"),
    ],
)
def test_a_bad_read_gets_an_error_that_names_the_fix(arguments, expected, tools, mined):
    message = call(tools["read_results"], result=mined["result"], **arguments)
    assert message.status == "error"
    assert expected in message.content


@pytest.mark.parametrize(
    ("tool", "arguments", "empty"),
    [
        ("get_label", {"texts": TEXTS, "instruction": POSITIVE}, {"corpus": "", "labels": [], "multi_label": None}),
        ("get_label", {"corpus": "files", "instruction": POSITIVE}, {"texts": [], "labels": ""}),
        ("get_span", {"texts": json.dumps(TEXTS), "instruction": PRICE}, {"corpus": None}),
        ("mine_corpus", {"corpus": "stored", "instruction": INSTRUCTION}, {"quality": ""}),
        ("add_documents", {"corpus": "empty", "documents": '[{"text": "One."}]'}, {"files": ""}),
        (
            "read_results",
            {"only_matches": True},
            dict.fromkeys(
                ("step", "value", "contains", "source", "where", "count_by", "order_by", "row", "offset", "limit"), ""
            ),
        ),
    ],
)
def test_optional_arguments_may_be_empty_and_lists_may_be_json(tool, arguments, empty, tools, mined):
    if tool == "read_results":
        arguments = {"result": mined["result"], **arguments}
    whole = call(tools[tool], **arguments)
    assert whole.status == "success", whole.content
    with_empty = call(tools[tool], **arguments, **empty)
    assert with_empty.status == "success", with_empty.content
    changing = ("added", "duplicates", "cost", "decision")
    one, two = ({k: v for k, v in m.artifact.items() if k not in changing} for m in (whole, with_empty))
    assert one == two


def test_labels_come_as_json_too(tools):
    arguments = {"texts": ["The striker scored twice.", "Shares rose 4%."], "instruction": "What is it about?"}
    answer = call(tools["get_label"], **arguments, labels='["sports", "business"]').artifact
    assert [label["value"] for label in answer["labels"]] == ["sports", "business"]


def test_without_an_llm_the_untrained_model_answers_and_is_called_so(tools, home):
    arguments = {"texts": ["Shares of Siemens rose.", "It rained."], "instruction": "Is it about money?"}
    answer = call(tools["get_label"], **arguments).artifact
    assert len(answer["labels"]) == 2
    assert answer["untrained"] is True
    assert answer["quality"].startswith("not measured: guesses of the untrained model")
    assert any("no LLM" in message for message in answer["messages"])
    assert answer["matched_estimate"]["estimate"] is None if "matched_estimate" in answer else answer["estimates"]
    spans = call(tools["get_span"], texts=arguments["texts"], instruction="Extract the companies").artifact
    assert spans["untrained"] is True
    assert [s["text"] for s in spans["spans"][0]] == ["Siemens"]
    sure = call(tools["get_label"], texts=STORED[:3], instruction=POSITIVE).artifact
    assert "untrained" not in sure, "a trained proxy answers this"


def test_a_guess_is_not_final_once_a_proxy_is_trained(proxy_folder, tmp_path):
    tool = {t.name: t for t in FalconerToolkit(home=tmp_path).get_tools()}["get_label"]
    guess = call(tool, texts=STORED[:9], instruction=POSITIVE).artifact
    assert guess["untrained"] is True
    assert call(tool, texts=STORED[:9], instruction=POSITIVE).artifact["decision"]["strategy"] == "answered before"
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")
    trained = call(tool, texts=STORED[:9], instruction=POSITIVE).artifact
    assert trained["decision"]["strategy"] == "registry"
    assert "untrained" not in trained


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_an_answer_is_in_its_type(name, tools, examples):
    answer, answer_type = call(tools[name], **examples[name]).artifact, tools[name].answer_type
    pydantic.TypeAdapter(answer_type).validate_python(answer)
    assert answer.keys() <= answer_type.__annotations__.keys()
    assert all(step.keys() <= StepAnswer.__annotations__.keys() for step in answer.get("steps", {}).values())
    assert tools[name].read_only == (name in ("list_corpora", "read_results"))


def test_an_agent_without_a_files_folder_adds_no_file(home):
    tool = next(t for t in FalconerToolkit(home=home / "home").get_tools() if t.name == "add_documents")
    message = call(tool, corpus="x", files=["more.txt"])
    assert message.status == "error"
    assert "files cannot be added here" in message.content


# ---- whatever a model may write

HOSTILE = int(os.environ.get("FALCONER_HOSTILE", "100"))
PATHS = [
    "../x",
    "/etc/passwd",
    "../secret.txt",
    "inbox/../../secret.txt",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "C:\\x",
]
TRICKS = [
    "\ud800",
    "\0",
    "'; DROP TABLE rows; --",
    "{{x}}",
    "%s%n",
    "$(touch /tmp/x)",
    "x" * 5_000,
    "\u202e",
    "😀" * 300,
]
ODD = ["stored", "files", "positive", "price", "more.txt", INSTRUCTION, POSITIVE, *PATHS, *TRICKS]
WORDS = st.text(max_size=12) | st.sampled_from(ODD)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree"}
NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind"}


@st.composite
def hostile(draw):
    name = draw(st.sampled_from(NAMES))
    typed = dict.fromkeys(("texts", "labels", "files"), st.lists(WORDS, max_size=3))
    typed["documents"] = st.lists(st.fixed_dictionaries({"text": WORDS}, optional={"url": WORDS}), max_size=3)
    typed_arguments = {key: draw(typed.get(key, WORDS) | VALUES) for key in KEYS[name] if draw(st.booleans())}
    return name, {**typed_arguments, **draw(st.dictionaries(WORDS, VALUES, max_size=1))}


class Watch:
    """Recorder of what this process opens, changes and is not allowed to do."""

    def __init__(self):
        self.opened, self.changed, self.forbidden = set(), set(), set()
        self.on = False
        sys.addaudithook(self.hear)  # Python cannot take it off again, so that it sleeps when it is not needed

    @contextmanager
    def __call__(self):
        for paths in (self.opened, self.changed, self.forbidden):
            paths.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False

    def hear(self, event, args):
        if not self.on:
            return
        if event == "open":
            (self.changed if (args[2] or 0) & WRITING else self.opened).update(real_paths(args[:1]))
        elif event in CHANGES and (event == "shutil.rmtree" or args[-1] == -1):  # not in a tree that it removes
            self.changed |= real_paths(args)
        elif event in NEVER:
            self.forbidden.add((event, str(args)))


def real_paths(args):
    """Which paths are among these; what importing a module caches is left out."""
    named = [os.fsdecode(a) for a in args if isinstance(a, str | bytes | os.PathLike)]
    return {os.path.realpath(path) for path in named if "\0" not in path and "__pycache__" not in path}


@pytest.fixture(scope="module")
def watch(tools):
    watch = Watch()
    with watch():
        call(tools["add_documents"], corpus="watched", documents=[{"text": "One."}])
    assert any("watched" in path for path in watch.changed), "the hook sees nothing"
    return watch


@pytest.mark.timeout(7_200)
@settings(max_examples=HOSTILE, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile())
def test_hostile_arguments_give_messages_and_touch_nothing_outside(tools, mined, home, watch, tool_call):
    """FALCONER_HOSTILE=10000 makes it ten thousand calls."""
    name, arguments = tool_call
    if name == "read_results" and isinstance(arguments.get("result"), str):
        arguments["result"] = mined["result"]
    with watch():
        message = call(tools[name], **arguments)
    assert isinstance(message, ToolMessage)
    assert "Traceback" not in message.content
    assert "the tool failed" not in message.content  # a fault of ours, not of the arguments
    assert "root:" not in message.content
    assert "Not for agents" not in message.content
    assert size(message.content) <= MAX_TOKENS
    assert not watch.forbidden
    assert not watch.opened & {"/etc/passwd", str(home / "secret.txt")}
    own = str(home.resolve() / "home")
    assert {path for path in watch.changed if os.path.commonpath([own, path]) != own} <= {os.devnull}
    assert {path.name for path in home.iterdir()} == {"home", "inbox", "own.jsonl", "secret.txt"}


# ---- with an LLM


@pytest.fixture
def with_llm(tiny_bert, tmp_path, settings):
    with ChatServer(teacher) as server:
        falconer = Falconer(llm_at(server), home=tmp_path / "home", settings=settings)
        yield {tool.name: tool for tool in FalconerToolkit(falconer).get_tools()}, server


def test_without_proxy_the_llm_answers_for_a_handful_once(with_llm):
    tools, server = with_llm
    new = reviews(5, start=900)
    labels = call(tools["get_label"], texts=new, instruction="Is the writer happy?")
    assert labels.artifact["decision"]["strategy"] == "llm"
    assert [label["value"] for label in labels.artifact["labels"]] == [is_positive(t) for t in new]
    paid = server.calls
    assert paid > 0
    call(tools["get_label"], texts=new, instruction="Is the writer happy?")
    assert server.calls == paid


@pytest.mark.parametrize("tool", ["get_label", "get_span"])
def test_an_llm_that_answers_no_text_is_an_error_and_what_it_left_out_is_called_a_guess(tool, with_llm):
    tools, server = with_llm
    new = reviews(4, start=900)
    arguments = {"texts": new, "instruction": "Is the writer happy?" if tool == "get_label" else "Extract the price"}
    server.reply = lambda _: "{}"
    assert call(tools[tool], **arguments).status == "error"
    server.reply = lambda request: "{}" if {*new[2:]} & {*asked(request).values()} else teacher(request)
    partial = call(tools[tool], **arguments).artifact
    assert partial["quality"].startswith("the LLM answered 2 of 4 texts")
    assert partial["guesses"] == [2, 3]
    assert partial["cost"]["usd"] is None
    assert partial["cost"]["tokens_for_every_text"] >= partial["cost"]["tokens"]
    server.reply = teacher
    whole = call(tools[tool], **arguments).artifact
    assert whole["quality"] == "the LLM itself answered"
    assert "guesses" not in whole


def test_concurrent_identical_questions_are_answered_once(with_llm):
    tools, server = with_llm
    arguments = {"texts": reviews(4), "instruction": "Is the writer happy?"}
    threads = [threading.Thread(target=call, args=(tools["get_label"],), kwargs=arguments) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.calls == 2  # two texts a call


async def test_a_cancelled_call_ends_at_its_next_step_and_resumes(tmp_path, settings):
    began, go_on = threading.Event(), threading.Event()

    def slow(request):
        began.set()
        go_on.wait(20)
        return teacher(request)

    with ChatServer(slow) as server:
        falconer = Falconer(llm_at(server, max_concurrency=1), home=tmp_path, settings=settings)
        tool = next(t for t in FalconerToolkit(falconer).get_tools() if t.name == "get_label")
        arguments = {"texts": reviews(8), "instruction": "Is the writer happy?"}
        task = asyncio.create_task(tool.ainvoke(arguments))
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        answer = json.loads(await tool.ainvoke(arguments))
        assert answer["steps"]["label"]["counts"] == {"true": 5, "false": 3}
        assert server.calls <= 5  # two texts a call; the one under way may be asked again


# ---- inside an agent


class Scripted(FakeMessagesListChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


def script(*calls):
    tool_calls = [{"name": name, "args": args, "id": f"call_{i}"} for i, (name, args) in enumerate(calls)]
    return Scripted(responses=[AIMessage("", tool_calls=tool_calls), AIMessage("Done.")])


def test_an_agent_lists_mines_and_reads_and_every_number_is_in_the_rows(toolkit, mined):
    calls = [
        ("list_corpora", {}),
        ("mine_corpus", {"instruction": INSTRUCTION, "corpus": "stored"}),
        ("get_label", {"corpus": "stored", "instruction": POSITIVE}),
        ("read_results", {"result": mined["result"], "count_by": "positive"}),
    ]
    agent = create_agent(script(*calls), tools=toolkit.get_tools())
    result = agent.invoke({"messages": [("user", "What do people pay?")]})
    answers = {m.name: json.loads(m.content) for m in result["messages"] if isinstance(m, ToolMessage)}
    assert answers["mine_corpus"]["matched"] == answers["read_results"]["values"][0]["count"] == 32
    assert answers["get_label"]["steps"]["label"]["counts"] == {"true": 32, "false": 16}
    assert all(size(m.content) <= MAX_TOKENS for m in result["messages"])


def test_an_agent_hears_of_errors_and_goes_on(toolkit):
    agent = create_agent(script(("mine_corpus", {"instruction": "x", "corpus": "nowhere"})), tools=toolkit.get_tools())

    async def run():
        return await agent.ainvoke({"messages": [("user", "?")]})

    messages = asyncio.run(run())["messages"]
    assert messages[-2].status == "error"
    assert messages[-1].content == "Done."


def test_mining_streams_its_progress_through_the_agent(toolkit, tools):
    call(tools["add_documents"], corpus="streamed", documents=[{"text": t} for t in reviews(6, start=500)])
    calls = ("mine_corpus", {"instruction": INSTRUCTION, "corpus": "streamed"})
    agent = create_agent(script(calls), tools=toolkit.get_tools())
    events = list(agent.stream({"messages": [("user", "?")]}, stream_mode="custom"))
    assert {e["stage"] for e in events} >= {"route", "execute"}
    assert {e["type"] for e in events} == {"falconer"}
    assert all(e.keys() <= ProgressEvent.__annotations__.keys() for e in events)
    own = []
    toolkit.falconer.ask(INSTRUCTION, toolkit.falconer.corpus("streamed"), refresh=True, on_event=own.append)
    assert {(e["stage"], e.get("event")) for e in own} == {(e["stage"], e.get("event")) for e in events}


def test_a_deep_agent_has_a_subagent_that_counts(toolkit):
    deepagents = pytest.importorskip("deepagents")
    from langchain_falconer.tools import create_falconer_subagent

    own = script(("mine_corpus", {"instruction": INSTRUCTION, "corpus": "stored"}))
    task = {"description": "How many like it?", "subagent_type": "falconer"}
    agent = deepagents.create_deep_agent(script(("task", task)), subagents=[create_falconer_subagent(own, toolkit)])
    messages = agent.invoke({"messages": [("user", "?")]})["messages"]
    reply = next(m for m in messages if isinstance(m, ToolMessage))
    assert (reply.name, reply.content) == ("task", "Done.")
