"""A worker: a process that computes for the one that started it, until that hangs up or dies.

    python -m paw_mlx.serving.worker SOCKET FOLDER NUM_WORKERS

SOCKET is the descriptor of a connected socket, over which it is asked as the daemon is; FOLDER is
for the programs that it is given, and removed at the end; NUM_WORKERS share a budget of memory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import threading
import warnings
from pathlib import Path

from ..errors import DriftWarning
from ..interpreter.engine.budget import divide
from .daemon.log import Log
from .daemon.server import Server

_END_S = 5.0  # for calls, and a load, to end that nobody waits for any more


def main(words: list[str]) -> None:
    """Be a worker, as the command's words have it."""
    descriptor, folder, num_workers = int(words[0]), Path(words[1]), int(words[2])
    divide(num_workers)
    warnings.simplefilter("ignore", DriftWarning)  # whoever started it is told, and warns
    asyncio.run(_work(socket.socket(fileno=descriptor), folder))


async def _work(connection: socket.socket, folder: Path) -> None:
    server = Server(folder, Log(Path(os.devnull)))
    await server.attend(connection)
    shutil.rmtree(folder, ignore_errors=True)
    limit = threading.Timer(_END_S, os._exit, [1])
    limit.daemon = True
    limit.start()
    await server.end()


if __name__ == "__main__":
    main(sys.argv[1:])
