"""What no input may do: take long, take memory, import, run or open anything outside.

`Guard` is put around the call of a target. What Python reports (`sys.addaudithook`) is refused on
the spot by an `Escape`; time is a timer's, and a thread of faulthandler's ends a process that no
longer hears signals; memory is the system's limit (Linux; elsewhere it is watched alone).
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from paw_mlx.machine.memory import footprint

HANG_S = 5.0
MEMORY_BYTES = 512 << 20
_DEAF_S = 20.0  # after which a process that hears no signal is ended
_ROOT = Path(__file__).parents[2]
# Code, and what the system and libraries ask of it: not an input's to choose.
_READABLE = tuple(
    {
        *map(os.path.realpath, (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"))),
        *map(os.path.realpath, sysconfig.get_paths().values()),
        str(_ROOT / "paw_mlx"),
        str(_ROOT / "convert"),
        "/proc/",
        "/sys/",
        "/dev/null",
        "/dev/urandom",
    }
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# An audit event -> which of its arguments are paths that must lie in the sandbox.
_CHANGES = {
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.link": (0, 1),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.utime": (0,),
    "shutil.copyfile": (1,),
    "shutil.move": (1,),
    "shutil.rmtree": (0,),
    "sqlite3.connect": (0,),
    "tempfile.mkdtemp": (0,),
    "tempfile.mkstemp": (0,),
}
_FORBIDDEN = (
    "ctypes.",
    "ftplib.",
    "http.client.",
    "marshal.",
    "nntplib.",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.posix_spawn",
    "os.putenv",
    "os.setxattr",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pickle.",
    "poplib.",
    "pty.",
    "shelve.",
    "smtplib.",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostby",
    "socket.sendto",
    "sqlite3.enable_load_extension",
    "sqlite3.load_extension",
    "subprocess.",
    "urllib.",
    "webbrowser.",
)
_EVENTS: dict[str, bool] = {}  # whether an event is a forbidden one, once it was met


class Escape(BaseException):
    """An input did what none may; nothing on the way may catch it."""


class Hang(BaseException):
    """An input took longer than it may."""


class Guard:
    """Watches the calls of one process, each for `hang_s`.

    `sandbox` is where files may be written, and read.
    """

    def __init__(self, sandbox: Path, hang_s: float = HANG_S) -> None:
        self._sandbox = os.path.realpath(sandbox)
        self._active, self._hang_s = False, hang_s
        self._escape: str | None = None
        self._armed = 0.0
        self._packages = {name.partition(".")[0] for name in sys.modules} | {
            *sys.stdlib_module_names
        }
        sys.addaudithook(self._hear)
        signal.signal(signal.SIGALRM, self._ring)

    def limit_memory(self) -> None:
        """Let the process have so much more than it has now."""
        gc.collect()
        self.base_bytes = peak_bytes()
        if (now := _data_bytes()) is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (now + MEMORY_BYTES,) * 2)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the block; Escape or Hang for what it does."""
        self._escape = None
        if time.monotonic() - self._armed > 1:
            self._armed = time.monotonic()
            faulthandler.dump_traceback_later(_DEAF_S, exit=True)
        signal.setitimer(signal.ITIMER_REAL, self._hang_s)
        self._active = True
        try:
            yield
        finally:
            self._active = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            if self._escape:
                raise Escape(self._escape)

    def _ring(self, *_: object) -> NoReturn:
        raise Hang(f"no end after {self._hang_s:g} s")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open":
            self._check_open(*arguments)
        elif event in ("import", "exec", "compile"):
            self._check_code(event, arguments)
        elif event in _CHANGES:
            for place in _CHANGES[event]:
                if not self._is_inside(arguments[place]) and not _is_by_folder(arguments):
                    self._refuse(f"{event} of {arguments[place]!r}")
        elif _is_forbidden(event) and not _imports():
            if event == "ctypes.dlopen" and arguments[0] is None:
                return  # the C library, for a rename that swaps
            if event.startswith(("ctypes.dlsym", "ctypes.call", "ctypes.set", "ctypes.get")):
                return
            self._refuse(f"{event} with {arguments!r:.200}")

    def _check_open(self, path: Any, mode: str | None, flags: int) -> None:
        if isinstance(path, int) or self._is_inside(path):
            return
        if not flags & _WRITES and os.path.realpath(os.fsdecode(path)).startswith(_READABLE):
            return
        self._refuse(f"open of {path!r} ({mode}, {flags:#o})")

    def _check_code(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse modules of packages that nobody here has, and code that no module is."""
        if event == "import":
            if arguments[0].partition(".")[0] not in self._packages:
                self._refuse(f"import of {arguments[0]!r}")
        elif not _imports():
            self._refuse(f"{event} of {arguments[0]!r:.200}")

    def _is_inside(self, path: Any) -> bool:
        name = os.fsdecode(path)
        if name.startswith("file:"):  # as SQLite is given it
            name = unquote(name.removeprefix("file:").partition("?")[0])
        real = os.path.realpath(name)
        return real == self._sandbox or real.startswith(f"{self._sandbox}{os.sep}")

    def _refuse(self, what: str) -> NoReturn:
        self._escape = what
        raise Escape(what)


def peak_bytes() -> int:
    """Return the most memory that the process has had; on Linux, rusage would tell its parent's."""
    peak = footprint()[1]
    assert peak is not None
    return peak


def _data_bytes() -> int | None:
    """Return what the process holds that counts against RLIMIT_DATA; None where none tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return 1024 * int(status.read_text().split("VmData:")[1].split()[0])


def _is_forbidden(event: str) -> bool:
    found = _EVENTS.get(event)
    if found is None:
        found = _EVENTS[event] = event.startswith(_FORBIDDEN)
    return found


def _is_by_folder(arguments: tuple[Any, ...]) -> bool:
    """Return whether a name is in an open folder (`dir_fd`), whose opening was checked."""
    name, folder = arguments[0], arguments[-1]
    return type(folder) is int and folder >= 0 and not Path(os.fsdecode(name)).is_absolute()


def _imports() -> bool:
    """Return whether a module of ours is being imported just now, which runs its code."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
