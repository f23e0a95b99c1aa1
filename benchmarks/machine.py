"""What a number was measured on; no number without it.

`card` says what does not change while a process runs, `condition` what does: power, heat, load.
Nothing here fails: what a machine does not tell is None. What the system's tools print is read
by functions of that text alone. MLX is imported when asked about, and may be missing or broken.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from paw_mlx import blas, settings
from paw_mlx.benchmarks.chips import bandwidth

_SYSCTL = (
    *("machdep.cpu.brand_string", "hw.model", "hw.memsize", "hw.physicalcpu"),
    *("kern.osproductversion", "kern.osversion", "iogpu.wired_limit_mb", "sysctl.proc_translated"),
)
_TIMEOUT_S = 2.0
_MEMORY_SHARE = 0.9  # of the memory, where no GPU says how much of it to use
# What a GPU may use, as Metal recommends; else what it has, as CUDA says.
_GPU_BYTES = ("max_recommended_working_set_size", "memory_size", "total_memory")
_HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Hardware:
    """What the system says of itself.

    `wired_limit_mb` is macOS's limit for the GPU, 0 for the system's own choice; `translated`
    whether this process runs under Rosetta.
    """

    chip: str | None = None
    model: str | None = None
    gpu_cores: int | None = None
    cpu_cores: int | None = None
    memory_bytes: int | None = None
    os: str | None = None
    wired_limit_mb: int | None = None
    translated: bool = False


@dataclass(frozen=True)
class Library:
    """MLX as it is installed: `problem` says why it cannot be imported.

    `wheel` is the platform tag; `device` where it computes, which may be a GPU that it does not
    see; `gpu` and `architecture` name the one it sees, and `gpu_bytes` is what that may use.
    """

    version: str | None = None
    wheel: str | None = None
    device: str = "cpu"
    gpu: str | None = None
    architecture: str | None = None
    gpu_bytes: int | None = None
    problem: str | None = None


def card() -> dict[str, Any]:
    """Chip, system, versions and device.

    `matrix_units` is whether MLX reaches the GPU's, None if it has none; `commit` that of the
    checkout this package runs from, `-dirty` if files in it changed.
    """
    hardware, library = system(), mlx()
    told = asdict(hardware)
    loaded = blas.load()
    lacking = matrix_units(library.architecture, hardware.os, library.wheel)
    return {
        **{key: told[key] for key in ("chip", "model", "gpu_cores", "cpu_cores", "memory_bytes")},
        "bandwidth_gb_s": bandwidth_gb_s(),
        "os": hardware.os,
        "python": platform.python_version(),
        "mlx": library.version,
        "mlx_lm": version_of("mlx-lm"),
        "paw_mlx": version_of("paw-mlx"),
        "wheel": library.wheel,
        "device": library.device,
        "gpu": library.gpu,
        "matrix_units": None if lacking is None else not lacking,
        "blas": Path(loaded).name if loaded else None,
        "commit": _commit(),
    }


def bandwidth_gb_s() -> float | list[float] | None:
    """What a GPU's memory can reach, [least, most] where that is not certain.

    None where nothing is known, or MLX computes on the CPU.
    """
    hardware, library = system(), mlx()
    name = library.gpu or hardware.chip if library.device == "gpu" else None
    speed = bandwidth(name, hardware.gpu_cores, hardware.memory_bytes)
    return list(speed) if isinstance(speed, tuple) else speed


def limit_bytes() -> int | None:
    """What a model may take: what the GPU that computes says, else most of the memory."""
    library, physical = mlx(), system().memory_bytes
    if library.device == "gpu" and library.gpu_bytes:
        return library.gpu_bytes
    return int(_MEMORY_SHARE * physical) if physical else None


def condition() -> dict[str, Any]:
    """What changes from run to run: power source and mode, thermal state, load."""
    source = settings_ = thermal = None
    if sys.platform == "darwin":
        source, settings_, thermal = (
            _output("/usr/bin/pmset", "-g", *what) for what in (["batt"], [], ["therm"])
        )
    return {
        "power": power_of(source or ""),
        "power_mode": power_mode_of(settings_ or ""),
        "thermal": thermal_of(thermal or ""),
        "load": os.getloadavg()[0],
    }


def power_of(text: str) -> str | None:
    """`ac` or `battery`, of `pmset -g batt`; a UPS is a battery."""
    match = re.search(r"drawing from '(AC|Battery|UPS) Power'", text)
    return None if match is None else "ac" if match[1] == "AC" else "battery"


def power_mode_of(text: str) -> str | None:
    """`low`, `automatic` or `high`, of `pmset -g`; one key has all three modes, others a switch."""
    found = dict(re.findall(r"^\s*((?:low|high)?powermode)\s+(\d+)", text, re.M))
    if "1" in (found.get("lowpowermode"), found.get("powermode")):
        return "low"
    if found.get("highpowermode") == "1" or found.get("powermode") == "2":
        return "high"
    return "automatic" if found else None


def power_mode(told: Mapping[str, Any]) -> str | None:
    """The power mode in a recorded condition; an older one tells low power alone."""
    return told.get("power_mode") or ("low" if told.get("low_power") else None)


def thermal_of(text: str) -> str | None:
    """The levels and limits that are not as they should be, of `pmset -g therm`.

    `nominal` if it tells some and all are; where it tells none, silence is no measurement.
    """
    levels = re.findall(r"((?:Thermal|Performance) Warning Level)\s*=\s*(\d+)", text)
    limits = re.findall(r"(CPU_(?:Speed|Scheduler)_Limit)\s*=\s*(\d+)", text)
    hot = [f"{name} {value}" for name, value in levels if int(value)]
    hot += [f"{name} {value}" for name, value in limits if int(value) < 100]
    if hot:
        return ", ".join(hot)
    if levels or limits:
        return "nominal"
    silent = "No thermal warning level has been recorded" in text
    return "no warning recorded" if silent else None


@cache
def system() -> Hardware:
    """The machine this process runs on."""
    if sys.platform == "darwin":
        return _mac()
    return linux_of(_text("/proc/cpuinfo"), _text("/proc/meminfo"), _text("/etc/os-release"))


def _mac() -> Hardware:
    told = _output("/usr/sbin/sysctl", *_SYSCTL) or ""
    accelerator = _output("/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d1") or ""
    cores = gpu_cores_of(accelerator)
    if cores is None:  # takes up to a second, so it comes second
        displays = _output("/usr/sbin/system_profiler", "SPDisplaysDataType", "-json")
        cores = displayed_cores_of(displays or "")
    return mac_of(told, cores)


def mac_of(sysctl: str, gpu_cores: int | None) -> Hardware:
    """A Mac, of what `sysctl KEY ...` prints; a key that the system lacks is not there."""
    told = dict(re.findall(r"^([\w.]+): (.*\S)\s*$", sysctl, re.M))
    release, build = told.get("kern.osproductversion"), told.get("kern.osversion")
    return Hardware(
        chip=told.get("machdep.cpu.brand_string"),
        model=told.get("hw.model"),
        gpu_cores=gpu_cores,
        cpu_cores=_number(told.get("hw.physicalcpu")),
        memory_bytes=_number(told.get("hw.memsize")),
        os=f"macOS {release} ({build})" if release and build else "macOS",
        wired_limit_mb=_number(told.get("iogpu.wired_limit_mb")),
        translated=told.get("sysctl.proc_translated") == "1",
    )


def gpu_cores_of(ioreg: str) -> int | None:
    """GPU cores, of `ioreg -rc AGXAccelerator`."""
    match = re.search(r'"gpu-core-count"\s*=\s*(\d+)', ioreg)
    return int(match[1]) if match else None


def displayed_cores_of(displays: str) -> int | None:
    """GPU cores, of `system_profiler SPDisplaysDataType -json`."""
    try:
        cards = json.loads(displays)["SPDisplaysDataType"]
        return next((int(one["sppci_cores"]) for one in cards if "sppci_cores" in one), None)
    except (ValueError, KeyError, TypeError):
        return None


def linux_of(cpuinfo: str, meminfo: str, release: str) -> Hardware:
    """A Linux machine, of /proc/cpuinfo, /proc/meminfo and /etc/os-release."""
    chip = re.search(r"^model name\s*:\s*(.*\S)", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.M)
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.M)
    kernel = f"Linux {platform.release()}"
    return Hardware(
        chip=chip[1] if chip else platform.machine() or None,
        cpu_cores=len(re.findall(r"^processor\s*:", cpuinfo, re.M)) or os.cpu_count(),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
        os=f"{name[1]} ({kernel})" if name else kernel,
    )


@cache
def mlx() -> Library:
    """MLX as this process has it; imports it, after a BLAS."""
    # The GPU's part of a wheel carries its own tag, and is what decides on matrix units.
    wheel = next(filter(None, map(_wheel, ("mlx-metal", "mlx"))), None)
    chosen = settings.device()
    try:
        import mlx.core as mx

        told = mx.device_info(mx.gpu) if mx.device_count(mx.gpu) else {}
        device = chosen or mx.default_device().type.name
    except Exception as error:  # whatever a half-installed library raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Library(version_of("mlx"), wheel, problem=lines[0])
    return Library(
        version=version_of("mlx"),
        wheel=wheel,
        device=device,
        gpu=str(told["device_name"]) if "device_name" in told else None,
        architecture=str(told["architecture"]) if "architecture" in told else None,
        gpu_bytes=_gpu_bytes(told),
    )


def _gpu_bytes(told: dict[str, Any]) -> int | None:
    size = next((told[key] for key in _GPU_BYTES if told.get(key)), None)
    return int(size) if size else None


def matrix_units(architecture: str | None, os: str | None, wheel: str | None) -> list[str] | None:
    """What keeps MLX from a GPU's matrix units: [] if nothing, None if the GPU has none.

    They come with the M5 (generation 17; 18 in phones), and MLX takes them from macOS 26.2 on,
    in the wheel that is made for it.
    """
    gpu = re.fullmatch(r"applegpu_g(\d+)([a-z])", architecture or "")
    if gpu is None or int(gpu[1]) < (18 if gpu[2] == "p" else 17):
        return None
    needs = (
        (os, r"macOS (\d+)(?:\.(\d+))?", (26, 2), "macOS 26.2"),
        (wheel, r"macosx_(\d+)_(\d+)_", (26, 0), "MLX's wheel for macOS 26"),
    )
    return [name for text, form, least, name in needs if _release(text or "", form) < least]


def _release(text: str, form: str) -> tuple[int, int]:
    """A release out of a text, (0, 0) if there is none."""
    match = re.search(form, text)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def platform_tag(wheel: str) -> str | None:
    """The platform of a WHEEL file's first tag: `macosx_26_0_arm64`."""
    match = re.search(r"^Tag: [^-\s]+-[^-\s]+-(\S+)", wheel, re.M)
    return match[1] if match else None


def _wheel(package: str) -> str | None:
    try:
        return platform_tag(distribution(package).read_text("WHEEL") or "")
    except PackageNotFoundError:
        return None


def version_of(package: str) -> str | None:
    """A package's version, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    # Only in a checkout: without Apple's developer tools, macOS answers `git` with a dialog.
    if not any((folder / ".git").exists() for folder in _HERE.parents):
        return None
    git = ("git", "-C", str(_HERE.parent))
    if _output(*git, "ls-files", "--error-unmatch", _HERE.name) is None:
        return None  # an environment inside somebody else's checkout
    named = _output(*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return named.strip() if named else None


def _output(*command: str) -> str | None:
    """What a command prints; None if it is not there, takes too long or prints nothing."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") or None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
