"""Pipes and terminals that another process may have made non-blocking: what comes late is awaited.

O_NONBLOCK belongs to the open file and not to a process, so whoever shares a pipe or a terminal
with us can set it. A read then fails with EAGAIN or gives None, and a write takes a part.
"""

from __future__ import annotations

import os
import select
from typing import BinaryIO

from ..errors import OptionError


def read_some(descriptor: int, num_bytes: int) -> bytes:
    """Read at most so many bytes, as soon as there are some; none at the end."""
    while True:
        try:
            return os.read(descriptor, num_bytes)
        except BlockingIOError:
            select.select([descriptor], [], [])


def read_all(descriptor: int) -> bytes:
    """Read to the end."""
    return b"".join(iter(lambda: read_some(descriptor, 1 << 16), b""))


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write and flush all of it, whether the stream has a buffer or none."""
    rest = memoryview(data)
    while rest:
        try:
            taken = stream.write(rest)  # one without a buffer may take a part, or None
        except BlockingIOError as error:
            taken = getattr(error, "characters_written", 0)
        rest = rest[taken or 0 :]
        if rest and not taken:
            select.select([], [stream], [])
    while True:
        try:
            return stream.flush()
        except BlockingIOError:
            select.select([], [stream], [])


def decode(data: bytes, where: str) -> str:
    """Return text without its last newline; OptionError for what is not UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(
            f"{where} is not UTF-8: byte {data[error.start]:#04x} at {error.start}",
            hint="Convert it, for example with `iconv -t UTF-8`.",
        ) from error
    return text.removesuffix("\n").removesuffix("\r")
