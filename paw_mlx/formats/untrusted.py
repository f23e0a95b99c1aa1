"""Bytes nobody vouches for: bounded reads, and JSON, text and numbers that are checked.

Whatever is wrong comes out as one FormatError. Strings from a file enter messages through
`shown`, which shortens them and escapes what a terminal would obey.

`open_file` is the door of all that is read here. It knows what stands in for a file that did not
arrive, a pointer of Git LFS or a web page, and tells what may not be read from what is damaged.

Weights stay in their file, and a view of it outlives the file's renaming or removal. One that
is overwritten in place changes under its readers, and cut short it ends their process: this
package replaces a file only by renaming another onto it (`files.replacing`).
"""

from __future__ import annotations

import json
import mmap
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from weakref import WeakSet

from ..errors import FormatError, NotFound, PawError
from ..files import read_errors

MAX_TEXT_BYTES = 16 << 20
_MAX_DEPTH = 64
_HEAD_BYTES = 512
# What the Hugging Face hub says instead of sending a file, and people save under the file's name.
_REFUSALS = (b"Entry not found", b"Repository not found", b"Invalid username or password")
_FLOAT32_MAX = 3.4028234663852886e38
# Before Python 3.13 every map holds a descriptor, of which macOS gives a process 256.
_MAX_MAPS = 96
_maps: WeakSet[mmap.mmap] = WeakSet()


def shown(value: object, limit: int = 80) -> str:
    """Return the `repr` of an untrusted value, at most about `limit` characters."""
    text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file's bytes; FormatError if it is longer than `limit` or none."""
    with _open_regular(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(f"{path} grew past {limit} bytes while it was read")
    return data


def map_bytes(path: Path, limit: int) -> memoryview:
    """View a regular file's bytes; FormatError if it is longer than `limit` or none."""
    with _open_regular(path, limit) as file:
        return map_file(file)


def map_file(file: BinaryIO) -> memoryview:
    """View an open file's bytes; copy them where it cannot be mapped."""
    free = sys.version_info >= (3, 13)
    options: dict[str, Any] = {"trackfd": False} if free else {}
    try:
        if not free and len(_maps) >= _MAX_MAPS:
            raise OSError
        made = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **options)
    except (OSError, ValueError):  # a file system without maps; an empty file
        file.seek(0)
        return memoryview(file.read())
    _maps.add(made)
    return memoryview(made)


def open_file(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file, of at most `limit` bytes.

    NotFound, DiskError if it may not be read, FormatError for what is no such file or only
    stands in for one.
    """
    with reading(path):
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise FormatError(f"{path} is not a regular file")
        if limit is not None and info.st_size > limit:
            raise FormatError(f"{path} has {info.st_size} bytes (limit {limit})")
        file = path.open("rb")
        try:
            refuse_stand_in(file.read(_HEAD_BYTES), path)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


def check_arrived(path: Path) -> None:
    """Raise what `open_file` does, for a file that others will read."""
    open_file(path).close()


def refuse_stand_in(head: bytes, name: object) -> None:
    """Raise FormatError if what begins so only stands where a file should be: it never came."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        size = re.search(rb"\nsize (\d{1,20})", head)
        rest = f" of {int(size[1]):,} bytes" if size else ""
        raise FormatError(
            f"{name} is a Git LFS pointer: the file itself{rest} was not fetched",
            hint="Fetch it with `git lfs install && git lfs pull` where you cloned it, or download "
            "it from its hub.",
        )
    if head.startswith((b"/annex/objects/", b".git/annex/objects/")):
        raise FormatError(
            f"{name} is a git-annex pointer: the file itself was not fetched",
            hint="Fetch it with `git annex get`.",
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_page = start[:15].lower().startswith((b"<!doctype html", b"<html"))
    if is_page and not str(name).endswith((".txt", ".jinja")):  # which may be about HTML
        raise FormatError(
            f"{name} is a web page (HTML), saved in place of the file",
            hint="Download the file itself: on the Hugging Face hub from /resolve/, not /blob/, "
            "and logged in where it asks for that.",
        )
    if start.startswith(_REFUSALS):
        raise FormatError(
            f"{name} holds a hub's answer and no file: {shown(start.splitlines()[0].decode())}",
            hint="Check the address that it was downloaded from.",
        )


@contextmanager
def _open_regular(path: Path, limit: int) -> Iterator[BinaryIO]:
    """Open a file as `open_file` does; errors while it is read are one FormatError."""
    with reading(path), open_file(path, limit) as file:
        yield file


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise what goes wrong while a file is opened or read as ours, as `open_file` does."""
    try:
        with read_errors(path):
            yield
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, PawError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot read {path}: {reason}") from error


def text(data: bytes, name: str) -> str:
    """Decode UTF-8; FormatError for what is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{name} is not UTF-8: byte {error.start} cannot be read") from error


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """Read a JSON object: no NaN or infinity, no lone surrogates, no more than 64 levels."""
    refuse_stand_in(data[:_HEAD_BYTES], name)
    try:
        value = json.loads(text(data, name), parse_constant=_no_constant)
        _check_depth(value)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # 1e999 is infinite
    except RecursionError as error:
        raise FormatError(f"{name} is nested deeper than {_MAX_DEPTH} levels") from error
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{name} is not valid JSON: {shown(str(error))}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{name} holds {type(value).__name__}, not a JSON object")
    return value


def number(value: object, what: str) -> float:
    """Return a finite float32 as a float; FormatError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{what} is {shown(value)}, not a number")
    if not abs(value) <= _FLOAT32_MAX:  # as it is for NaN
        raise FormatError(f"{what} is {shown(value)}, not a finite float32")
    return float(value)


def string(value: object, what: str) -> str:
    """Return a string, or "" for an absent one; FormatError for anything else."""
    if not isinstance(value, str | None):
        raise FormatError(f"{what} is {shown(value)}, not a string")
    return value or ""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(value: object) -> None:
    """Raise RecursionError for what is nested deeper than the limit."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise RecursionError
