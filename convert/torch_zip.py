"""The archive that `torch.save` writes: a ZIP of stored members under one folder.

    <folder>/data.pkl   <folder>/byteorder   <folder>/data/0   <folder>/data/1   ...

Everything that is declared is compared with the file's size when the archive is opened, so
nothing later allocates more than the file holds. Further members are tolerated and never read.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from paw_mlx.errors import ClosedError, FormatError
from paw_mlx.formats.untrusted import open_file, shown

MAX_MEMBERS = 10_100
_MAX_DIRECTORY_BYTES = 4 << 20  # of the archive's own list of members
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # torch's number, pickled
_FIRST = re.compile(rb"[^/]+/(?:data\.pkl$|constants\.pkl$|data/|code/)")  # members
_END = 22
_END_64 = 56 + 20  # ZIP64's end and its locator stand right before the end
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW = 0x0008
_BROKEN = (
    zipfile.BadZipFile,
    struct.error,
    OSError,
    ValueError,
    NotImplementedError,
    OverflowError,
)


class Member(NamedTuple):
    """Where a member's bytes are; `crc` is 0 where torch was told to compute none."""

    name: str
    start: int
    num_bytes: int
    crc: int


class Archive:
    """The members of an open archive, by their names inside its folder."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self.members = {member.name: member for member in self._list_members()}
        if "data.pkl" not in self.members:
            raise FormatError("the archive has no data.pkl, so torch.save did not write it")
        order = self.read("byteorder", 16) if "byteorder" in self.members else b"little"
        if order != b"little":
            raise FormatError(f"the byte order is {shown(order)}, and only b'little' is read")

    def close(self) -> None:
        self._file.close()

    def read(self, name: str, limit: int) -> bytes:
        """Read a whole member of at most `limit` bytes."""
        member = self.members[name]
        if member.num_bytes > limit:
            raise FormatError(f"{name} has {member.num_bytes} bytes (limit {limit})")
        data = bytearray(member.num_bytes)
        self.read_into(memoryview(data), member, 0)
        return bytes(data)

    def read_into(self, buffer: memoryview, member: Member, start: int) -> None:
        """Fill `buffer` from a member's byte `start`; a whole member has its checksum checked."""
        if self._file.closed:
            raise ClosedError("the archive has been closed")
        try:
            self._file.seek(member.start + start)
            found = self._file.readinto(buffer)  # type: ignore[attr-defined]
        except OSError as error:
            raise FormatError(f"{member.name} cannot be read: {error.strerror}") from error
        if found != len(buffer):
            raise FormatError(f"{member.name} ends after {found} of {len(buffer)} bytes")
        if member.crc and found == member.num_bytes and zlib.crc32(buffer) != member.crc:
            raise FormatError(
                f"{member.name} is damaged: its checksum is {zlib.crc32(buffer):08x}, "
                f"not {member.crc:08x}"
            )

    def _list_members(self) -> list[Member]:
        """List every member, checked against its local header and the file's size."""
        _check_magic(self._file)
        _check_end(self._file, self._size)
        try:
            infos = zipfile.ZipFile(self._file).infolist()
            _check_names([info.orig_filename for info in infos])
            return [self._check_member(info) for info in infos]
        except _BROKEN as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"this is no readable ZIP: {shown(str(error))}") from error

    def _check_member(self, info: zipfile.ZipInfo) -> Member:
        name, flags = info.orig_filename, info.flag_bits
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        magic, local_flags, method, packed, size, name_bytes, extra_bytes = struct.unpack(
            "<4s2x2H8x2I2H", header
        )
        encoded = name.encode("utf-8" if flags & 0x800 else "cp437")
        if magic != b"PK\3\4" or self._file.read(name_bytes) != encoded:
            raise FormatError(f"member {shown(name)} is not where the archive says it is")
        if (flags | local_flags) & _ENCRYPTED:
            raise FormatError(f"member {shown(name)} is encrypted")
        if method or info.compress_type or info.compress_size != info.file_size:
            raise FormatError(
                f"member {shown(name)} is compressed (method {info.compress_type or method}), "
                "and torch.save only stores"
            )
        if not local_flags & _SIZES_FOLLOW and not {packed, size} <= {info.file_size, 0xFFFFFFFF}:
            raise FormatError(f"member {shown(name)} has {info.file_size} bytes, or {size}")
        start = info.header_offset + 30 + name_bytes + extra_bytes
        if start + info.file_size > self._size:
            raise FormatError(
                f"member {shown(name)} ends at byte {start + info.file_size} "
                f"of a file of {self._size}"
            )
        return Member(name.partition("/")[2], start, info.file_size, info.CRC)


def is_torch(path: Path) -> bool:
    """Return whether a regular file begins as torch's do, those refused by name included.

    FormatError or DiskError for one that cannot be read or only stands in for a file.
    """
    if not path.is_file():
        return False
    with open_file(path) as file:
        head = file.read(512)
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    is_zip = head[:4] == b"PK\3\4" and _FIRST.match(first) is not None
    return is_zip or head.startswith(_LEGACY)


def _check_magic(file: BinaryIO) -> None:
    """Raise FormatError for what is no ZIP, by the name of what it is."""
    file.seek(0)
    head = file.read(512)
    if head[:4] == b"PK\3\4":
        return
    hint = "Save it again with torch.save in torch 1.6 or later."
    if head.startswith(_LEGACY):
        raise FormatError("this is torch.save's legacy format, a pickle and no ZIP", hint=hint)
    if head[257:262] == b"ustar":
        raise FormatError("this is a tar archive, as torch wrote before 0.1.10", hint=hint)
    if head[:1] == b"\x80":
        raise FormatError("this is a bare pickle, and no ZIP of torch.save", hint=hint)
    raise FormatError(f"this begins with {shown(head[:4])}, and a ZIP of torch.save with b'PK'")


def _check_end(file: BinaryIO, size: int) -> None:
    """Check the size of the archive's list of members, before it is read."""
    file.seek(max(size - _END - _END_64, 0))
    tail = file.read()
    end, end_64 = tail[-_END:], tail[:-_END]
    if len(end) < _END or end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise FormatError("the archive's end is missing: it was cut short")
    count, num_bytes = struct.unpack("<HI", end[10:16])
    if end_64[-20:-16] == b"PK\6\7":
        count, num_bytes = struct.unpack("<QQ", end_64[32:48].ljust(16, b"\xff"))
    if count > MAX_MEMBERS or num_bytes > _MAX_DIRECTORY_BYTES:
        raise FormatError(
            f"the archive lists {count} members in {num_bytes} bytes "
            f"(limits {MAX_MEMBERS} and {_MAX_DIRECTORY_BYTES})"
        )


def _check_names(names: list[str]) -> None:
    """Raise FormatError unless all members are in one folder, once, and none is code."""
    folder = names[0].partition("/")[0] if names else ""
    seen: set[str] = set()
    for name in names:
        if not name.startswith(f"{folder}/"):
            raise FormatError(
                f"member {shown(name)} is not in the folder {shown(folder)}, "
                "so torch.save did not write this archive"
            )
        if re.match(r"code/|constants\.pkl$", name.removeprefix(f"{folder}/")):
            raise FormatError(
                f"this is a TorchScript archive, with code in it ({shown(name)})",
                hint="Save the weights alone: torch.save(module.state_dict(), path).",
            )
        if name in seen:
            raise FormatError(f"member {shown(name)} is there twice")
        seen.add(name)
