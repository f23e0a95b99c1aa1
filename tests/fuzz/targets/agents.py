"""What an agent says to `paw-mlx mcp`: lines of JSON-RPC, by the official package, in both eras."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
from mcp import MCPError
from mcp.server.stdio import stdio_server

from paw_mlx import Labels, store
from paw_mlx.output import Output, Regex, Schema
from paw_mlx.serving.compiles import Compiles
from paw_mlx.serving.mcp.catalog import Catalog
from paw_mlx.serving.mcp.lines import _read_line
from paw_mlx.serving.mcp.server import AgentServer
from paw_mlx.serving.residents import Residents

from ..json_values import lines_mutation
from ..target import Target
from .bases import write_small
from .faults import Faults

_LINES = 8  # of an input, at most
_OUTPUTS: dict[str, Output] = {
    "words": Regex("[a-z]{1,3}"),
    "me/topic": Labels(("disk", "server"), threshold=0.6),
    "value": Schema.of({"enum": ["disk", 1, None]}),
}
_ERA = "io.modelcontextprotocol/"
_META = {
    f"{_ERA}protocolVersion": "2026-07-28",
    f"{_ERA}clientInfo": {"name": "x", "version": "1"},
    f"{_ERA}clientCapabilities": {},
}


class _Server(AgentServer):
    """One that counts what it works on, and hears what the package would hide."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.num_busy, self.raised = 0, list[BaseException]()
        super().__init__(*arguments, **keywords)

    async def _heard(self, working: Awaitable[Any]) -> Any:
        self.num_busy += 1
        try:
            return await working
        except (MCPError, asyncio.CancelledError):
            raise
        except BaseException as error:
            self.raised.append(error)
            raise
        finally:
            self.num_busy -= 1

    async def _list_tools(self, *given: Any) -> Any:
        return await self._heard(super()._list_tools(*given))

    async def _call_tool(self, *given: Any) -> Any:
        return await self._heard(super()._call_tool(*given))

    async def _list_resources(self, *given: Any) -> Any:
        return await self._heard(super()._list_resources(*given))

    async def _read_resource(self, *given: Any) -> Any:
        return await self._heard(super()._read_resource(*given))

    async def _initialized(self, *given: Any) -> Any:
        return await self._heard(super()._initialized(*given))


class _Pipe:
    """An agent that takes what it is told; each line of that has to be JSON."""

    def __init__(self) -> None:
        self.said = list[dict[str, Any]]()

    async def write(self, text: str) -> None:
        text.encode()
        self.said.append(json.loads(text))

    async def flush(self) -> None:
        pass


class _Talk:
    """Servers in this process, one for each input."""

    def __init__(self, make: Callable[[], _Server]) -> None:
        self.loop, self.faults, self._make = asyncio.new_event_loop(), Faults(), make
        ours = logging.getLogger("paw_mlx.serving.mcp.server")
        ours.addHandler(self.faults)
        ours.propagate = False
        logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)  # tells of each bad line

    def say(self, data: bytes) -> list[dict[str, Any]]:
        """Say some lines, wait until all is answered, and return the answers."""
        self.faults.raised.clear()
        pipe = _Pipe()
        raised = self.loop.run_until_complete(self._say(data, pipe))
        for error in [*raised, *self.faults.raised]:
            raise error
        return pipe.said

    async def _say(self, data: bytes, pipe: _Pipe) -> list[BaseException]:
        server = self._make()
        stdin: Any = self._lines(data, server)
        stdout: Any = pipe
        async with stdio_server(stdin, stdout) as (read, write):
            await server.server.run(read, write, server.server.create_initialization_options())
        return server.raised

    async def _lines(self, data: bytes, server: _Server) -> AsyncIterator[str]:
        file = io.BytesIO(data)
        for _ in range(_LINES):
            if not (line := _read_line(file)):
                break
            yield line.decode(errors="replace")
            quiet = 0
            while quiet < 3:
                await asyncio.sleep(0.0003)
                quiet = 0 if server.num_busy else quiet + 1


def mcp(sandbox: Path) -> Target:
    base = write_small(sandbox / "base", "llama")
    before = tiny.CONFIGS["llama"]
    tiny.CONFIGS["llama"] = json.loads((base / "config.json").read_text())
    for name, output in _OUTPUTS.items():
        made = replace(tiny.program("llama", 1), output=output, interpreter=str(base))
        store.add(made, name, dtype="f32", profile=tiny.profile("llama"))
    tiny.CONFIGS["llama"] = before
    functions, compiles = Residents(), Compiles("nobody/none", offline=True)
    catalog, allowed = Catalog(), ("compile", "test", "fix")

    def make() -> _Server:
        return _Server(functions, catalog, allowed=allowed, compiles=compiles)

    talk = _Talk(make)

    def read(data: bytes) -> None:
        talk.say(data)
        for name in _OUTPUTS:  # or tests would become longer and longer
            store.cases_file(name).unlink(missing_ok=True)

    seeds = _said()
    for seed in seeds:
        answers = talk.say(seed)
        assert answers
        assert not [one for one in answers if "error" in one], answers
    return Target("mcp", seeds, read, lines_mutation)


def _said() -> list[bytes]:
    client = {"protocolVersion": "2025-06-18", "capabilities": {}}
    client |= {"clientInfo": {"name": "x", "version": "1"}}
    opened = _line("initialize", 0, **client) + _line("notifications/initialized")
    asked: list[tuple[str, dict[str, Any]]] = [
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/read", {"uri": "paw-mlx://functions/words"}),
        *(("tools/call", call) for call in _calls()),
    ]
    said = []
    for number, (method, params) in enumerate(asked, 1):
        said.append(opened + _line(method, number, **params))
        said.append(_line(method, number, **params, _meta=_META))
    told = {"_meta": {"progressToken": 7}}
    calls = enumerate(_calls(), 1)
    said.append(opened + b"".join(_line("tools/call", n, **call, **told) for n, call in calls))
    cancel = _line("notifications/cancelled", requestId=2, reason="x")
    return [*said, opened + _line("tools/call", 2, **_calls()[0]) + cancel]


def _calls() -> list[dict[str, Any]]:
    calls = {
        "words": {"input": "the disk"},
        "me_topic": {"input": "the server"},
        "value": {"input": "x"},
        "fix_function": {"function": "me_topic", "input": "x", "expected": "disk"},
        "test_function": {"function": "me_topic"},
        "compile_function": {"spec": "Is it a disk?", "name": "me/disk", "labels": ["yes", "no"]},
    }
    return [{"name": name, "arguments": arguments} for name, arguments in calls.items()]


def _line(method: str, number: int | None = None, **params: Any) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if number is None else message | {"id": number}).encode() + b"\n"
