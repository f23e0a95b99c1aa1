"""What tells the bytes of a file from those that it had before, without reading them."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DiskError
from ..files import disk_errors, read_errors


def file_key(path: Path) -> str:
    """Return what changes whenever a file does. DiskError if it is not there."""
    with disk_errors(f"read {path}"):
        return _key(path.stat())


def read_file(path: Path, key: str) -> bytes:
    """Return a file's bytes; DiskError unless they are those that have the key."""
    with disk_errors(f"read {path}"), read_errors(path), path.open("rb") as file:
        data = file.read()
        if _key(os.fstat(file.fileno())) != key:
            raise DiskError(f"{path} was replaced while it was read", hint="Call again.")
    return data


def _key(info: os.stat_result) -> str:
    parts = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    return "-".join(map(str, parts))
