"""Programs in files: the `.paw` ZIP ("v3"), and the same members unpacked in a folder.

    adapter.gguf   prompt_template.txt   meta.json   pseudo_program.txt (optional)

Exactly these four are written, uncompressed and without a clock, so the same program gives
the same bytes; further members are tolerated and never opened, and the four may lie in one
folder, as Finder's Compress puts them. An archive is untrusted:
names, counts and sizes are checked first, and inflating stops at the limit whatever size
a member claims.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

from ..adapter import Adapter
from ..errors import FormatError, OptionError, PawError, listed
from ..files import is_litter, read_errors, replacing
from ..output import TEXT, Output, read_record
from ..profiles import Profile, find_profile
from ..program import Program, Template
from ..runtimes import with_runtime
from . import gguf, peft
from .mlx_folders import NPZ_HINT
from .sites import commonest
from .untrusted import (
    MAX_TEXT_BYTES,
    json_object,
    map_bytes,
    map_file,
    open_file,
    read_bytes,
    refuse_stand_in,
    shown,
    string,
    text,
)

ADAPTER, TEMPLATE, META, PSEUDO = MEMBERS = (
    "adapter.gguf",
    "prompt_template.txt",
    "meta.json",
    "pseudo_program.txt",
)
MARKERS = (TEMPLATE, META)  # a folder with one of them is a program's
MAX_ARCHIVE_BYTES = 256 << 20
MAX_EXPANDED_BYTES = 512 << 20
MAX_MEMBERS = 256
MIN_ADAPTER_BYTES = 1024
_MAX_DIRECTORY_BYTES = 1 << 20  # of the archive's own list of members
_PROGRAM_ID = re.compile(r"[a-f0-9]{16,64}")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
)


@dataclass
class Members:
    """What a program's container holds; the adapter as a view of its file if it is stored."""

    texts: dict[str, bytes]
    adapter: memoryview | None = None


def read_archive(path: Path, profile: Profile | None = None) -> Program:
    """Read a `.paw` ZIP."""
    return _make_program(_unpack(path), None, profile)


def read_folder(path: Path, profile: Profile | None = None) -> Program:
    """Read a program's folder; its adapter is `adapter.gguf`, or PEFT's files without one."""
    texts = [name for name in MEMBERS if name != ADAPTER and (path / name).exists()]
    members = Members({name: read_bytes(path / name, MAX_TEXT_BYTES) for name in texts})
    if (path / ADAPTER).exists():
        members.adapter = map_bytes(path / ADAPTER, MAX_EXPANDED_BYTES)
    return _make_program(members, path, profile)


def names(path: Path) -> list[str]:
    """Return the names of all that is in a program's ZIP or folder, but for systems' litter."""
    if path.is_dir():
        with read_errors(path):
            found = [entry.name for entry in path.iterdir()]
    else:
        with _zip_errors(path), open_file(path) as file:
            _check_end(file)
            found = zipfile.ZipFile(file).namelist()
    return sorted(shown(name)[1:-1] for name in found if not is_litter(PurePosixPath(name).name))


def write(program: Program, folder: Path, profile: Profile, dtype: str | None) -> None:
    """Write the program's files into a new folder."""
    if program.adapter is None:
        raise OptionError("the program has no adapter, and a container needs one")
    folder.mkdir()
    gguf.write(program.adapter, folder / ADAPTER, profile, dtype)
    if (folder / ADAPTER).stat().st_size < MIN_ADAPTER_BYTES:
        raise OptionError(f"an adapter of less than {MIN_ADAPTER_BYTES} bytes is no program's")
    try:
        meta = json.dumps(
            _record(program, program.adapter), ensure_ascii=False, indent=2, allow_nan=False
        )
        json_object(meta.encode(), META)  # what is too deep to be read is not written
        texts = {TEMPLATE: program.template.text, META: meta + "\n", PSEUDO: program.pseudo_program}
        for name, value in texts.items():
            if value or name != PSEUDO:
                data = value.encode()
                if len(data) > MAX_TEXT_BYTES:
                    raise OptionError(f"{name} has {len(data)} bytes (limit {MAX_TEXT_BYTES})")
                (folder / name).write_bytes(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"the program's texts or meta cannot be written: {error}") from error


