"""Files as they lie: found, readable or not, and replaced as a whole.

Atomic writes: a path holds the old content or the new, never half of either.

A file is renamed onto its place. A folder changes places with the old one in one step, where
the system has such a step (Linux and macOS, on their own file systems); elsewhere it takes two
renames, and what a kill between them left aside is put back by the next write.

What a killed write leaves is hidden, `.NAME.paw-...`, and swept by the next process that writes
to its folder. A living process holds a lock on its own, and the name says on which machine
that lock is to be asked for: what another machine left (on a shared disk, or before this one
started anew), or one whose disk knows no locks, is swept when it has not changed for a day.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from .errors import DiskError, PawError

_MARK = ".paw-"  # in the name of what is being written, before a machine's and mkdtemp's letters
_NUM_LETTERS = 8  # of either
_MAX_NAME_BYTES = 255
_LEFT = re.compile(r"\.(?P<name>.+)\.paw-(?P<machine>[a-z0-9_]{8})?[a-z0-9_]{8}", re.DOTALL)
_LEFT_S = 86_400.0  # of unknown machines: what has not changed for so long is nobody's work
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; of a container, its machine's
_OLD = ".old"
_HERE = -100  # Linux: AT_FDCWD
_SWAP = 2  # Linux: RENAME_EXCHANGE; macOS: RENAME_SWAP
_LITTER = {".DS_Store", ".localized", "__MACOSX", "Thumbs.db", "desktop.ini"}
_swept: set[Path] = set()  # folders, by this process


def find_files(folder: Path, pattern: str, *, below: bool = False) -> list[Path]:
    """Return the files in a folder whose names match, sorted; with `below`, in all its folders.

    Hidden ones are passed over, and so are macOS's `._NAME`. None where there is no such folder;
    DiskError if it may not be read.
    """
    found = []
    with read_errors(folder):
        for root, folders, names in os.walk(folder, onerror=_raise_refusal):
            matching = (n for n in names if fnmatchcase(n, pattern) and not n.startswith("."))
            found += [Path(root, name) for name in matching]
            folders[:] = [n for n in folders if not n.startswith(".")] if below else []
    return sorted(found)


def is_litter(name: str) -> bool:
    """Return whether a file of this name is one that systems leave beside what people keep."""
    return name.startswith("._") or name in _LITTER


def exists(path: Path) -> bool:
    """Return whether something is at a path; DiskError if its folder lets nobody look."""
    with read_errors(path):
        try:
            path.stat()
        except PermissionError:
            raise
        except (OSError, ValueError):  # nothing there, a loop of links, or no name for a file
            return False
    return True


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder and below it, or of a file; links count nothing.

    DiskError if a folder may not be read.
    """
    total = 0
    with read_errors(folder):
        if folder.is_file():
            return folder.stat().st_size
        for root, _, names in os.walk(folder, onerror=_raise_refusal):
            for name in names:
                with suppress(OSError):  # removed meanwhile
                    path = Path(root, name)
                    total += 0 if path.is_symlink() else path.stat().st_size
    return total


def is_ours_alone(path: Path) -> bool:
    """Return whether a path is this user's, and, where it is a folder, nobody else may write there.

    OSError if nothing is there; a link is looked at itself.
    """
    info = path.lstat()
    shared = stat.S_ISDIR(info.st_mode) and info.st_mode & 0o022
    return info.st_uid == os.getuid() and not shared


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Raise that one may not read, in the block, as DiskError: it does not mean damage."""
    try:
        yield
    except PermissionError as error:
        # macOS: EPERM is its privacy settings' word for Desktop, Documents and Downloads.
        private = sys.platform == "darwin" and error.errno == errno.EPERM
        raise DiskError(
            f"cannot read {error.filename or path}: {error.strerror or error}",
            hint="Let this terminal read it: System Settings > Privacy & Security > "
            "Files and Folders."
            if private
            else "It is there: have its owner let you read it, for example with `chmod -R a+rX`.",
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block succeeds.

    What the block leaves there may be a file or a folder. If the block raises, or the
    process is interrupted, the temporary path is removed and `path` stays as it was.
    DiskError if the disk refuses.
    """
    path = Path(path)
    with disk_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        _put_back(path)
        with _folder_of_ours(path) as folder:
            temporary, old = folder / path.name, folder / _OLD
            try:
                yield temporary
                _sync(temporary)
                if path.is_symlink() or not path.is_dir():
                    temporary.replace(path)
                elif not _swap(temporary, path):
                    path.rename(old)
                    temporary.replace(path)
            finally:
                if old.exists() and not path.exists():
                    old.rename(path)


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder for what nobody keeps, among temporary files or in `parent`; it is removed
    after the block.

    What a killed process left is swept by the next that wants one there, or writes there. DiskError
    if the disk refuses.
    """
    parent = parent or Path(tempfile.gettempdir())
    with ExitStack() as stack:
        with disk_errors(f"write in {parent}"):
            parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(_folder_of_ours(parent / "scratch"))
        yield folder


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Raise what the disk refuses in the block as DiskError: `cannot {doing}: {reason}`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, PawError):
            raise
        raise DiskError(f"cannot {doing}: {error.strerror or error}") from error


def _swap(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False if that is not possible here."""
    try:
        libc, paths = ctypes.CDLL(None), [os.fsencode(one), os.fsencode(other)]
        if sys.platform == "darwin":
            return libc.renamex_np(*paths, _SWAP) == 0
        return libc.renameat2(_HERE, paths[0], _HERE, paths[1], _SWAP) == 0
    except (OSError, TypeError, AttributeError):  # no C library, or an old one
        return False


