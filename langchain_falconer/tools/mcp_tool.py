"""A tool as MCP serves it: errors are errors, answers are data, and progress is sent while it works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.fastmcp import Context
from mcp.server.fastmcp.tools.base import Tool
from mcp.server.fastmcp.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import TypeAdapter

from langchain_falconer.graph import ProgressEvent
from langchain_falconer.records import JsonObject
from langchain_falconer.tools.base import FalconerTool, progress_listener


class McpTool(Tool):  # type: ignore[misc]
    """A :class:`FalconerTool` with output schema and annotations."""

    tool: FalconerTool

    @classmethod
    def of(cls, tool: FalconerTool) -> McpTool:
        """Return a tool as MCP serves it."""
        return cls(
            fn=tool.ainvoke,
            name=tool.name,
            description=tool.description,
            parameters=tool.args_schema.model_json_schema(),
            fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=TypeAdapter(tool.answer_type).json_schema()),
            is_async=True,
            annotations=ToolAnnotations(
                readOnlyHint=tool.read_only, destructiveHint=False, idempotentHint=True, openWorldHint=False
            ),
            tool=tool,
        )

    async def run(
        self, arguments: JsonObject, context: Context[Any, Any, Any] | None = None, convert_result: bool = False
    ) -> CallToolResult:
        """Call the tool; an error has the tool's sentence."""
        call = {"type": "tool_call", "id": "mcp", "name": self.name, "args": arguments}
        async with _reporting(context):
            message = await self.tool.ainvoke(call)
        content = [TextContent(type="text", text=message.content)]
        if message.status == "error":
            return CallToolResult(content=content, isError=True)
        return CallToolResult(content=content, structuredContent=message.artifact)


@asynccontextmanager
async def _reporting(context: Context[Any, Any, Any] | None) -> AsyncIterator[None]:
    """Send the progress of what is called inside to the client; events that it would be late for are left out."""
    if context is None:
        yield
        return
    loop, events = asyncio.get_running_loop(), asyncio.Queue[ProgressEvent | None]()

    async def send() -> None:
        sent = 0
        while (event := await events.get()) is not None:
            while not events.empty() and (later := events.get_nowait()) is not None:
                event = later
            sent += 1  # MCP wants a number that grows; stages count anew
            await context.report_progress(sent, message=_in_words(event))

    def listen(event: ProgressEvent) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    token = progress_listener.set(listen)
    sender = asyncio.create_task(send())
    try:
        yield
    except BaseException:
        sender.cancel()
        raise
    finally:
        progress_listener.reset(token)
    events.put_nowait(None)
    await sender


def _in_words(event: ProgressEvent) -> str:
    if "note" in event:
        return event["note"]
    total = f" of {event['total']}" if "total" in event else ""
    done = f"{event['done']}{total}" if "done" in event else event.get("event", "")
    return f"{event['stage']} {done}".strip()
