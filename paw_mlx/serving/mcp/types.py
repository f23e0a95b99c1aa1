"""Our tools and answers as the types of the `mcp` package."""

from __future__ import annotations

from typing import Any, TypeAlias

from mcp import types
from mcp.server import ServerRequestContext

from .tools import Answer, Tool

Context: TypeAlias = ServerRequestContext[Any, Any]


class Teller:
    """Tells a client how far its request is, if it asked for that, whenever that has grown."""

    def __init__(self, context: Context) -> None:
        self._session, self._last = context.session, -1.0

    async def __call__(self, done: float, total: float, message: str) -> None:
        if done > self._last:
            self._last = done
            await self._session.report_progress(done, total, message)


def tool_type(tool: Tool) -> types.Tool:
    """Return a tool as the package has it."""
    hints = types.ToolAnnotations(read_only_hint=tool.reads, open_world_hint=False)
    if not tool.reads:
        hints.destructive_hint = tool.replaces
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=hints,
        _meta=tool.meta or None,
    )


def result_type(made: Answer) -> types.CallToolResult:
    """Return an answer as the package has it: its object, if it is one, and its text."""
    texts = [made.text] if made.note is None else [made.text, made.note]
    return types.CallToolResult(
        content=[types.TextContent(text=text) for text in texts],
        structured_content=None if isinstance(made.value, str) else made.value,
    )


def failure(text: str) -> types.CallToolResult:
    """Return an error as an agent reads it, and may mend."""
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