def _put_back(path: Path) -> None:
    """Bring back what a kill between two renames left beside a path that is gone."""
    if not path.exists():
        for old in path.parent.glob(f".{glob.escape(path.name)}{_MARK}*/{_OLD}"):
            old.rename(path)
            shutil.rmtree(old.parent, ignore_errors=True)
            return


@contextmanager
def _folder_of_ours(path: Path) -> Iterator[Path]:
    """Yield a new folder beside a path, hidden; it is removed after the block."""
    _sweep(path.parent)
    folder, lock = _make_folder(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make_folder(path: Path) -> tuple[Path, int | None]:
    """Make a folder beside a path, and lock it as a sign that we live.

    Return it, and what holds the lock: nothing where the disk, or the system, does not let us.
    """
    machine = _machine(path.parent)
    if len(os.fsencode(f".{path.name}{_MARK}")) + 2 * _NUM_LETTERS > _MAX_NAME_BYTES:
        machine = ""
    while True:
        prefix = f".{path.name}{_MARK}{machine}"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        if not machine:
            return folder, None
        try:
            return folder, _hold(folder)
        except (FileNotFoundError, BlockingIOError):
            continue  # somebody swept it before it was locked
        except OSError:  # it cannot be locked here
            machine = ""
            folder.rmdir()


def _hold(folder: Path) -> int:
    """Lock a folder until what is returned is closed.

    BlockingIOError if a living process holds it, FileNotFoundError if it is gone; OSError where
    there are no locks.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(held), folder.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except BaseException:
        os.close(held)
        raise
    return held


def _sweep(parent: Path) -> None:
    """Remove what killed writes have left in a folder, once in a process."""
    if parent in _swept:
        return
    _swept.add(parent)
    machine = _machine(parent)
    for folder in parent.glob(f".*{_MARK}*"):
        if found := _LEFT.fullmatch(folder.name):
            with suppress(OSError):
                ours = bool(machine) and found["machine"] == machine
                _remove_left(folder, folder / found["name"], ours)


def _remove_left(folder: Path, new: Path, ours: bool) -> None:
    """Remove what a write of this user's left, unless its process may live; OSError if it does.

    Not an `.old` whose place nothing took: that is somebody's, and waits to be put back.
    """
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        return
    held = _hold(folder) if ours else None  # until it is gone, or it could be taken for another's
    try:
        waits = (folder / _OLD).exists() and new.exists()
        if not waits and (ours or _is_old(folder)):
            shutil.rmtree(folder)
    finally:
        if held is not None:
            os.close(held)


def _is_old(folder: Path) -> bool:
    times = [folder.stat().st_mtime, *(path.stat().st_mtime for path in folder.rglob("*"))]
    return time.time() - max(times) > _LEFT_S


def _machine(parent: Path) -> str:
    """Return letters for this machine's kernel, since it started, and the disk a folder is on.

    Processes that have the same see each other's locks there. Empty where nobody can tell.
    """
    if not (boot := _boot()):
        return ""
    text = f"{boot} {parent.stat().st_dev}"
    return hashlib.sha256(text.encode()).hexdigest()[:_NUM_LETTERS]


@cache
def _boot() -> str:
    """Return what this machine's kernel calls the time since it started, or nothing."""
    try:
        if sys.platform != "darwin":
            return _BOOT_ID.read_text()
        size = ctypes.c_size_t(64)
        text = ctypes.create_string_buffer(size.value)
        libc, name = ctypes.CDLL(None), b"kern.bootsessionuuid"
        failed = libc.sysctlbyname(name, text, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (OSError, ValueError, AttributeError):
        return ""
    return "" if failed else text.value.decode("ascii", "replace")


def _raise_refusal(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error


def _sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or to the files of a folder."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
