"""What a client says to the daemon: frames, as the protocol and a session hear them."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import tiny

from paw_mlx import formats
from paw_mlx.client.protocol import HELLO, pack, sizes, unpack
from paw_mlx.client.wire import Wire
from paw_mlx.errors import DaemonError, PawError
from paw_mlx.serving.daemon.server import Server

from ..json_values import json_mutation
from ..mutate import EDGES, mutate_bytes
from ..structures import packed
from ..target import Target
from .bases import write_small
from .containers import BY_END

_HEAD = struct.Struct(">4sII")
_FRAMES = 12  # of an input, at most


def split(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Cut an input into frames: head, JSON, body; the last one may be anything."""
    found, at = [], 0
    while at < len(data) and len(found) < _FRAMES:
        head = data[at : at + 12]
        if len(head) < 12:
            found.append((head, b"", b""))
            break
        _, num_json, num_body = _HEAD.unpack(head)
        start, end = at + 12, at + 12 + num_json
        found.append((head, data[start:end], data[end : end + num_body]))
        at = end + num_body
    return found


def frames_mutation(data: bytes, chance: Random) -> bytes:
    """Change frames: what one says, its head, its body, their order."""
    frames = split(data)
    if not frames or chance.random() < 0.1:
        return mutate_bytes(data, chance)
    at = chance.randrange(len(frames))
    head, said, body = frames[at]
    match chance.randrange(10):
        case 0:
            head = mutate_bytes(head, chance)
        case 1:
            edges = [edge & 0xFFFFFFFF for edge in chance.choices(EDGES, k=2)]
            head = _HEAD.pack(b"PAWD", *edges)
        case 2:
            frames.insert(chance.randint(0, len(frames)), frames[at])
        case 3:
            chance.shuffle(frames)
        case 4:
            body = packed(BY_END)(body, chance) if body else chance.randbytes(8)
            head = _HEAD.pack(b"PAWD", len(said), len(body))
        case _:
            said = json_mutation(said, chance)
            head = _HEAD.pack(b"PAWD", len(said), len(body))
    frames[at] = head, said, body
    return b"".join(part for frame in frames for part in frame)


def frames(sandbox: Path) -> Target:
    """The bytes alone: what the client's side makes of a daemon's answers, too."""

    def read(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with closing(Wire(ours)) as wire, theirs:
            theirs.sendall(data[:60_000])
            theirs.shutdown(socket.SHUT_WR)
            with suppress(DaemonError):
                for _ in range(_FRAMES):
                    error = wire.receive().get("error")
                    PawError.of(error if isinstance(error, dict) else {})
        for head, said, _ in split(data):
            if len(head) == 12:
                sizes(head)
            unpack(said)

    error = {"op": "error", "id": 1, "error": {"code": "NotFound", "message": "x", "hints": ["y"]}}
    result = {"op": "result", "id": 2, "record": {"text": "x"}, "warnings": []}
    seeds = [pack(HELLO) + pack(error) + pack(result, 3) + b"abc"]
    return Target("frames", seeds, read, frames_mutation)


class _Log:
    """Hears of bugs that a session has caught."""

    def __init__(self) -> None:
        self.bugs = list[str]()

    def __call__(self, event: str, **facts: Any) -> None:
        json.dumps(facts, default=str)
        if event == "bug":
            self.bugs.append(f"{facts['error']} at {Path(facts['place']).name}")


class _Talk:
    """A daemon in this process, and one client after the other."""

    def __init__(self, sandbox: Path) -> None:
        self.log, self.loop = _Log(), asyncio.new_event_loop()
        (sandbox / "daemon").mkdir()
        self.server = self.loop.run_until_complete(self._make(sandbox / "daemon"))

    async def _make(self, folder: Path) -> Server:
        return Server(folder, self.log)  # type: ignore[arg-type]

    def say(self, data: bytes) -> None:
        """Say some frames, and wait until all that was asked for is answered or refused."""
        self.log.bugs.clear()
        self.loop.run_until_complete(self._say(data))
        assert not self.log.bugs, self.log.bugs[0]

    async def _say(self, data: bytes) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        task = self.loop.create_task(self.server.attend(theirs))
        with ours:
            with suppress(ConnectionError):
                await self.loop.sock_sendall(ours, data)
            quiet = 0
            while quiet < 3 and not task.done():
                await asyncio.sleep(0.0005)
                with suppress(BlockingIOError, ConnectionError):
                    ours.recv(1 << 20)
                busy = any(session.calls for session in self.server._sessions)
                quiet = 0 if busy else quiet + 1
        await task


def session(sandbox: Path) -> Target:
    base = write_small(sandbox / "base", "llama")
    program = sandbox / "one.paw"
    before = tiny.CONFIGS["llama"]
    tiny.CONFIGS["llama"] = json.loads((base / "config.json").read_text())
    made, profile = tiny.program("llama", 1), tiny.profile("llama")
    tiny.CONFIGS["llama"] = before
    formats.save(made, program, dtype="f32", profile=profile)
    talk = _Talk(sandbox)

    def read(data: bytes) -> None:
        # A client of the same user may name any base: not what is looked for here.
        talk.say(pack(HELLO) + data.replace(b"etc/passwd", b"etc-passwd"))

    return Target("session", _said(program.read_bytes(), base), read, frames_mutation)


def _said(program: bytes, base: Path) -> list[bytes]:
    put = pack({"op": "put", "id": 1, "key": "k"}, len(program)) + program
    labels = {"type": "labels", "labels": ["disk", "server"], "threshold": 0.1}
    asked = {"key": "k", "interpreter": str(base), "bits": None, "group_size": 64}
    asked |= {"strict": False, "offline": True}
    options = {"max_tokens": 3, "temperature": 1.0, "seed": 3, "overflow": "tail", "timeout_s": 3.0}
    run = {"op": "run", "id": 2, "program": asked, "input": "the disk", "options": options}
    others = [
        pack(run | {"stream": True}),
        pack(run | {"program": asked | {"output": labels}, "options": {"threshold": 0.2}}),
        pack(run | {"op": "cut"}) + pack({"op": "status", "id": 4}),
        pack(run | {"op": "open"}) + pack({"op": "cancel", "id": 2}),
    ]
    return [put, put + pack(run), *(put + other for other in others), *others]
