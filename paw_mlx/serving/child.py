"""A child process that is a worker, as the process that started it has it."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from .. import settings
from ..client.protocol import HELLO
from ..client.wire import Wire
from ..errors import DaemonError
from ..files import scratch

_END_S = 10.0  # for one that was hung up on; it gives itself half of that


class Child:
    """A worker's process, and the `wire` to it, which it inherited: nobody else has one.

    DaemonError if it cannot be started.
    """

    def __init__(self, num_workers: int) -> None:
        try:
            with ExitStack() as undo:
                folder = undo.enter_context(scratch())
                mine, theirs = socket.socketpair()
                undo.push(mine)
                with theirs:
                    self._process = _start(theirs.fileno(), folder, num_workers)
                self._undo = undo.pop_all()
        except OSError as error:
            raise DaemonError(f"cannot start a worker: {error.strerror or error}") from error
        self.wire = Wire(mine)
        with suppress(DaemonError):  # that it died already shows in what is received
            self.wire.send(HELLO)

    @property
    def pid(self) -> int:
        return self._process.pid

    def join(self) -> int:
        """Wait for its end, which hanging up brings, or bring it; return its exit code."""
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._undo.close()
        return code


def _start(descriptor: int, folder: Path, num_workers: int) -> subprocess.Popen[bytes]:
    """Start the process, in a session of its own: Ctrl-C is for whoever started it."""
    words = [str(descriptor), str(folder), str(num_workers)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "paw_mlx.serving.worker", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=settings.worker_environment(num_workers),
        pass_fds=[descriptor],
        start_new_session=True,
    )