def pack(folder: Path, path: Path) -> None:
    """Put a program's folder into a `.paw` ZIP."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in MEMBERS:
            if (folder / name).exists():
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                info.file_size = (folder / name).stat().st_size
                with (folder / name).open("rb") as file, archive.open(info, "w") as member:
                    shutil.copyfileobj(file, member, 1 << 20)
    if path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise OptionError(
            f"the archive would have {path.stat().st_size} bytes (limit {MAX_ARCHIVE_BYTES})",
            hint="Write the adapter as q8_0 or q4_0.",
        )


def replace_meta(path: Path, meta: Mapping[str, Any], to: Path | None = None) -> None:
    """Write a `.paw` ZIP anew with another meta.json, in its place or `to` another.

    Its other members stay byte for byte. Atomic. FormatError if it is no sound ZIP, DiskError if
    the disk refuses.
    """
    members = _unpack(path)
    text = json.dumps(meta, ensure_ascii=False, indent=2) + "\n"
    contents = {**members.texts, META: text.encode(), ADAPTER: members.adapter or b""}
    with replacing(to or path) as temporary:
        folder = temporary.with_name(f"{temporary.name}.d")
        folder.mkdir()
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        pack(folder, temporary)


def _make_program(members: Members, folder: Path | None, profile: Profile | None) -> Program:
    """Make a program of its members; without an adapter, the folder's PEFT files are that."""
    adapter, texts = members.adapter, members.texts
    missing = [name for name in (TEMPLATE, META) if name not in texts]
    if adapter is None and folder is None:
        missing.insert(0, ADAPTER)
    if missing:
        raise FormatError(f"the program has no {listed(missing)}")
    for name, data in {**texts, ADAPTER: adapter or b""}.items():
        refuse_stand_in(bytes(data[:512]), name)
    meta = json_object(texts[META], META)
    program_id = string(meta.get("program_id"), "program_id")
    if program_id and not _PROGRAM_ID.fullmatch(program_id):
        raise FormatError(f"program_id is {shown(program_id)}, not 16 to 64 hex digits")
    interpreter = string(meta.get("interpreter"), "interpreter")
    if not interpreter:
        raise FormatError(f"{META} does not name an interpreter")
    profile = profile or find_profile(interpreter)
    if adapter is None:
        assert folder is not None
        if not (folder / peft.CONFIG).exists():
            raise FormatError(f"{folder} has neither {ADAPTER} nor {peft.CONFIG}")
        found = peft.read(folder, profile)
    elif len(adapter) < MIN_ADAPTER_BYTES:
        raise FormatError(f"{ADAPTER} has {len(adapter)} bytes (at least {MIN_ADAPTER_BYTES})")
    else:
        found = gguf.read(adapter, profile)
    return Program(
        Template.parse(text(texts[TEMPLATE], TEMPLATE)),
        found.adapter,
        interpreter,
        string(meta.get("spec"), "spec"),
        text(texts.get(PSEUDO, b""), PSEUDO),
        meta,
        read_record(meta.get("output")),
    )


def _record(program: Program, adapter: Adapter) -> dict[str, Any]:
    """Return what meta.json holds: what the program carries, and what every reader expects."""
    alpha = commonest(lora.alpha for lora in adapter.sites.values())
    meta = with_runtime(program.meta, program.interpreter)
    known = _PROGRAM_ID.fullmatch(str(meta.get("program_id")))
    if not _says(meta, program.output):
        meta.pop("output", None)
        meta |= {} if program.output == TEXT else {"output": program.output.record()}
    return meta | {
        "version": meta["version"] if meta.get("version") in (3, 4) else 3,
        "program_id": program.id if known else program.digest(),
        "spec": program.spec,
        "interpreter": program.interpreter,
        "lora_rank": adapter.ranks[-1],
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "prefix_steps": meta.get("prefix_steps", 0),
        "created_at": meta.get("created_at"),
    }


def _says(meta: dict[str, Any], output: Output) -> bool:
    """Whether meta.json as it was read says this type, and is kept with all else it says there."""
    try:
        return read_record(meta.get("output")) == output
    except FormatError:
        return False


def _unpack(path: Path) -> Members:
    """Read the members a program needs: texts inflated, a stored adapter as a view."""
    with _zip_errors(path), open_file(path) as file:
        _check_end(file)
        with zipfile.ZipFile(file) as archive:
            _check_members(archive.infolist())
            infos = _find_members(path, archive.infolist())
            adapter = infos.pop(ADAPTER, None)
            members = Members({name: _inflate(archive, i) for name, i in infos.items()})
            if adapter:
                members.adapter = _view(archive, adapter, map_file(file))
            return members


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    """Raise as FormatError what goes wrong while a ZIP is read."""
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, PawError):
            raise
        raise FormatError(f"{path} is not a readable ZIP: {shown(str(error))}") from error


