"""What the operating system counts against this process, in bytes.

On macOS the physical footprint: what Activity Monitor shows, graphics memory included, which
resident sizes miss. On Linux resident memory (VmRSS, VmHWM), without a GPU's. The peak is the
process's whole life's and never resets: whoever wants a clean one starts a process.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
from pathlib import Path

_RUSAGE_INFO_V4 = 4
# Offsets in struct rusage_info_v4 (296 bytes, <sys/resource.h>).
_FOOTPRINT, _LIFETIME_PEAK = 72, 240
STATUS = Path("/proc/self/status")


def footprint() -> tuple[int | None, int | None]:
    """Return the bytes this process takes now, and took at its peak; (None, None) if unknown."""
    if sys.platform == "darwin":
        return _ask_mac()
    try:
        return from_status(STATUS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None, None


def from_status(text: str) -> tuple[int | None, int | None]:
    """Return the same out of /proc/self/status, which counts in KiB."""
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    return found.get("VmRSS"), found.get("VmHWM")


def _ask_mac() -> tuple[int | None, int | None]:
    buffer = ctypes.create_string_buffer(512)
    try:
        pid_rusage = ctypes.CDLL("/usr/lib/libSystem.B.dylib").proc_pid_rusage
    except (OSError, AttributeError):
        return None, None
    if pid_rusage(ctypes.c_int(os.getpid()), ctypes.c_int(_RUSAGE_INFO_V4), buffer) != 0:
        return None, None
    now, peak = (struct.unpack_from("<Q", buffer, at)[0] for at in (_FOOTPRINT, _LIFETIME_PEAK))
    return now, peak
