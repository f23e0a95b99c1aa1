"""What `paw-mlx doctor` judges: all that is asked of the system, MLX, the disk and the hub."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .. import hub, settings, wheels
from ..errors import DiskError
from ..files import find_files
from ..hub import Installed, client
from ..hub.repo import BASE, COMPILER
from . import Hardware, Library, card, matrix_units, mlx, system
from .versions import pins_of, version_of

_HUB_S = 3.0
_KEPT = ("bases", "compilers", "programs")
_CACHED = ("bases", "prefixes", "pseudo-programs", "accuracy")
_NVIDIA = Path("/proc/driver/nvidia/version")
# MLX's extras on Linux, and the packages they bring: each has the same libmlx.so.
BACKENDS = {"cpu": "mlx-cpu", "cuda12": "mlx-cuda-12", "cuda13": "mlx-cuda-13"}


@dataclass(frozen=True)
class Folder:
    """A folder of ours; `parts` are the bytes in the folders it holds.

    `file` is what stands where the folder, or one above it, should be.
    """

    path: Path
    parts: dict[str, int]
    free_bytes: int
    writable: bool
    file: Path | None = None


@dataclass(frozen=True)
class Facts:
    """All that the checks judge."""

    system: str  # as sys.platform has it
    processor: str  # that Python is built for
    card: dict[str, Any]
    hardware: Hardware
    mlx: Library
    lacking_units: list[str] | None  # as matrix_units has it
    nvidia: bool
    chosen_device: str | None
    chosen_blas: str | None
    offline: bool
    unreachable: str | None
    data: Folder
    cache: Folder
    installed: list[Installed]
    installer: str  # the command that installs packages for this Python
    uninstaller: str
    backends: list[str]  # the packages here that hold MLX's library on Linux
    pins: dict[str, str]  # the versions this package needs: {"mlx": "<0.33,>=0.32"}
    damaged: dict[str, str]

    def names(self, kind: str) -> list[str]:
        """Return the names of what is installed; a quantized form is nothing without its base."""
        of_kind = (one for one in self.installed if one.kind == kind and one.source != "quantized")
        return list(dict.fromkeys(one.name for one in of_kind))


def gather() -> Facts:
    """Ask the system, MLX, the disk and, meanwhile, the hub.

    OptionError for a setting that is wrong.
    """
    offline = settings.offline()
    installed = [one for one in hub.installed() if is_whole(one)]
    # Only now: what that imported is not counted against the hub.
    answer = None if offline else _ask_hub()
    told, hardware, library = card(), system(), mlx()
    damages = {name: wheels.damage(name) for name in wheels.WHEELS}
    return Facts(
        system=sys.platform,
        processor=platform.machine(),
        card=told,
        hardware=hardware,
        mlx=library,
        lacking_units=matrix_units(library.architecture, hardware.os, library.wheel),
        nvidia=_NVIDIA.exists(),
        chosen_device=settings.device(),
        chosen_blas=settings.blas_library(),
        offline=offline,
        data=_look_into(settings.data_dir(), _KEPT),
        cache=_look_into(settings.cache_dir(), _CACHED),
        installed=installed,
        installer=installer(),
        uninstaller=uninstaller(),
        backends=[package for package in BACKENDS.values() if version_of(package)],
        pins=pins_of("paw-mlx", sys.platform),
        damaged={name: damage for name, damage in damages.items() if damage},
        unreachable=answer() if answer else None,
    )


def is_whole(one: Installed) -> bool:
    """Return whether something that lies here is all there: what an interrupt left is not."""
    if one.source != "huggingface":
        return not one.path.name.startswith(".")  # .NAME.partial, until it is whole
    wanted = COMPILER if one.kind == "compiler" else BASE
    try:
        folders = list(one.path.glob("snapshots/*"))
        return any(find_files(f, "*.gguf") or not wanted.lacking(f) for f in folders)
    except DiskError:  # there, and not to be read by us
        return False


def installer() -> str:
    """Return the command that installs packages for this Python."""
    return _pip("install")


def uninstaller() -> str:
    """Return the command that removes packages, without asking."""
    command = _pip("uninstall")
    return command if command.startswith("uv ") else f"{command} --yes"  # uv never asks


def _pip(verb: str) -> str:
    """Return pip's command, or uv's, which leaves pip out of its environments."""
    if not wheels.has_pip() and shutil.which("uv"):
        return f"uv pip {verb} --python {shlex.quote(sys.executable)}"
    return f"{shlex.quote(sys.executable)} -m pip {verb}"


def _ask_hub() -> Callable[[], str | None]:
    """Ask the hub in the background; what comes back waits for the answer, but not for long.

    A name server that is silent takes no timeout, so a thread is left behind in the end.
    """
    answers: SimpleQueue[str | None] = SimpleQueue()
    end = time.monotonic() + _HUB_S
    ask = threading.Thread(target=lambda: answers.put(client.unreachable(_HUB_S)), daemon=True)
    ask.start()

    def wait() -> str | None:
        try:
            return answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            return f"the hub did not answer in {_HUB_S:g} s"

    return wait


def _look_into(path: Path, parts: tuple[str, ...]) -> Folder:
    """Return a folder, or where it is to be: the first one above it that is there tells."""
    there = next(one for one in (path, *path.parents) if os.access(one, os.F_OK))
    return Folder(
        path=path,
        parts={part: _bytes_in(path / part) for part in parts},
        free_bytes=shutil.disk_usage(there).free,
        writable=os.access(there, os.W_OK),
        file=None if there.is_dir() else there,
    )


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):  # removed meanwhile
                total += Path(root, file).lstat().st_size
    return total
