"""What the hub sent, held against the hash that the hub calls it by.

huggingface_hub compares sizes alone. Its cache keeps a file under its ETag: the SHA-256 of a large
file, git's SHA-1 of a small one (some mirrors: the SHA-1 of the bytes alone). An ETag of another
kind says nothing of the bytes, and nothing is compared. This finds what was damaged or replaced
between the hub and the disk; whom to trust on the hub it cannot say.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import HubError

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def check(files: Iterable[Path], ask: Callable[[Path], str | None], what: object) -> None:
    """Remove from the hub's cache each file that has not its hash; HubError if there was one.

    `ask` gives the ETag of a file.
    """
    if damaged := remove_damaged(files, ask):
        first, *others = damaged
        more = f" (and {len(others)} more)" if others else ""
        raise HubError(
            f"{what} did not come as the hub has it: {first}{more}",
            hint="It was damaged or replaced on its way, and is removed. Fetch it again.",
        )


def remove_damaged(files: Iterable[Path], ask: Callable[[Path], str | None]) -> list[str]:
    """Remove from the hub's cache each file that has not its hash; say of each which it has."""
    damaged: dict[Path, str] = {}
    for file in files:
        expected = ask(file) or ""
        if _HASH.fullmatch(expected) and (found := _hash_like(file, expected)) != expected:
            damaged[file] = f"{file.name} has the hash {found[:12]}…, not {expected[:12]}…"
    for file in damaged:  # of which two may be one blob
        _remove(file)
    return [*damaged.values()]


def _hash_like(path: Path, expected: str) -> str:
    """Return a file's hash, of the kind that is expected, when the disk has all of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # or a power cut could take what was checked, and not that it was
        if len(expected) == 2 * hashlib.sha256().digest_size:
            return hashlib.file_digest(file, "sha256").hexdigest()
        plain = hashlib.file_digest(file, lambda: _sha1(b"")).hexdigest()
        if plain == expected:
            return plain
        file.seek(0)
        header = b"blob %d\0" % path.stat().st_size
        return hashlib.file_digest(file, lambda: _sha1(header)).hexdigest()


def _sha1(start: bytes) -> hashlib._Hash:
    return hashlib.sha1(start, usedforsecurity=False)


def _remove(file: Path) -> None:
    """Remove a file from the cache, and what it is a link to."""
    while file.is_symlink():
        target = file.parent / file.readlink()
        file.unlink()
        file = target
    file.unlink(missing_ok=True)
