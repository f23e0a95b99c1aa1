"""Files and folders that one may not read, for root too: it becomes nobody meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a new folder that everybody may enter, which pytest's is not; it is removed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def refused(*paths: Path) -> Iterator[None]:
    """Let nobody read these in the block."""
    modes = [path.stat().st_mode for path in paths]
    is_root = os.geteuid() == 0
    for path in paths:
        path.chmod(0)
    if is_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in reversed(list(zip(paths, modes, strict=True))):
            path.chmod(mode)
