"""The Model Context Protocol on standard input and output, by the official `mcp` package.

Both of its eras are spoken: a session that is opened (to 2025-11-25) hears of changes by itself,
later ones where the client listens. While it is served, the protocol alone has file descriptor 1:
whatever else prints there goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from mcp import MCPError, types
from mcp.server import NotificationOptions, Server
from mcp.server.context import CallNext, HandlerResult
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)

from ...errors import PawError
from ...functions import Function
from ...runner import Result
from ...version import VERSION
from ..room import CALL_BYTES, HELD_BYTES, Room
from ..waiting import result_of
from .actions import Actions
from .arguments import check_arguments
from .catalog import Catalog, Offer
from .lines import LINE_BYTES, read_lines
from .tools import Tool, answer, function_tools
from .types import Context, Teller, failure, result_type, tool_type

if TYPE_CHECKING:
    from ..compiles import Compiles
    from ..source import Functions

_Offered = dict[str, tuple[Tool, Offer]]
URI = "paw-mlx://functions/"
_LOOK_S = 2.0  # between two looks at the store
_LOG = logging.getLogger(__name__)
_INSTRUCTIONS = (
    "Small functions that run on this machine, each compiled from the spec that describes it. "
    "Call one with the text as `input`; it does its one task and knows nothing else. Independent "
    "calls may be made at once: they are computed together. Labels come with their probability, "
    "and `in_scope`, which is low for inputs that the function was not made for: where either is "
    "low, look for yourself."
)


class AgentServer:
    """Functions as tools. `keywords` are `function`'s, for all; `look_s` is between two looks at
    the store. `functions` and `compiles` belong to whoever gives them. Of all messages it holds
    `held_bytes` at once; no line is read beyond them."""

    def __init__(
        self,
        functions: Functions,
        catalog: Catalog,
        *,
        allowed: tuple[str, ...] = (),
        compiles: Compiles | None = None,
        keywords: Mapping[str, Any] | None = None,
        look_s: float = _LOOK_S,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._functions, self._catalog, self._look_s = functions, catalog, look_s
        self._keywords = dict(keywords or {})
        self._actions = Actions(allowed, catalog, self._open, compiles)
        self._bus = InMemorySubscriptionBus()
        self._session: ServerSession | None = None  # of a client that hears of changes by itself
        self._look_now = asyncio.Event()
        self._room = Room(held_bytes)
        self.server: Server[None] = Server(
            "paw-mlx",
            version=VERSION,
            title="Fuzzy functions",
            instructions=_INSTRUCTIONS,
            lifespan=self._watching,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_read_resource=self._read_resource,
            on_subscriptions_listen=ListenHandler(self._bus),
        )
        self.server.add_notification_handler(
            "notifications/initialized", types.NotificationParams, self._initialized
        )
        self.server.middleware.append(self._held)

    async def serve(self) -> None:
        """Serve whoever started this process, until it closes standard input."""
        told = NotificationOptions(tools_changed=True, resources_changed=True)
        stdin: Any = read_lines(self._room)  # the package asks no more than lines of an AsyncFile
        async with stdio_server(stdin) as (read, write):
            await self.server.run(read, write, self.server.create_initialization_options(told))

    async def _held(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer a message once there is room for it, which it has until its answer is written.

        The task that answers it ends with that; the first message is answered as it is read.
        """
        num_bytes = LINE_BYTES.get() + CALL_BYTES
        await self._room.take(num_bytes)
        if ctx.method == "initialize":
            try:
                return await call_next(ctx)
            finally:
                self._room.give_back(num_bytes)
        task = asyncio.current_task()
        assert task
        task.add_done_callback(lambda _: self._room.give_back(num_bytes))
        return await call_next(ctx)

    # --- tools

    async def _list_tools(self, context: Context, params: object) -> types.ListToolsResult:
        offered = await asyncio.to_thread(self._tools)
        tools = [*(tool for tool, _ in offered.values()), *self._actions.tools.values()]
        return types.ListToolsResult(tools=[tool_type(tool) for tool in tools])

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Call a tool; what is wrong with the call, or comes of it, is an answer, too."""
        offered = await asyncio.to_thread(self._tools)
        found = offered.get(params.name)
        tool = found[0] if found else self._actions.tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:80]!r}")
        try:
            arguments = check_arguments(tool.input_schema, params.arguments)
            if found:
                made = answer(await self._run(found[1], arguments["input"]))
            else:
                made = await self._actions.call(tool.name, arguments, Teller(context))
                self._look_now.set()
        except PawError as error:
            return failure("\n".join([str(error), *error.hints]))
        except Exception as error:  # a bug: its traceback is for the log, not for the agent
            _LOG.exception("the tool %s failed", tool.name)
            return failure(f"an internal error ({type(error).__name__}): the server's log has more")
        return result_type(made)

    async def _run(self, offer: Offer, text: str) -> Result:
        """Run a function; cancelling the task cancels the call, also while its base is loaded."""
        submitting = asyncio.to_thread(lambda: self._open(offer.reference).submit(text))
        return await result_of(asyncio.ensure_future(submitting))

    def _open(self, reference: str) -> Function:
        return self._functions.function(reference, **self._keywords)

    def _tools(self) -> _Offered:
        return function_tools(self._catalog.offers(), self._actions.tools)

    # --- resources

    async def _list_resources(self, context: Context, params: object) -> types.ListResourcesResult:
        offers = {o.stored.name: o for o in await asyncio.to_thread(self._catalog.offers)}
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=f"{URI}{name}",
                    name=name,
                    description=f"The spec and the versions of {name}.",
                    mime_type="application/json",
                )
                for name in offers
            ]
        )

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        offers = {f"{URI}{o.stored.name}": o for o in await asyncio.to_thread(self._catalog.offers)}
        if (offer := offers.get(params.uri)) is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no resource {params.uri[:200]!r}")
        name = offer.stored.name
        record = {
            "name": name,
            "spec": offer.spec,
            "output": offer.output.record(),
            "interpreter": offer.interpreter,
            "program_id": offer.program_id,
            "num_cases": offer.stored.num_cases,
            "versions": await asyncio.to_thread(self._catalog.versions, name),
        }
        text = json.dumps(record, ensure_ascii=False, indent=1)
        contents = types.TextResourceContents(
            uri=params.uri, mime_type="application/json", text=text
        )
        return types.ReadResourceResult(contents=[contents])

    # --- changes

    @asynccontextmanager
    async def _watching(self, server: Server[None]) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _watch(self) -> None:
        """Tell of changes: look whether the store did change, and then at what is offered."""
        stamp, known = self._catalog.stamp(), await asyncio.to_thread(self._tools)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), self._look_s)
            self._look_now.clear()
            try:
                if (now := self._catalog.stamp()) == stamp:
                    continue
                stamp, before, known = now, known, await asyncio.to_thread(self._tools)
                await self._tell_changed(before, known)
            except PawError as error:  # of the disk: it may be better at the next look
                _LOG.warning("the store cannot be looked at: %s", error)

    async def _tell_changed(self, before: _Offered, now: _Offered) -> None:
        """Tell of other tools, other resources, and other contents of them."""
        if {name: tool for name, (tool, _) in before.items()} != {
            name: tool for name, (tool, _) in now.items()
        }:
            await self._bus.publish(ToolsListChanged())
            if self._session:
                await self._session.send_tool_list_changed()
        old, new = ({o.stored.name: o for _, o in offered.values()} for offered in (before, now))
        if old.keys() != new.keys():
            await self._bus.publish(ResourcesListChanged())
            if self._session:
                await self._session.send_resource_list_changed()
        for name in old.keys() & new.keys():
            if old[name] != new[name]:
                await self._bus.publish(ResourceUpdated(f"{URI}{name}"))

    async def _initialized(self, context: Context, params: object) -> None:
        self._session = context.session
