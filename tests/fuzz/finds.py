"""What was found: an input that ended in what none may, made small, with where it ended."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .guard import Escape

_SHRINK_S = 10.0


def signature(error: BaseException) -> str:
    """Return what makes two finds the same: the error's class, and where in our code it was.

    Of a sentence that is none, it is where that was raised.
    """
    if isinstance(error, AssertionError) and error.__context__:
        return f"{str(error).partition(':')[0]}, {signature(error.__context__)}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/paw_mlx/" in f.filename or "/convert/" in f.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    if isinstance(error, Escape):
        where = f"{where} {str(error)[:40]}"
    return f"{type(error).__name__} at {where}"


def save(folder: Path, target: str, name: str, data: bytes, trace: str) -> Path | None:
    """Write a find and its trace, once; return where, or None if it is known."""
    folder = folder / "finds"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:10]
    place = folder / f"{target}-{digest}.bin"
    if place.exists():
        return None
    place.write_bytes(data)
    place.with_suffix(".txt").write_text(f"{name}\n\n{trace}", "utf-8", "backslashreplace")
    return place


def shrink(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return a shorter input that fails alike: parts are left out as long as it does."""
    end, size = time.monotonic() + _SHRINK_S, len(data) // 2
    while size:
        at = 0
        while at < len(data) and time.monotonic() < end:
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
