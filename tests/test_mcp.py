"""The tools over MCP, by the official client."""

import json
import os
import shutil
import sys

import pytest
from laptops import INSTRUCTION, is_positive, reviews

from langchain_falconer import Falconer, FalconerToolkit
from langchain_falconer.tools import create_mcp_server

mcp = pytest.importorskip("mcp")
pytest.importorskip("langchain_mcp_adapters")


@pytest.fixture
def home(proxy_folder, tmp_path):
    shutil.copytree(proxy_folder, tmp_path / "home" / "proxies" / "laptops")
    Falconer(home=tmp_path / "home").add_documents("reviews", reviews(30))
    return tmp_path / "home"


async def test_a_client_on_stdio_adds_mines_and_reads_and_reads_no_file(home, tmp_path):
    from mcp.client.stdio import stdio_client

    (tmp_path / "secret.txt").write_text("Not for clients.", "utf-8")
    arguments = ["-c", "from langchain_falconer.cli import main; main()", "mcp", "--home", str(home)]
    server = mcp.StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    async with stdio_client(server) as (read, write), mcp.ClientSession(read, write) as client:
        await client.initialize()
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
            said = await call(name, **arguments)
            assert "Not for clients" not in said
            assert not said.startswith("{")


def test_http_is_served_on_the_loopback_interface_only(home):
    server = create_mcp_server(FalconerToolkit(home=home), port=8123)
    assert (server.settings.host, server.settings.port) == ("127.0.0.1", 8123)
    assert server.settings.transport_security.enable_dns_rebinding_protection
