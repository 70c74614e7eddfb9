"""The tools over MCP, by the official client."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from laptops import INSTRUCTION, is_positive, reviews, teacher
from loopback import ChatServer, llm_at

import langchain_falconer
from langchain_falconer import Falconer, FalconerToolkit
from langchain_falconer.errors import SettingsError
from langchain_falconer.tools import create_mcp_server

mcp = pytest.importorskip("mcp")
create_connected_server_and_client_session = pytest.importorskip(
    "mcp.shared.memory"
).create_connected_server_and_client_session
TCP = Path("/proc/net/tcp")


@pytest.fixture
def home(proxy_folder, tmp_path):
    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    Falconer(home=tmp_path / "home").add_documents("reviews", texts=reviews(30))
    return tmp_path / "home"


async def test_a_client_on_stdio_adds_mines_and_reads_and_reads_no_file(home, tmp_path):
    from mcp.client.stdio import stdio_client

    (tmp_path / "secret.txt").write_text("Not for clients.", "utf-8")
    arguments = ["-c", "from langchain_falconer.cli import main; main()", "mcp", "--home", str(home)]
    server = mcp.StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    with (tmp_path / "server.log").open("w+", encoding="utf-8") as log:
        async with stdio_client(server, errlog=log) as (read, write), mcp.ClientSession(read, write) as client:
            await _mine_and_read(client, tmp_path)
        log.seek(0)
        assert "INFO" not in log.read()


async def _mine_and_read(client, tmp_path):
    hello = await client.initialize()
    assert (hello.serverInfo.name, hello.serverInfo.version) == ("falconer", langchain_falconer.__version__)
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == [
        "list_corpora",
        "add_documents",
        "mine_corpus",
        "get_label",
        "get_span",
        "read_results",
    ]
    assert all("description" in p for t in listed for p in t.inputSchema.get("properties", {}).values())

    async def call(name, **arguments):
        return (await client.call_tool(name, arguments)).content[0].text

    added = json.loads(await call("add_documents", corpus="reviews", documents=[{"text": reviews(1, 30)[0]}]))
    assert added["documents"] == 31
    mined = json.loads(await call("mine_corpus", instruction=INSTRUCTION, corpus="reviews"))
    assert mined["matched"] == sum(map(is_positive, reviews(31)))
    page = json.loads(await call("read_results", result=mined["result"], only_matches=True, limit=3))
    assert page["rows"] == mined["matched"]
    for name, arguments in (
        ("add_documents", {"corpus": "x", "files": [str(tmp_path / "secret.txt")]}),
        ("mine_corpus", {"instruction": "x", "corpus": str(tmp_path / "secret.txt")}),
        ("read_results", {"result": str(tmp_path / "secret.txt")}),
    ):
        reply = await call(name, **arguments)
        assert "Not for clients" not in reply
        assert not reply.startswith("{")


# ---- with the official client, in this process


@asynccontextmanager
async def connected(falconer, **options):
    server = create_mcp_server(FalconerToolkit(falconer, **options))
    async with create_connected_server_and_client_session(server) as client:
        yield client


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("mine_corpus", {"instruction": "x", "corpus": "nowhere"}),
        ("mine_corpus", {"corpus": "reviews"}),
        ("get_label", {"texts": 7, "instruction": "x"}),
        ("read_results", {"result": "../../etc/passwd"}),
        ("read_results", {"result": "0123456789abcdef", "limit": "many"}),
    ],
)
async def test_an_error_is_an_error_with_the_sentence_of_the_tool(tool, arguments, home):
    falconer = Falconer(home=home)
    own = {one.name: one for one in FalconerToolkit(falconer).get_tools()}[tool]
    sentence = own.invoke({"type": "tool_call", "id": "1", "name": tool, "args": arguments}).content
    async with connected(falconer) as client:
        result = await client.call_tool(tool, arguments)
        assert result.isError
        assert [block.text for block in result.content] == [sentence]
        assert not {"\n", "http", "Error executing"} & {*sentence, *sentence.split()}
        unknown = await client.call_tool("no_such_tool", {})
        assert unknown.isError


async def test_answers_are_data_and_tools_say_what_they_change(home):
    async with connected(Falconer(home=home)) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {name for name, tool in listed.items() if tool.annotations.readOnlyHint} == {
            "list_corpora",
            "read_results",
        }
        assert all(tool.outputSchema["type"] == "object" for tool in listed.values())
        mined = await client.call_tool("mine_corpus", {"instruction": INSTRUCTION, "corpus": "reviews"})
        assert not mined.isError
        assert mined.structuredContent == json.loads(mined.content[0].text)  # the client checks it by the schema
        rows = await client.call_tool("read_results", {"result": mined.structuredContent["result"], "step": ""})
        assert rows.structuredContent["rows"] == 30


async def test_progress_is_sent_while_a_tool_works(home):
    heard = []

    async def hear(progress, total, message):
        heard.append((progress, message))

    async with connected(Falconer(home=home)) as client:
        arguments = {"instruction": INSTRUCTION, "corpus": "reviews"}
        await client.call_tool("mine_corpus", arguments, progress_callback=hear)
    numbers = [progress for progress, _ in heard]
    assert numbers == sorted(set(numbers))
    assert numbers
    assert all(message.split()[0] in ("plan", "pilot", "route", "execute", "report") for _, message in heard)


async def test_a_cancelled_call_ends_and_the_server_goes_on(home, settings):
    began, go_on = threading.Event(), threading.Event()

    def slow(request):
        began.set()
        go_on.wait(20)
        return teacher(request)

    with ChatServer(slow) as llm:
        falconer = Falconer(llm_at(llm, max_concurrency=1), home=home, settings=settings)
        async with connected(falconer) as client:
            number = client._request_id
            arguments = {"texts": reviews(12, 700), "instruction": "Is the writer happy?"}
            call = asyncio.create_task(client.call_tool("get_label", arguments))
            await asyncio.to_thread(began.wait, 20)
            params = mcp.types.CancelledNotificationParams(requestId=number)
            await client.send_notification(mcp.types.ClientNotification(mcp.types.CancelledNotification(params=params)))
            with pytest.raises(mcp.McpError, match="cancelled"):
                await call
            assert not (await client.call_tool("list_corpora", {})).isError
            go_on.set()
            assert llm.calls <= 2
            again = await client.call_tool("get_label", arguments)
            assert again.structuredContent["steps"]["label"]["counts"] == {"true": 8, "false": 4}


async def test_two_hundred_calls_at_once(home):
    falconer = Falconer(home=home)
    result = falconer.ask(INSTRUCTION, falconer.corpus("reviews")).result
    calls = [
        ("list_corpora", {}),
        ("mine_corpus", {"instruction": INSTRUCTION, "corpus": "reviews"}),
        ("read_results", {"result": result, "only_matches": True}),
        ("read_results", {"result": "nonsense"}),
    ]
    async with connected(falconer) as client:
        results = await asyncio.gather(*(client.call_tool(*calls[i % 4]) for i in range(200)))
    assert [one.isError for one in results] == [i % 4 == 3 for i in range(200)]
    assert {one.structuredContent["matched"] for one in results[1::4]} == {sum(map(is_positive, reviews(30)))}
    assert {one.structuredContent["rows"] for one in results[2::4]} == {sum(map(is_positive, reviews(30)))}


@pytest.fixture
def served(home):
    """Serve the tools with ``falconer mcp --http``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "langchain_falconer", "mcp", "--home", str(home), "--http", str(port)]
    with (home / "served.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while _refused(port):
            assert server.poll() is None, (home / "served.log").read_text("utf-8")
            time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def _refused(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0


async def test_a_client_over_http_mines_and_reads(served):
    from mcp.client.streamable_http import streamable_http_client

    async with (
        streamable_http_client(f"http://127.0.0.1:{served}/mcp") as (read, write, _),
        mcp.ClientSession(read, write) as client,
    ):
        await client.initialize()
        assert "mine_corpus" in [tool.name for tool in (await client.list_tools()).tools]
        mined = await client.call_tool("mine_corpus", {"instruction": INSTRUCTION, "corpus": "reviews"})
        answer = json.loads(mined.content[0].text)
        assert answer["matched"] == sum(map(is_positive, reviews(30)))
        page = await client.call_tool("read_results", {"result": answer["result"], "only_matches": True})
        assert json.loads(page.content[0].text)["rows"] == answer["matched"]


HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
HELLO["params"] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "page", "version": "1"},
}


def test_http_answers_no_other_host_and_no_page_of_another_origin(served):
    def status(**headers):
        accepted = {"accept": "application/json, text/event-stream", **headers}
        return httpx.post(f"http://127.0.0.1:{served}/mcp", json=HELLO, headers=accepted).status_code

    assert status() == 200
    assert status(origin=f"http://localhost:{served}") == 200
    assert status(host="evil.example") == 421
    assert status(host=f"127.0.0.1.evil.example:{served}") == 421
    assert status(origin="https://evil.example") == 403
    assert status(origin="null") == 403


@pytest.mark.skipif(not TCP.exists(), reason="only Linux tells who listens where")
def test_http_listens_on_the_loopback_interface(served):
    listening = [line.split()[1].split(":") for line in TCP.read_text("ascii").splitlines()[1:]]
    assert {address for address, port in listening if int(port, 16) == served} == {"0100007F"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_http_is_served_on_the_loopback_interface_only(host, home):
    with pytest.raises(SettingsError, match="is not served on"):
        create_mcp_server(FalconerToolkit(home=home), host=host)
