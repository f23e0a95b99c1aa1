"""Atomic writes: a path holds the old content or the new, never half of either.

A file is renamed onto its place. A folder changes places with the old one in one step, where
the system has such a step (Linux and macOS, on their own file systems); elsewhere it takes two
renames, and what a kill between them left aside is put back by the next write.
"""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskError, PawError

_OLD = ".old"
_HERE = -100  # Linux: AT_FDCWD
_SWAP = 2  # Linux: RENAME_EXCHANGE; macOS: RENAME_SWAP


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
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
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
        for old in path.parent.glob(f".{glob.escape(path.name)}.*/{_OLD}"):
            old.rename(path)
            shutil.rmtree(old.parent, ignore_errors=True)
            return


def _sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or to the files of a folder."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
