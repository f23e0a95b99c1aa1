"""A process per model: its peaks are its own, and its end gives all memory back.

    with Worker("paw_mlx.benchmarks.subjects:Paw", synthetic="tiny") as paw:
        paw.call("load")

JSON lines both ways. The first one holds the keywords that the target is made with; then come
calls of its methods. In the child the protocol has a descriptor of its own, and stdout leads
to stderr: no library can print into it. A child whose parent is gone reads the end of its
standard input, and ends, also in the middle of a call.

    {"call": "load", "args": {}}  ->  {"result": ...} or {"error": {"code", "message", "hints"}}
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TextIO

from paw_mlx import errors
from paw_mlx.errors import PawError

# What is measured cold must not lie on disk from the last time.
_ENVIRONMENT = ("/usr/bin/env", "PAW_MLX_PREFIX_BYTES=0")
# Nothing that lies in the current folder is imported.
_MODULE = ("-P", "-m", "paw_mlx.benchmarks.worker")
_AWAKE = ("/usr/bin/caffeinate", "-dims", "-w")  # macOS: as long as that process lives
_CLOSING_S = 10
_NO_MEMORY = ("malloc", "out of memory", "Insufficient Memory")
_SMALLER = "Choose a smaller model, or fewer bits."
_PATH = re.compile(r"(?<![\w/.:-])/[^\s:'\",]+")
_INSIDE = re.compile(r"/(?=[^\s:'\",])")


class Worker:
    """An object in another process. A context manager: leaving it ends the process.

    A PawError there is raised here, as it is; what is no PawError is a bug, and comes with its
    traceback. PawError if the process dies.
    """

    def __init__(self, target: str, **kwargs: Any) -> None:
        """Start a process and make `target` (`module:Class`) there with `kwargs`."""
        self.target = target
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        command = [*_ENVIRONMENT, sys.executable, *_MODULE, target]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._said)
        self._awake = kept_awake(self._process.pid)
        try:
            self._ask(kwargs)
        except BaseException:
            self.close()
            raise

    def call(self, name: str, **args: Any) -> Any:
        """Call a method there; return what it returns."""
        return self._ask({"call": name, "args": args})

    def close(self) -> None:
        """End the process. Closing twice is fine."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._said.close()
        if self._awake:
            self._awake.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        line = b""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line.endswith(b"\n"):
            raise self._death()
        reply = json.loads(line)
        if "error" in reply:
            raise _raised(reply["error"])
        return reply["result"]

    def _death(self) -> PawError:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        full = -code == signal.SIGKILL or _says_no_memory(said)
        if -code == signal.SIGKILL:
            how += ": out of memory?"
        text = f"the process that measured {self.target.rpartition(':')[2]} {how}{said}"
        return PawError(text, hint=_SMALLER if full else None)


def reason(error: Exception) -> str:
    """Why something is not in a report: what happened and the way out, in a line.

    Of another library's traceback its last line; of paths the last part, for they say who
    and where its reader is.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    said = lines[-1:] if isinstance(error, RuntimeError) else lines
    hints = error.hints if isinstance(error, PawError) else []
    text = ". ".join([" ".join(said).rstrip("."), *hints])
    text = _without_folders(text)
    return _PATH.sub(lambda path: path[0].rstrip("/").rpartition("/")[2], text)


def _without_folders(text: str) -> str:
    """A text whose paths begin behind the folders that there are: with spaces in their names,
    the disk alone can tell where they end."""
    for root in reversed([match.start() for match in _PATH.finditer(text)]):
        ends = [match.start() for match in _INSIDE.finditer(text, root + 1)]
        folders = [end for end in ends if os.path.isdir(text[root:end])]  # noqa: PTH112  no raise
        text = text[:root] + text[max(folders, default=root) :]
    return text


def kept_awake(pid: int) -> subprocess.Popen[bytes] | None:
    """What keeps a Mac awake while a process lives."""
    if sys.platform != "darwin":
        return None
    try:
        return subprocess.Popen([*_AWAKE, str(pid)], stdin=subprocess.DEVNULL)
    except OSError:
        return None


def _raised(record: dict[str, Any]) -> Exception:
    """An error of the child's, as it was there."""
    kind = getattr(errors, record["code"], None)
    if not (isinstance(kind, type) and issubclass(kind, PawError)):
        return RuntimeError(f"in the process that measures:\n{record['message']}")
    error = kind.__new__(kind, record["message"])
    PawError.__init__(error, record["message"])
    for hint in record["hints"]:
        error.add_note(hint)
    return error


def _says_no_memory(text: str) -> bool:
    return any(sign in text for sign in _NO_MEMORY)


def _record(error: Exception) -> dict[str, Any]:
    if isinstance(error, PawError):
        code, message, hints = type(error).__name__, str(error), error.hints
    elif isinstance(error, MemoryError) or _says_no_memory(str(error)):
        code, hints = "PawError", [_SMALLER]
        message = f"out of memory: {' '.join(str(error).split())}"
    else:
        code, message, hints = "", traceback.format_exc(), []
    return {"error": {"code": code, "message": message, "hints": hints}}


def _serve(target: str, replies: TextIO) -> None:
    """Make the target and answer calls of it, until standard input ends."""
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    made: Any = None
    while True:
        request = json.loads(requests.get())
        try:
            if made is None:
                module, _, name = target.partition(":")
                made, result = getattr(importlib.import_module(module), name)(**request), None
            else:
                result = getattr(made, request["call"])(**request["args"])
            reply = {"result": result}
        except Exception as error:
            reply = _record(error)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _read(requests: SimpleQueue[bytes]) -> None:
    """Hand over lines; at their end the process ends, whatever it is doing."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def main() -> None:
    """`python -m paw_mlx.benchmarks.worker TARGET`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and closes
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _serve(sys.argv[1], replies)


if __name__ == "__main__":
    main()
