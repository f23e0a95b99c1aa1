"""A process per model: its peaks are its own, and its end gives all memory back.

    with Worker(Paw, synthetic="tiny") as paw:
        paw.call("load")

Pickles both ways. The first is what to make, and the keywords to make it with; then come calls of
its methods, each answered by what it returned or by its error. In the child the protocol has a
descriptor of its own, and stdout leads to stderr: no library can print into it. A child whose
parent is gone reads the end of its standard input, and ends, also in the middle of a call.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from queue import SimpleQueue
from typing import Any, BinaryIO

from paw_mlx.errors import PawError

# What is measured cold must not lie on disk from the last time.
_ENVIRONMENT = ("/usr/bin/env", "PAW_MLX_PREFIX_BYTES=0")
# Nothing that lies in the current folder is imported.
_MODULE = ("-P", "-m", "paw_mlx.benchmarks.speed.worker")
_AWAKE = ("/usr/bin/caffeinate", "-dims", "-w")  # macOS: as long as that process lives
_CLOSING_S = 10
_NO_MEMORY = ("malloc", "out of memory", "Insufficient Memory")
_SMALLER = "Choose a smaller model, or fewer bits."


class Worker:
    """An object in another process. A context manager: leaving it ends the process.

    A PawError there is raised here, as it is; what is no PawError is a bug, and comes with its
    traceback. PawError if the process dies.
    """

    def __init__(self, target: type, **keywords: Any) -> None:
        """Start a process and make a `target` there."""
        self._target = target
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*_ENVIRONMENT, sys.executable, *_MODULE], stdin=pipe, stdout=pipe, stderr=self._said
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._awake = keep_awake(self._process.pid)
        try:
            self._ask(pickle.dumps(target), keywords)
        except BaseException:
            self.close()
            raise

    def call(self, name: str, **keywords: Any) -> Any:
        """Call a method there; return what it returns."""
        return self._ask(name, keywords)

    def close(self) -> None:
        """End the process. Closing twice is fine."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()
        self._said.close()
        if self._awake:
            self._awake.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, *request: Any) -> Any:
        try:
            pickle.dump(request, self._requests)
            self._requests.flush()
            result, error = pickle.load(self._replies)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            raise self._death() from None
        if error:
            raise error
        return result

    def _death(self) -> PawError:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        killed = -code == signal.SIGKILL
        text = f"the process that measured {self._target.__name__} {how}"
        text += ": out of memory?" if killed else ""
        return PawError(text + said, hint=_SMALLER if killed or _says_no_memory(said) else None)


def keep_awake(pid: int) -> subprocess.Popen[bytes] | None:
    """Start what keeps a Mac awake while a process lives."""
    if sys.platform != "darwin":
        return None
    try:
        return subprocess.Popen([*_AWAKE, str(pid)], stdin=subprocess.DEVNULL)
    except OSError:
        return None


def _says_no_memory(text: str) -> bool:
    return any(sign in text for sign in _NO_MEMORY)


def _portable(error: Exception) -> Exception:
    """An error as the parent raises it; of one that is no PawError, the traceback."""
    if isinstance(error, PawError):
        return error
    if isinstance(error, MemoryError) or _says_no_memory(str(error)):
        return PawError(f"out of memory: {' '.join(str(error).split())}", hint=_SMALLER)
    return RuntimeError(f"in the process that measures:\n{traceback.format_exc()}")


def _serve(replies: BinaryIO) -> None:
    """Make the target and answer calls of it, until standard input ends."""
    requests: SimpleQueue[tuple[Any, dict[str, Any]]] = SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    made: Any = None
    while True:
        asked, keywords = requests.get()
        result, error = None, None
        try:
            if made is None:
                made = pickle.loads(asked)(**keywords)  # imported in this thread, which computes
            else:
                result = getattr(made, asked)(**keywords)
        except Exception as raised:
            error = _portable(raised)
        pickle.dump((result, error), replies)
        replies.flush()


def _read(requests: SimpleQueue[tuple[Any, dict[str, Any]]]) -> None:
    """Hand over requests; at their end the process ends, whatever it is doing."""
    with contextlib.suppress(EOFError):
        while True:
            requests.put(pickle.load(sys.stdin.buffer))
    os._exit(0)


def main() -> None:
    """Serve, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and closes
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(replies)


if __name__ == "__main__":
    main()
