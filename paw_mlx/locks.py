"""Locks between processes, held in files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import disk_errors


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; DiskError where the disk refuses, for the block too."""
    from filelock import FileLock

    with disk_errors(f"write in {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