def _find_members(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Find a program's members, at the archive's top or in one folder; FormatError for none."""
    found: dict[PurePosixPath, dict[str, zipfile.ZipInfo]] = {}
    for info in infos:
        member = PurePosixPath(info.filename)
        if member.name in MEMBERS and not any(is_litter(part) for part in member.parts):
            found.setdefault(member.parent, {})[member.name] = info
    programs = {f: there for f, there in found.items() if {*MARKERS} & {*there}}
    top = PurePosixPath(".")
    if len(programs) > 1 and top not in programs:
        raise FormatError(
            f"{path} holds {len(programs)} programs: {listed([shown(str(f)) for f in programs])}",
            hint="Unpack it, and name one of these folders.",
        )
    if top in found or not programs:
        return found.get(top) or _refuse_archive(path, [info.filename for info in infos])
    return next(iter(programs.values()))


def _refuse_archive(path: Path, names: list[str]) -> NoReturn:
    """Raise FormatError for a ZIP with nothing of a program in it."""
    names = [n for n in names if not any(is_litter(part) for part in PurePosixPath(n).parts)]
    ends = {PurePosixPath(name).name for name in names}
    hint = "A program's ZIP holds adapter.gguf, prompt_template.txt and meta.json."
    if peft.CONFIG in ends:
        hint = "It holds an adapter: unpack it, and name the folder."
    elif names and all(name.endswith(".npy") for name in names):
        hint = NPZ_HINT
    raise FormatError(
        f"{path} is a ZIP and no program: it holds "
        + (listed([shown(name) for name in names]) or "nothing"),
        hint=hint,
    )


def _check_end(file: BinaryIO) -> None:
    """Check the archive's size and the size of its list of members, before it is read."""
    size = file.seek(0, 2)
    if size > MAX_ARCHIVE_BYTES:
        raise FormatError(f"the archive has {size} bytes (limit {MAX_ARCHIVE_BYTES})")
    file.seek(max(size - 22 - 0xFFFF - 20, 0))
    tail = file.read()
    plain = tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"
    end = len(tail) - 22 if plain else tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        raise FormatError("the archive's end is missing: it was cut short")
    directory_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    if directory_bytes > _MAX_DIRECTORY_BYTES or tail[max(end - 20, 0) : end][:4] == b"PK\6\7":
        raise FormatError(
            f"the archive lists its members in {directory_bytes} bytes or as ZIP64 "
            f"(limit {_MAX_DIRECTORY_BYTES}, no ZIP64)"
        )


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Raise FormatError for names that leave the folder, what is no file, and bombs."""
    expanded = sum(info.file_size for info in members)
    if len(members) > MAX_MEMBERS or expanded > MAX_EXPANDED_BYTES:
        raise FormatError(
            f"the archive has {len(members)} members of {expanded} bytes "
            f"(limits {MAX_MEMBERS} and {MAX_EXPANDED_BYTES})"
        )
    seen: set[str] = set()
    for info in members:
        name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        parts = PurePosixPath(name).parts
        if not parts or {"..", "/"} & set(parts) or re.search(r"[\\\0]", name) or ":" in parts[0]:
            raise FormatError(f"the archive has the unsafe path {shown(name)}")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise FormatError(f"the archive's member {shown(name)} is no regular file")
        if "/".join(parts) in seen:
            raise FormatError(f"the archive has {shown(name)} twice")
        if info.flag_bits & 1:
            raise FormatError(f"the archive's member {shown(name)} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                f"the archive's member {shown(name)} uses compression {info.compress_type}"
            )
        seen.add("/".join(parts))


def _view(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: memoryview) -> memoryview:
    """View a member in the archive's file, if it is stored; inflate it otherwise."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        return memoryview(_inflate(archive, info))
    archive.open(info).close()  # which compares the header before the data with the list's
    lengths = struct.unpack_from("<HH", file, info.header_offset + 26)  # of its name and extras
    start = info.header_offset + 30 + sum(lengths)
    data = file[start : start + info.file_size]
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
    return data


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read a member; FormatError if it claims more than the limit."""
    limit = MAX_EXPANDED_BYTES if PurePosixPath(info.filename).name == ADAPTER else MAX_TEXT_BYTES
    if info.file_size > limit:
        raise FormatError(f"{info.filename} inflates to more than {limit} bytes")
    with archive.open(info) as member:  # which never gives more than the claimed size
        return member.read(info.file_size + 1)
