"""Locks between processes, held in files.

Some disks know no locks: SMB's, Lustre's, some of FUSE's. What is locked there is locked in the
machine's temporary folder instead, under the path's name: processes of this machine keep apart
as ever, and those of others that share the disk do not hear of it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from weakref import WeakKeyDictionary

from .files import disk_errors, is_ours_alone

# What a disk without locks answers; ENOLCK is NFS's without its lock service.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_standing_in: WeakKeyDictionary[IO[Any], IO[Any]] = WeakKeyDictionary()  # file -> what is locked


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; DiskError where the disk refuses, for the block too."""
    with disk_errors(f"write in {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            lock(file, path)
            try:
                yield
            finally:
                unlock(file)


def lock(file: IO[Any], path: Path, *, wait: bool = True) -> None:
    """Lock an open file until it is closed; `path` is where it lies.

    BlockingIOError if another process has it and we do not `wait`; OSError of the disk.
    """
    how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        with suppress(FileNotFoundError):  # a system without any folder for temporary files
            other = _open_stand_in(path)
            try:
                fcntl.flock(other, how)
            except OSError as refusal:
                if refusal.errno not in _NO_LOCKS:
                    other.close()
                    raise
            _standing_in[file] = other


def unlock(file: IO[Any]) -> None:
    """Close a locked file, and what is locked in its place; closed ones are left alone."""
    for one in (_standing_in.pop(file, None), file):
        if one and not one.closed:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(one, fcntl.LOCK_UN)  # or a forked child's copy would keep it
            one.close()


def _open_stand_in(path: Path) -> IO[Any]:
    """Open what is locked in the place of a path, in a folder of this user's alone."""
    folder = Path(tempfile.gettempdir(), f"paw-mlx-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not is_ours_alone(folder):
        raise PermissionError(errno.EPERM, f"{folder} is not this user's alone")
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return (folder / f"{name}.lock").open("ab")
