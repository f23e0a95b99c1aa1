"""Files as they lie: found, readable or not, and replaced as a whole.

Atomic writes: a path holds the old content or the new, never half of either.

A file is renamed onto its place. A folder changes places with the old one in one step, where
the system has such a step (Linux and macOS, on their own file systems); elsewhere it takes two
renames, and what a kill between them left aside is put back by the next write. What a killed
write leaves is hidden, `.NAME.paw-xxxxxxxx`, and swept a day later by a write to its folder.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from .errors import DiskError, PawError

_MARK = ".paw-"  # in the name of what is being written, before mkdtemp's eight letters
_LEFT_S = 86_400.0  # what has not changed for so long is nobody's work any more
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
        _sweep(path.parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}{_MARK}", dir=path.parent))
    temporary, old = folder / path.name, folder / _OLD
    try:
        with disk_errors(f"write {path}"):
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
        shutil.rmtree(folder, ignore_errors=True)


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


def _sweep(parent: Path) -> None:
    """Remove what killed writes left in a folder a day ago or longer, once in a process.

    Not what holds `.old`: that is somebody's, and waits to be put back.
    """
    if parent in _swept:
        return
    _swept.add(parent)
    for folder in parent.glob(f".*{_MARK}{'[a-z0-9_]' * 8}"):
        with suppress(OSError):
            times = [folder.stat().st_mtime, *(p.stat().st_mtime for p in folder.rglob("*"))]
            if time.time() - max(times) > _LEFT_S and not (folder / _OLD).exists():
                shutil.rmtree(folder)


def _raise_refusal(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error


def _sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or to the files of a folder."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
