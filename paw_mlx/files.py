"""Atomic writes: a path holds the old content or the new, never half of either."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import HubError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block succeeds.

    What the block leaves there may be a file or a folder. If the block raises, or the
    process is interrupted, the temporary path is removed and `path` stays as it was.
    HubError if the disk refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise HubError(f"cannot write {path}: {error.strerror or error}") from error
    temporary, old = folder / path.name, folder / ".old"
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir() and not path.is_symlink():
            path.rename(old)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, HubError):
            raise
        raise HubError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
