"""`paw-mlx doctor`: what this machine has, what it lacks, and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import click

from .. import hub, settings, wheels
from ..hub import Installed, client
from . import Command, json_option
from .checks import OK, PROBLEM, WARNING, Check, Facts, Folder, checks, names

_HUB_S = 3.0
_COLORS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
_CACHED = ("bases", "prefixes", "pseudo-programs", "accuracy")
_NVIDIA = Path("/proc/driver/nvidia/version")


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Check this machine: chip, MLX, memory, network, folders, what is installed.

    Exits with 1 if something keeps programs from running.
    """
    facts = gather()
    found = list(checks(facts))
    sound = all(check.state != PROBLEM for check in found)
    click.echo(json.dumps(_record(facts, found, sound), default=str) if as_json else _text(found))
    if not sound:
        raise click.exceptions.Exit(1)


def gather() -> Facts:
    """Ask the system, MLX, the disk and, meanwhile, the hub."""
    offline = settings.offline()
    installed = [one for one in hub.installed() if _is_whole(one)]
    # Only now: what that imported is not counted against the hub.
    answer = (lambda: None) if offline else _meanwhile_hub()
    from ..benchmarks import machine

    card, hardware, mlx = machine.card(), machine.system(), machine.mlx()
    damages = {name: wheels.damage(name) for name in wheels.WHEELS}
    return Facts(
        system=sys.platform,
        processor=platform.machine(),
        card=card,
        hardware=hardware,
        mlx=mlx,
        lacking_units=machine.matrix_units(mlx.architecture, hardware.os, mlx.wheel),
        nvidia=_NVIDIA.exists(),
        chosen_device=settings.device(),
        chosen_blas=settings.blas_library(),
        offline=offline,
        data=_folder(settings.data_dir(), ("bases", "compilers", "programs")),
        cache=_folder(settings.cache_dir(), _CACHED),
        installed=installed,
        installer=_installer(),
        pins=_pins(),
        damaged={name: damage for name, damage in damages.items() if damage},
        unreachable=answer(),
    )


def _installer() -> str:
    """The command that installs packages for this Python; uv leaves pip out of its environments."""
    if not wheels.has_pip() and shutil.which("uv"):
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    return f"{shlex.quote(sys.executable)} -m pip install"


def _pins() -> dict[str, str]:
    """The versions that this package needs of others; none where it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return pins_of(metadata.requires("paw-mlx") or [], sys.platform)
    return {}


def pins_of(requirements: Sequence[str], system: str) -> dict[str, str]:
    """The versions in a package's requirements, without those of its extras and other systems."""
    found = {}
    for requirement in requirements:
        what, _, marker = requirement.partition(";")
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*(.*)", what.strip())
        if match and "extra" not in marker and ("sys_platform" not in marker or system in marker):
            found[match[1]] = match[2]
    return found


def _is_whole(one: Installed) -> bool:
    """Whether something that lies here is all there: what an interrupt left is not."""
    if one.source != "huggingface":
        return not one.path.name.startswith(".")  # .NAME.partial, until it is whole
    wanted = client.COMPILER if one.kind == "compiler" else client.BASE
    folders = one.path.glob("snapshots/*")
    return any(any(f.glob("*.gguf")) or not wanted.lacking(f) for f in folders)


def _meanwhile_hub() -> Callable[[], str | None]:
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


def _folder(path: Path, parts: tuple[str, ...]) -> Folder:
    there = next(one for one in (path, *path.parents) if os.access(one, os.F_OK))
    sizes = {part: sum(_sizes(path / part)) for part in parts}
    free, file = shutil.disk_usage(there).free, None if there.is_dir() else there
    return Folder(path, sizes, free, os.access(there, os.W_OK), file)


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):  # removed meanwhile
                yield Path(root, file).lstat().st_size


def _record(facts: Facts, found: list[Check], sound: bool) -> dict[str, Any]:
    return {
        "ok": sound,
        "machine": facts.card,
        "limits": {
            "memory_bytes": facts.card["memory_bytes"],
            "gpu_bytes": facts.mlx.gpu_bytes,
            "wired_limit_mb": facts.hardware.wired_limit_mb,
        },
        "folders": {"data": asdict(facts.data), "cache": asdict(facts.cache)},
        "bases": names(facts, "base"),
        "compilers": names(facts, "compiler"),
        "checks": [asdict(check) for check in found],
    }


def _text(found: list[Check]) -> str:
    states, width = (max(len(getattr(c, key)) for c in found) for key in ("state", "name"))
    lines = []
    for check in found:
        state = click.style(check.state.ljust(states), fg=_COLORS[check.state])
        lines.append(f"{state}  {check.name.ljust(width)}  {check.message}")
        if check.hint:
            lines.append(f"{' ' * (states + width + 4)}→ {check.hint}")
    return "\n".join(lines)
