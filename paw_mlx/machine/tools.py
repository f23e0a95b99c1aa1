"""What the system's own tools and files say, or nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path


def output(*command: str, timeout_s: float = 2.0) -> str | None:
    """Return what a command prints; None if it is not there, takes too long or prints nothing."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") or None


def text(path: str) -> str:
    """Return what a file holds; nothing if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
