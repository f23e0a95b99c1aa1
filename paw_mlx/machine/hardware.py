"""The machine as its system describes it.

What the system's tools print is read by functions of that text alone, so that a Mac's are
tested anywhere.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache

from . import tools

SYSCTL = (
    "/usr/sbin/sysctl",
    "machdep.cpu.brand_string",
    "hw.model",
    "hw.memsize",
    "hw.physicalcpu",
    "kern.osproductversion",
    "kern.osversion",
    "iogpu.wired_limit_mb",
    "sysctl.proc_translated",
)
IOREG = ("/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d1")
DISPLAYS = ("/usr/sbin/system_profiler", "SPDisplaysDataType", "-json")


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


@cache
def system() -> Hardware:
    """Return the machine this process runs on."""
    if sys.platform != "darwin":
        files = ("/proc/cpuinfo", "/proc/meminfo", "/etc/os-release")
        return linux_of(*map(tools.text, files))
    cores = gpu_cores_of(tools.output(*IOREG) or "")
    if cores is None:  # takes up to a second, so it comes second
        cores = displayed_cores_of(tools.output(*DISPLAYS) or "")
    return mac_of(tools.output(*SYSCTL) or "", cores)


def mac_of(sysctl: str, gpu_cores: int | None) -> Hardware:
    """Return a Mac, of what `sysctl KEY ...` prints; a key that the system lacks is not there."""
    told = dict(re.findall(r"^([\w.]+): (.*\S)\s*$", sysctl, re.M))
    release, build = told.get("kern.osproductversion"), told.get("kern.osversion")

    def number(key: str) -> int | None:
        text = told.get(key, "")
        return int(text) if text.isdecimal() else None

    return Hardware(
        chip=told.get("machdep.cpu.brand_string"),
        model=told.get("hw.model"),
        gpu_cores=gpu_cores,
        cpu_cores=number("hw.physicalcpu"),
        memory_bytes=number("hw.memsize"),
        os=f"macOS {release} ({build})" if release and build else "macOS",
        wired_limit_mb=number("iogpu.wired_limit_mb"),
        translated=told.get("sysctl.proc_translated") == "1",
    )


def gpu_cores_of(ioreg: str) -> int | None:
    """Return the GPU cores, of `ioreg -rc AGXAccelerator`."""
    match = re.search(r'"gpu-core-count"\s*=\s*(\d+)', ioreg)
    return int(match[1]) if match else None


def displayed_cores_of(displays: str) -> int | None:
    """Return the GPU cores, of `system_profiler SPDisplaysDataType -json`."""
    try:
        cards = json.loads(displays)["SPDisplaysDataType"]
        return next((int(one["sppci_cores"]) for one in cards if "sppci_cores" in one), None)
    except (ValueError, KeyError, TypeError):
        return None


def linux_of(cpuinfo: str, meminfo: str, release: str) -> Hardware:
    """Return a Linux machine, of /proc/cpuinfo, /proc/meminfo and /etc/os-release."""
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
