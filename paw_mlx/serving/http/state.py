"""What all requests of a server share: its functions, its compile jobs, its limits, its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ... import store
from ...errors import NotFound
from ...functions import Function
from ..compiles import Compiles
from ..room import HELD_BYTES
from ..source import Functions
from .metrics import Metrics

T = TypeVar("T")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    `body_bytes` of one request, `held_bytes` of all bodies that are held at once; `calls` that
    change or compute at once, `maps` of them (a body may take hours); `rate` requests a second of
    one client, and `burst` at once; `connections` open at once. A connection says what it wants
    within `header_s`, sends the next part of a body within `body_s`, and takes what it is sent
    within `write_s`; at the end, calls have `grace_s` to finish.
    """

    body_bytes: int = 4 << 20
    held_bytes: int = HELD_BYTES
    calls: int = 256
    maps: int = 32
    rate: float = 1000.0
    burst: int = 2000
    connections: int = 2048
    header_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    grace_s: float = 30.0


class State:
    """What requests share.

    `hosts` are the names that a request's Host may have, and with `any_address` all addresses
    written in digits. `token`, if there is one, is asked of all but the workbench's files.
    """

    def __init__(
        self,
        functions: Functions,
        compiles: Compiles,
        *,
        token: str | None = None,
        hosts: frozenset[str] = LOOPBACK,
        any_address: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.functions, self.compiles, self.token = functions, compiles, token
        self.hosts, self.any_address = hosts, any_address
        self.limits, self.metrics = limits or Limits(), Metrics()
        self.closing = False  # the server ends: streams of events end, too
        self._threads = ThreadPoolExecutor(64, "paw-mlx-http")

    async def in_thread(self, call: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """Call what blocks (the store, a load, a tokenizer) in a thread, and return its answer."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*args, **keywords))

    async def function(self, reference: str, **keywords: Any) -> Function:
        """Return the function of a stored program; NotFound for what is none, be it a path."""
        return await self.in_thread(self.load, reference, **keywords)

    def load(self, reference: str, **keywords: Any) -> Function:
        """Return what `function` does, in a thread."""
        check_stored(reference)
        return self.functions.function(reference, **keywords)

    def close(self) -> None:
        """End the threads, once their calls have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def check_stored(reference: str) -> None:
    """Raise NotFound unless a reference is the name of a stored program, with a version or not.

    What else a reference may be (a path, a repository) is nothing that HTTP reaches.
    """
    try:
        if store.is_reference(reference):
            store.find(reference)
            return
    except NotFound:  # whose sentence names a folder, which is nobody's business elsewhere
        pass
    raise NotFound(
        f"no program is called {reference[:200]!r}", hint="GET /paw/v1/functions lists them."
    )
