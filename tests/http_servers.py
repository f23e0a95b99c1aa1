"""The server of a test: functions on a tiny base, behind a thread or a process of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import tiny
from shell import ending, start

from paw_mlx import Labels, store
from paw_mlx.output import TEXT
from paw_mlx.serving.compiles import Compiles
from paw_mlx.serving.http.server import Server, listen
from paw_mlx.serving.http.state import Functions, State
from paw_mlx.serving.residents import Residents

LONG = {"max_tokens": 30_000}  # options of a call that takes long
LABELS = ("disk", "server", "picnic")


def write_base(folder: Path) -> Path:
    """Write a tiny base whose window is wide: a call of 30,000 tokens takes half a minute."""
    tiny.write_base(folder, "llama")
    (folder / "config.json").write_text(tiny.changed("llama", max_position_embeddings=1 << 15))
    return folder


def store_functions(base: Path) -> None:
    """Store `words`, which says text, and `me/topic`, which says labels, on a tiny base."""
    for name, output in (("words", TEXT), ("me/topic", Labels(LABELS))):
        made = replace(tiny.program("llama", 1), output=output, interpreter=str(base))
        store.add(made, name, dtype="f32", profile=tiny.profile("llama"))


class Served:
    """A server: its address, and who asks it."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(
            base_url=self.url, headers=headers, trust_env=False, timeout=60.0
        )

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Post JSON."""
        return self.client.post(path, json=body or {}, **options)

    def events(self, method: str, path: str, body: Any = None) -> list[tuple[str, Any]]:
        """Return all events of an answer."""
        with self.client.stream(method, path, json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream"), answer.read()
            blocks = answer.read().decode().split("\n\n")
        return [read_event(block) for block in blocks if block.startswith(("event:", "data:"))]

    def number(self, metric: str) -> float:
        """Return a number of /metrics; 0 where it is not there."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(metric)), 0.0)

    def send(self, data: bytes, timeout_s: float = 20.0) -> bytes:
        """Send bytes as they are; return all that comes until the server hangs up."""
        with self.connect(timeout_s) as connection:
            connection.sendall(data)
            return read_all(connection)

    def connect(self, timeout_s: float = 20.0) -> socket.socket:
        """Return an open connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)


def read_event(block: str) -> tuple[str, Any]:
    """Return an event's name and its data."""
    lines = dict(line.split(": ", 1) for line in block.splitlines())
    return lines.get("event", "message"), json.loads(lines["data"])


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side hangs up."""
    data = b""
    try:
        while part := connection.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    return data


@contextmanager
def http_server(
    functions: Functions | None = None, compiles: Compiles | None = None, **options: Any
) -> Iterator[Served]:
    """Serve the stored functions while the block runs, in a thread; `options` are the state's."""
    residents, compiles = Residents(), compiles or Compiles()
    state = State(functions or residents, compiles, **options)
    started = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        server = Server(state, started.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert started.wait(30)
            served = Served(listener.getsockname()[1], state.token)
            with served.client:
                yield served
        finally:
            server.should_exit = True
            thread.join()
            compiles.close()
            residents.close()


@contextmanager
def http_process(*words: object, **options: Any) -> Iterator[tuple[Served, Any]]:
    """Run `paw-mlx serve` while the block runs; yield the server and its process."""
    process = start("serve", "--port", 0, "--json", *words, **options)
    with ending(process):
        told = json.loads(process.stdout.readline() or "null")
        assert told, process.communicate()
        served = Served(int(told["url"].rpartition(":")[2]))
        with served.client:
            yield served, process
