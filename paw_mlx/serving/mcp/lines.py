"""Standard input as lines for asyncio: reading can be given up, and no lines fill the memory."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from typing import BinaryIO

from ..room import Room

MAX_LINE_BYTES = 16 << 20  # a million characters take 12 MB where all are escaped twice
_MOST_WAITING = 8  # lines that were read and not yet taken
LINE_BYTES = ContextVar("LINE_BYTES", default=0)  # of the line that a message came in


async def read_lines(room: Room) -> AsyncIterator[str]:
    """Yield the lines of standard input, for one that is too long an empty one.

    Who takes room for a message waits for it in turn, and the next line behind them all. From now
    on nothing else reads there: file descriptor 0 is the null device. The thread that reads cannot
    be woken, and dies with the process.
    """
    wire = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[bytes](_MOST_WAITING)

    def read() -> None:
        with suppress(RuntimeError):  # the loop has ended
            file: BinaryIO = io.BufferedReader(io.FileIO(wire, closefd=False))
            while line := _read_line(file):
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
            asyncio.run_coroutine_threadsafe(lines.put(b""), loop).result()

    threading.Thread(target=read, name="paw-mlx-stdin", daemon=True).start()
    while line := await lines.get():
        LINE_BYTES.set(len(line))
        yield line.decode(errors="replace")
        await room.take(0)


def _read_line(file: BinaryIO) -> bytes:
    """Read a line; of one that is too long, only its end; nothing at the end of all."""
    line = file.readline(MAX_LINE_BYTES)
    if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
        return line
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE_BYTES)
    return b"\n"
