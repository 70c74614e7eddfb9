"""Falconer's tools in another process, over MCP; any MCP host starts the server in this way.

Run it: python examples/mcp_client.py (without OPENAI_API_KEY the untrained model answers, and says so)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from scripted_model import LLM

NOTES = ["The train was late again.", "What a lovely ride along the coast!", "Two hours late, and no seat."]


async def main(*options: str, instruction: str = "Does the traveller complain?") -> dict[str, Any]:
    """Start a server, add documents, classify them and read the rows.

    Args:
        options: Options of ``falconer mcp``: --llm, --home.
        instruction: The question about each note.
    """
    run = "from langchain_falconer.cli import main; main()"  # in a shell: falconer mcp --llm openai:gpt-4.1-mini
    server = StdioServerParameters(command=sys.executable, args=["-c", run, "mcp", *options], env=dict(os.environ))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as client:
        await client.initialize()

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            answer: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
            return answer

        await call("add_documents", corpus="notes", documents=[{"text": note} for note in NOTES])
        answer = await call("get_label", corpus="notes", instruction=instruction)
        print(answer["steps"]["label"]["counts"])
        return await call("read_results", result=answer["result"], step="label", value=True)


if __name__ == "__main__":
    print(asyncio.run(main(*(["--llm", LLM] if LLM else []))))
