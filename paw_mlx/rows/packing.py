"""Files that are packed: read as they are unpacked, and written when all is there."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import FormatError, NotFound, OptionError
from ..files import replacing
from .magic import HEAD_BYTES, packing_in
from .suffixes import packing_of
from .target import Target, path_of

_READ_BYTES = 1 << 16  # at once: what is sound in a longer piece may be lost with its damaged end
_GZIP_LEVEL = 6
_UNPACKERS = {"gzip": "gunzip -c", "zstd": "unzstd -c --long=31"}


class Unpacked:
    """What a packed file holds. OptionError without what unpacks it."""

    def __init__(self, file: BinaryIO, packing: str, name: str) -> None:
        self._file, self._packing, self._name = file, packing, name
        self.num_bytes = 0  # that were given
        self._read: Callable[[int], bytes]
        if packing == "gzip":
            self._read = gzip.GzipFile(fileobj=file, mode="rb").read1
        else:
            arrow = import_arrow(name)
            self._read = arrow.CompressedInputStream(arrow.PythonFile(file, mode="r"), packing).read

    @property
    def num_packed(self) -> int:
        """How many bytes of the file were read."""
        return self._file.tell()

    def read(self, num_bytes: int) -> bytes:
        """Read at most so many bytes; none at the end.

        FormatError for what is damaged or ends too soon; what the disk refuses stays an OSError.
        """
        try:
            data = self._read(min(num_bytes, _READ_BYTES))
        except (OSError, EOFError, zlib.error) as error:  # pyarrow's are OSErrors without a number
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FormatError(
                f"{self._name} is no sound {self._packing} file after {self.num_bytes:,} bytes "
                f"of what it holds: {error}",
                hint="Get it anew, or take what is sound of it: "
                f"`{_UNPACKERS[self._packing]} FILE | paw-mlx …`.",
            ) from error
        self.num_bytes += len(data)
        return data


def find_packing(descriptor: int, offset: int, name: str, path: Path | None) -> str | None:
    """Return how a file is packed, by what it holds from `offset` on; None for not at all.

    FormatError for one that is packed by its name alone, NotFound if it cannot be read.
    """
    try:
        head = os.pread(descriptor, HEAD_BYTES, offset)
    except OSError as error:
        raise NotFound(f"cannot read {name}: {error.strerror}") from error
    found, named = packing_in(head), packing_of(path)
    if head and named and not found:
        raise FormatError(
            f"{name} is no {named} file, though it is named so",
            hint="If it is not packed, rename it.",
        )
    return found


def check_packing(output: Path) -> None:
    """Raise OptionError without what packs a file as its suffix says."""
    if packing_of(output) == "zstd":
        import_arrow(str(output))


@contextmanager
def replacing_packed(output: Path) -> Iterator[BinaryIO]:
    """Yield what takes the bytes of a file, and packs them if its suffix says so.

    The same bytes are packed alike. It is there as a whole or not at all; DiskError if the disk
    refuses.
    """
    packing = packing_of(output)
    with replacing(path_of(output)) as temporary:
        if packing == "gzip":
            with gzip.GzipFile(temporary, "wb", _GZIP_LEVEL, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        elif packing == "zstd":
            arrow = import_arrow(str(output))
            with arrow.CompressedOutputStream(str(temporary), packing) as packed:
                yield packed
        else:
            with temporary.open("wb") as file:
                yield file


def pack(plain: Path, output: Target) -> None:
    """Write a file anew as `output`, packed as its suffix says; there as a whole or not at all."""
    assert isinstance(output, Path)  # no table is packed
    with replacing_packed(output) as packed, plain.open("rb") as source:
        shutil.copyfileobj(source, packed)


def import_arrow(name: str) -> Any:
    """Return pyarrow, which a file needs; OptionError where it is not installed."""
    try:
        import pyarrow
    except ImportError as error:
        raise OptionError(
            f"{name} needs pyarrow, which is not installed",
            hint="`pip install 'paw-mlx[tables]'` brings it.",
        ) from error
    return pyarrow
