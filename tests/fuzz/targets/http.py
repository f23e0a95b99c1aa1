"""Requests over HTTP, as bytes: uvicorn's parser, the guard, every route, on a tiny base."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import h11
import tiny
import uvicorn
from uvicorn.server import ServerState

from paw_mlx import Labels, store
from paw_mlx.output import TEXT
from paw_mlx.serving.compiles import Compiles
from paw_mlx.serving.http.app import make_app
from paw_mlx.serving.http.server import Connections
from paw_mlx.serving.http.state import Limits, State
from paw_mlx.serving.residents import Residents

from ..json_values import json_mutation
from ..mutate import ODD_TEXTS, mutate_bytes, text_mutation
from ..target import Target
from .bases import write_small
from .faults import Faults

_HEADS = [
    b"Host: evil.example",
    b"Origin: http://evil.example",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 99999999999",
    b"Content-Length: -1",
    b"Content-Length: 3\r\nContent-Length: 4",
    b"Expect: 100-continue",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"Authorization: Bearer \xff\xfe",
    b"X-API-Key: \xc3\xa9",
    b"Range: bytes=0-1,5-2,-9999999999999999999",
    b"If-None-Match: *",
    b"If-Modified-Since: x",
    b"Accept-Encoding: gzip",
    b"Content-Encoding: gzip",
    b"Sec-Fetch-Site: cross-site",
]


def http_mutation(data: bytes, chance: Random) -> bytes:
    """Change a request: its line, a header, its body as JSON (its length mostly follows)."""
    head, gap, body = data.partition(b"\r\n\r\n")
    if not gap or chance.random() < 0.1:
        return mutate_bytes(data, chance)
    line, *headers = head.split(b"\r\n")
    follows = chance.random() < 0.9
    match chance.randrange(8):
        case 0:
            words = line.split(b" ")
            at = chance.randrange(len(words))
            words[at] = text_mutation(words[at], chance)
            line = b" ".join(words)
        case 1:
            headers.insert(chance.randint(0, len(headers)), chance.choice(_HEADS))
        case 2 if headers:
            at = chance.randrange(len(headers))
            headers[at] = mutate_bytes(headers[at], chance)
        case 3:
            method, _, rest = line.partition(b" ")
            odd = chance.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")[:200]
            line = method + b" " + rest.replace(b" HTTP", b"?" + odd + b" HTTP")
        case 4:
            line = (
                chance.choice((b"GET", b"POST", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"X"))
                + line[line.find(b" ") :]
            )
        case _:
            body = json_mutation(body, chance) if body else chance.randbytes(4)
    if follows:
        headers = [h for h in headers if not h.lower().startswith(b"content-length")]
        headers.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([line, *headers]) + gap + body


class _Transport(asyncio.Transport):
    """A connection whose client has sent all that it will, and takes everything."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 9), "sockname": ("127.0.0.1", 80)})
        self.said, self.closed = bytearray(), False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class _Place:
    """A server without a socket."""

    def __init__(self, state: State) -> None:
        self.loop, self.faults = asyncio.new_event_loop(), Faults()
        self.loop.set_exception_handler(self._hear)
        connections = Connections(state, 100)
        config = uvicorn.Config(
            make_app(state), http=connections.protocol(), ws="none", lifespan="off", log_config=None
        )
        config.load()
        logging.getLogger("uvicorn.error").addHandler(self.faults)
        logging.getLogger("uvicorn.error").propagate = False
        make: Callable[..., Any] = config.http_protocol_class
        self._make = lambda: make(config, ServerState(), {}, self.loop)

    def _hear(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.raised.append(context.get("exception") or AssertionError(context["message"]))

    def ask(self, data: bytes) -> None:
        """Ask, and wait for the answer; raise what the application raised."""
        self.faults.raised.clear()
        self.loop.run_until_complete(self._ask(data))
        if self.faults.raised:
            raise self.faults.raised[0]

    async def _ask(self, data: bytes) -> None:
        protocol, transport = self._make(), _Transport()
        protocol.connection_made(transport)
        protocol.data_received(data)
        while protocol.tasks or ((cycle := protocol.cycle) and not cycle.response_complete):
            await asyncio.sleep(0.0002)
            cycle = protocol.cycle
            ended = transport.closed or cycle is None or cycle.response_complete
            if ended or (protocol.conn.their_state is h11.SEND_BODY and not cycle.body):
                break
        protocol.connection_lost(None)
        for _ in range(20_000):
            if not protocol.tasks:
                return
            await asyncio.sleep(0.0002)


def http(sandbox: Path) -> Target:
    base = write_small(sandbox / "base", "llama")
    for name, output in (("words", TEXT), ("me/topic", Labels(("disk", "server")))):
        before = tiny.CONFIGS["llama"]
        tiny.CONFIGS["llama"] = json.loads((base / "config.json").read_text())
        made = replace(tiny.program("llama", 1), output=output, interpreter=str(base))
        store.add(made, name, dtype="f32", profile=tiny.profile("llama"))
        tiny.CONFIGS["llama"] = before
    limits = Limits(rate=1e9, burst=1 << 40)
    place = _Place(State(Residents(), Compiles("nobody/none", offline=True), limits=limits))

    def read(data: bytes) -> None:
        if data and b"/tune/" not in data:  # which starts a process, as it should
            place.ask(data[:4000])

    return Target("http", _requests(), read, http_mutation)


def _requests() -> list[bytes]:
    few = {"options": {"max_tokens": 2}}
    said = {"messages": [{"role": "user", "content": "disk"}], "model": "words", "max_tokens": 2}
    posts = {
        "/paw/v1/run/words": {"input": "the disk", **few},
        "/paw/v1/run/words@v1?": {"input": "x", "stream": True, **few},
        "/paw/v1/run/me%2Ftopic": {"input": "x", "options": {"threshold": 0.9, "otherwise": "no"}},
        "/paw/v1/decide/me/topic": {"input": "the disk"},
        "/paw/v1/cases/words": {"input": "a", "output": "b"},
        "/paw/v1/test/words": {"gate": "accuracy >= 50%"},
        "/paw/v1/compare/words": {"with": "words@v1"},
        "/paw/v1/map/words?max_tokens=2": {"input": "x", "id": 1},
        "/paw/v1/compiles": {"spec": "Say 1 if disk is there, else 0.", "name": "x"},
        "/v1/chat/completions": said,
        "/v1/chat/completions?": said | {"logprobs": True, "top_logprobs": 2, "model": "me/topic"},
        "/v1/completions": {"model": "words", "prompt": "x", "max_tokens": 2, "stream": True},
        "/api/v1/infer": {"program_id": "words", "input": "x", "max_tokens": 2},
        "/api/v1/compile/async": {"spec": "Say 1 if disk is there, else 0.", "slug": "x"},
        "/api/v1/compile": {"spec": "Say 1 if disk is there, else 0.", "ephemeral": True},
        "/api/v1/compile/precheck": {"spec": "Say 1 if disk is there, else 0."},
    }
    gets = [
        *("/health", "/metrics", "/openapi.json", "/", "/paw/v1/functions", "/paw/v1/jobs"),
        *("/paw/v1/functions/words", "/paw/v1/cases/words", "/v1/models", "/v1/models/me/topic"),
        *("/paw/v1/compiles", "/paw/v1/compiles/x", "/paw/v1/jobs/x", "/workbench/index.html"),
        *("/api/v1/programs?q=x&limit=3", "/api/v1/programs/resolve/words"),
        *("/api/v1/programs/words/versions", "/api/v1/programs/words/download"),
        *("/api/v1/compilers", "/api/v1/models/compilers", "/api/v1/compile/x"),
    ]
    made = [_request("POST", path, json.dumps(body).encode()) for path, body in posts.items()]
    made += [_request("DELETE", "/paw/v1/cases/words?number=1", b"")]
    made += [_request("PATCH", "/api/v1/programs/words", b'{"slug": "words"}')]
    return made + [_request("GET", path, b"") for path in gets]


def _request(method: str, path: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
