"""Where the daemon's socket lies, and whom it may belong to.

It is `run/daemon.sock` in the data folder, so that each PAW_MLX_HOME has a daemon of its own, or,
where that path is too long for a socket's, a name in this user's folder of the machine's temporary
ones. The folder lets nobody else in.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import sys
from pathlib import Path

from .. import settings
from ..errors import DaemonError
from ..files import disk_errors, exists, is_ours_alone

_MAX_PATH_BYTES = 103  # macOS: sun_path has 104, with the zero; Linux: 108
_TEMPORARY = Path("/tmp")
_LOCAL_PEERCRED = 1  # macOS: of level 0, a struct xucred that begins with version and uid


def folder() -> Path:
    """Return the folder of the socket, there or not."""
    beside = settings.data_dir().absolute() / "run"
    if len(os.fsencode(beside / "daemon.sock")) <= _MAX_PATH_BYTES:
        return beside
    name = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
    return _TEMPORARY / f"paw-mlx-{os.getuid()}" / name


def socket_path() -> Path:
    """Return the path of the socket, there or not."""
    return folder() / "daemon.sock"


def log_path() -> Path:
    """Return the file of the daemon's log, there or not."""
    return folder() / "daemon.log"


def absolute(reference: str) -> str:
    """Return a reference to a base as it is for a process in another folder."""
    return str(Path(reference).absolute()) if exists(Path(reference)) else reference


def make_folder() -> Path:
    """Make the folder of the socket, for this user alone, and return it.

    DaemonError if it is another's, DiskError if the disk refuses.
    """
    path = folder()
    with disk_errors(f"write {path}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.parent == _TEMPORARY:  # where others write, too
            check_owner(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        check_owner(path)
        path.chmod(0o700)
    return path


def check_owner(path: Path) -> None:
    """Raise DaemonError for what another user made, or may write; OSError if it is not there."""
    if not is_ours_alone(path):
        raise DaemonError(
            f"{path} belongs to user {path.lstat().st_uid}, or others may write there: "
            "nobody is trusted",
            hint=f"Remove it, or `chmod 700 {path}` if it is yours.",
        )


def peer_uid(connection: socket.socket) -> int:
    """Return the user of the process at the other end of a Unix socket; OSError if none says."""
    if sys.platform == "darwin":
        return struct.unpack_from("II", connection.getsockopt(0, _LOCAL_PEERCRED, 128))[1]
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
