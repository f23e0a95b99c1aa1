"""`paw-mlx serve`, soaked: its functions as a client calls them, and the server they are of."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import tiny
from shell import SCRIPT, ending
from soaking import LIMIT_S, PROGRAMS

import paw_mlx as paw
from paw_mlx import store
from paw_mlx.annotations import output_of, retype

CONNECTIONS = 100  # below what a server takes on at once; more calls wait here
KEPT = 20


def store_functions(base: Path) -> None:
    """Store every program, by its name without blanks."""
    for name, (seed, output) in PROGRAMS.items():
        types = {key: output.get(key) for key in ("labels", "schema", "regex")}
        typed = retype(
            tiny.program("llama", seed),
            output_of(**types),
            output.get("threshold"),
            output.get("otherwise"),
        )
        made = replace(typed, interpreter=str(base))
        store.add(made, _stored(name), dtype="f32", profile=tiny.profile("llama"))


@contextmanager
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve this environment's home during the block; yield the address and the process."""
    command = [*SCRIPT, "serve", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with ending(process):
        assert process.stdout
        yield json.loads(process.stdout.readline())["url"], process


@contextmanager
def client(url: str) -> Iterator[dict[str, Asked]]:
    """Yield every stored function, asked over connections that end with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=KEPT)
    options: dict[str, Any] = {"base_url": url, "trust_env": False, "timeout": LIMIT_S}
    connections = httpx.AsyncClient(limits=limits, **options)
    try:
        with httpx.Client(**options) as streams:
            yield {name: Asked(name, loop, connections, streams) for name in PROGRAMS}
    finally:
        asyncio.run_coroutine_threadsafe(connections.aclose(), loop).result(LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_S)
        loop.close()


class Asked:
    """As much of a `Function` as a soak calls."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        connections: httpx.AsyncClient,
        streams: httpx.Client,
    ) -> None:
        self._path = f"/paw/v1/run/{_stored(name)}"
        self._loop, self._connections, self._streams = loop, connections, streams

    def submit(self, text: Any, **options: Any) -> Future[Any]:
        """Ask; cancelling the future hangs up."""
        return asyncio.run_coroutine_threadsafe(self._ask(text, options), self._loop)

    async def arun(self, text: Any, **options: Any) -> Any:
        """Ask, in a task of another loop."""
        return await asyncio.wrap_future(self.submit(text, **options))

    def stream(self, text: Any, **options: Any) -> Lines:
        """Ask for events."""
        body = {"input": text, "options": options, "stream": True}
        request = self._streams.build_request("POST", self._path, json=body)
        return Lines(self._streams.send(request, stream=True))

    async def _ask(self, text: Any, options: Mapping[str, Any]) -> SimpleNamespace:
        body = {"input": text, "options": options}
        response = await self._connections.post(self._path, json=body)
        told = json.loads(response.content, object_hook=lambda found: SimpleNamespace(**found))
        if response.status_code != 200:
            raise getattr(paw, told.error, paw.OptionError)(told.message)
        told.decision = told if hasattr(told, "label") else None
        return told


class Lines:
    """The lines of a stream of events. Closed, it hangs up."""

    def __init__(self, response: httpx.Response) -> None:
        self.close = response.close
        self._next = partial(next, response.iter_lines())

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        return self._next()


def _stored(name: str) -> str:
    return name.replace(" ", "-")
