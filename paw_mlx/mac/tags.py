"""Finder's tags of a file: an extended attribute that holds a binary property list.

Each tag is a text, its name, and where it has a color a line feed and the color's number. Other
tags than a program's labels stay as they are.
"""

from __future__ import annotations

import plistlib
import subprocess
from collections.abc import Collection
from pathlib import Path
from xml.parsers.expat import ExpatError

from ..errors import DiskError

ATTRIBUTE = "com.apple.metadata:_kMDItemUserTags"
_XATTR = "/usr/bin/xattr"


def tagged(before: bytes, label: str, labels: Collection[str]) -> bytes:
    """Return the attribute with the tag `label`, and without those of `labels` besides it."""
    try:
        found = plistlib.loads(before) if before else []
    except (plistlib.InvalidFileException, ExpatError, ValueError):  # no tags that Finder shows
        found = []
    tags = [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []
    names = [tag.partition("\n")[0] for tag in tags]
    kept = [t for t, name in zip(tags, names, strict=True) if name == label or name not in labels]
    return plistlib.dumps(kept if label in names else [*kept, label], fmt=plistlib.FMT_BINARY)


def tag(path: Path, label: str, labels: Collection[str], xattr: str = _XATTR) -> None:
    """Tag a file with a label, in place of others of `labels`; DiskError where that cannot be."""
    path = path.absolute()
    before = _run(xattr, "-px", ATTRIBUTE, str(path))
    held = bytes.fromhex(before.stdout) if before.returncode == 0 else b""
    done = _run(xattr, "-wx", ATTRIBUTE, tagged(held, label, labels).hex(), str(path))
    if done.returncode:
        raise DiskError(f"cannot tag {path}: {' '.join(done.stderr.split())}")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise DiskError(
            f"cannot run {words[0]}: {error.strerror}", hint="Only macOS has it, and Finder's tags."
        ) from error
