"""What `paw-mlx doctor` finds: every check is a function of `Facts` alone.

So a Mac's are tested anywhere. A check says what is there, in a sentence, and where something
lacks, the command that mends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import listed
from ..words import megabytes
from .facts import BACKENDS, Facts, Folder
from .versions import fits

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_LOW_BYTES = 2_000_000_000  # what a base of 0.6B takes while it is fetched and quantized
_LEAST_MACOS = 14  # of MLX's wheels
_ONLINE = "env -u PAW_OFFLINE -u HF_HUB_OFFLINE paw-mlx pull smollm2-135m"


@dataclass(frozen=True)
class Check:
    """One finding: a sentence, and the command that mends it.

    A problem keeps programs from running; a warning does not.
    """

    name: str
    state: str
    message: str
    hint: str | None = None


def checks(facts: Facts) -> Iterator[Check]:
    """Yield every finding, in the order in which they are shown."""
    yield _check_chip(facts)
    yield _check_system(facts)
    yield _check_python(facts)
    yield _check_mlx(facts)
    if facts.mlx.problem is None:
        yield _check_gpu(facts)
        yield from _check_matrix_units(facts)
        yield from _check_blas(facts)
    yield _check_mlx_lm(facts)
    yield _check_memory(facts)
    yield _check_hub(facts)
    yield _check_disk("data", facts.data)
    yield _check_disk("cache", facts.cache)
    yield _check_bases(facts)
    yield _check_compilers(facts)


def _check_chip(facts: Facts) -> Check:
    card, speed = facts.card, facts.card["bandwidth_gb_s"]
    parts = [str(one) for one in (card["chip"] or "unknown", card["model"]) if one]
    for kind in ("cpu", "gpu"):
        if cores := card[f"{kind}_cores"]:
            parts.append(f"{cores} {kind.upper()} cores")
    if isinstance(speed, list):
        parts.append(f"{speed[0]:g} to {speed[1]:g} GB/s, which is not certain")
    elif speed:
        parts.append(f"{speed:g} GB/s")
    elif facts.system == "darwin" and facts.mlx.device == "gpu":
        parts.append("a bandwidth that is not known here")
    return Check("chip", OK, ", ".join(parts))


def _check_system(facts: Facts) -> Check:
    name = str(facts.card["os"])
    release = re.match(r"macOS (\d+)", name)
    if release and int(release[1]) < _LEAST_MACOS:
        message = f"{name}: MLX runs on macOS {_LEAST_MACOS} and newer"
        return Check("system", PROBLEM, message, "softwareupdate --list")
    return Check("system", OK, name)


def _check_python(facts: Facts) -> Check:
    built = f"{facts.card['python']} for {facts.processor}"
    if facts.system != "darwin" or facts.processor == "arm64":
        return Check("python", OK, built)
    if facts.hardware.translated or "Apple" in (facts.hardware.chip or ""):
        message = f"{built} runs under Rosetta, and MLX runs on a Python for arm64 alone"
        return Check("python", PROBLEM, message, "uv venv --python cpython-3.12-macos-aarch64-none")
    return Check("python", PROBLEM, f"{built}: MLX runs on Apple silicon, and this Mac has Intel's")


def _check_mlx(facts: Facts) -> Check:
    lib = facts.mlx
    # Another Python or system is the way out where there is no wheel for these.
    sound = _check_python(facts).state == _check_system(facts).state == OK
    mend = _reinstall(facts) if sound else None
    if misfit := _tell_misfit(facts, "mlx", lib.version):
        return Check("mlx", PROBLEM, misfit, mend)
    if len(facts.backends) > 1:
        both = f"{listed(facts.backends)} have one file in common, and which came last is in use"
        return Check("mlx", PROBLEM, both, _choose_backend(facts))
    if lib.problem is None:
        wheel = f"wheel {lib.wheel}" if lib.wheel else "not from a wheel"
        return Check("mlx", OK, f"{lib.version or 'unknown version'}, {wheel}")
    if lib.version is None:
        return Check("mlx", PROBLEM, "not installed", mend)
    return Check("mlx", PROBLEM, f"{lib.version} cannot be imported: {lib.problem}", mend)


def _check_gpu(facts: Facts) -> Check:
    lib = facts.mlx
    if lib.gpu is None and lib.device == "gpu":
        message = "MLX is to compute on a GPU and sees none: headless, sandboxed or virtualized?"
        return Check("gpu", PROBLEM, message, "export PAW_MLX_DEVICE=cpu")
    if lib.gpu is not None:
        where = "" if lib.device == "gpu" else "; PAW_MLX_DEVICE has programs run on the CPU"
        return Check("gpu", OK, f"{lib.gpu} ({lib.architecture}){where}")
    if facts.nvidia and facts.chosen_device is None:
        message = "an NVIDIA GPU is here, and this MLX computes on the CPU"
        return Check("gpu", WARNING, message, _choose_backend(facts))
    return Check("gpu", OK, "none in use; programs run on the CPU")


def _check_matrix_units(facts: Facts) -> Iterator[Check]:
    if facts.mlx.gpu is None or facts.system != "darwin":
        return
    lacking = facts.lacking_units
    if lacking is None:
        yield Check("matrix units", OK, "none in this GPU: they came with the M5")
    elif not lacking:
        yield Check("matrix units", OK, "in reach; they evaluate prompts faster")
    else:
        message = f"out of reach, so prompts take longer; they need {' and '.join(lacking)}"
        mend = "softwareupdate --list" if lacking[0].startswith("macOS") else _reinstall(facts)
        yield Check("matrix units", WARNING, message, mend)


def _check_blas(facts: Facts) -> Iterator[Check]:
    if facts.system != "linux":
        return
    if loaded := facts.card["blas"]:
        yield Check("blas", OK, f"{loaded}, loaded before MLX")
    elif facts.mlx.device == "gpu" and facts.mlx.gpu:
        yield Check("blas", OK, "MLX's own; programs run on the GPU")
    else:
        if facts.chosen_blas == "none":
            mend = "unset PAW_MLX_BLAS"
        elif facts.processor == "x86_64":
            mend = f"{facts.installer} 'paw-mlx[blas]'"
        else:
            mend = "apt install libopenblas0"
        slow = "none but MLX's own, with which programs are a hundred times slower"
        yield Check("blas", WARNING, slow, mend)


def _check_mlx_lm(facts: Facts) -> Check:
    version, mend = facts.card["mlx_lm"], f"{facts.installer} {_pin(facts, 'mlx-lm')}"
    if misfit := _tell_misfit(facts, "mlx-lm", version):
        return Check("mlx-lm", WARNING, misfit, mend)
    if version:
        return Check("mlx-lm", OK, str(version))
    return Check("mlx-lm", WARNING, "not installed; compiling needs it", mend)


def _check_memory(facts: Facts) -> Check:
    total, usable = facts.card["memory_bytes"], facts.mlx.gpu_bytes
    parts = [f"{total / 1e9:.1f} GB" if total else "unknown"]
    if usable:
        parts.append(f"the GPU may use {usable / 1e9:.1f} GB")
    if (limit := facts.hardware.wired_limit_mb) is not None:
        whose = "" if limit else ", the system's choice"
        parts.append(f"iogpu.wired_limit_mb is {limit}{whose}")
    return Check("memory", OK, "; ".join(parts))


def _check_hub(facts: Facts) -> Check:
    if facts.offline:
        return Check("hub", OK, "offline, as PAW_OFFLINE or HF_HUB_OFFLINE says")
    if facts.unreachable:
        message = f"{facts.unreachable}; what is installed runs without it"
        return Check("hub", WARNING, message, "export PAW_OFFLINE=1")
    return Check("hub", OK, "in reach")


def _check_disk(name: str, folder: Folder) -> Check:
    sizes = ", ".join(f"{part} {megabytes(size)}" for part, size in folder.parts.items())
    message = f"{folder.path}: {sizes}; {folder.free_bytes / 1e9:.1f} GB free"
    mend = "export PAW_MLX_HOME=~/paw-mlx"
    if folder.file:
        return Check(name, PROBLEM, f"{folder.file} is a file, and has to be a folder", mend)
    if not folder.writable:
        return Check(name, WARNING, f"{folder.path} cannot be written", mend)
    if folder.free_bytes < _LOW_BYTES:
        return Check(name, WARNING, message, "paw-mlx rm NAME; paw-mlx ls shows what takes room")
    return Check(name, OK, message)


def _check_bases(facts: Facts) -> Check:
    if facts.damaged:
        name, damage = next(iter(facts.damaged.items()))
        return Check("bases", WARNING, damage, f"paw-mlx pull {name}")
    if found := facts.names("base"):
        return Check("bases", OK, ", ".join(found))
    if facts.offline:
        message = "none is installed, and the network is not to be touched"
        return Check("bases", PROBLEM, message, _ONLINE)
    message = "none is installed; one is fetched when a program needs it"
    return Check("bases", WARNING, message, "paw-mlx pull smollm2-135m")


def _check_compilers(facts: Facts) -> Check:
    if found := facts.names("compiler"):
        return Check("compilers", OK, ", ".join(found))
    message = "none is installed; one is fetched when something is compiled"
    return Check("compilers", OK, message, "paw-mlx pull paw-4b-qwen3-0.6b")


def _tell_misfit(facts: Facts, package: str, version: str | None) -> str | None:
    """Return what to say of a version that is not one this package needs."""
    pin = facts.pins.get(package, "")
    if version is None or fits(version, pin):
        return None
    return f"{version}, and paw-mlx needs {pin}"


def _reinstall(facts: Facts) -> str:
    """Return how to get the wheels that fit this system: pip keeps those of another one."""
    extra = next((one for one, package in BACKENDS.items() if package in facts.backends), "cpu")
    package = "mlx" if facts.system == "darwin" else f"mlx[{extra}]"
    return f"{facts.installer} --force-reinstall --no-cache-dir {_pin(facts, package)}"


def _choose_backend(facts: Facts) -> str:
    """Return how to get the one library that fits this machine, in place of all that are here."""
    wanted = _pin(facts, f"mlx[{'cuda13' if facts.nvidia else 'cpu'}]")
    remove = f"{facts.uninstaller} {' '.join(facts.backends)} && " if facts.backends else ""
    return f"{remove}{facts.installer} {wanted}"


def _pin(facts: Facts, package: str) -> str:
    """Return a package with the versions this one needs of it, for a shell."""
    return f"'{package}{facts.pins.get(package.partition('[')[0], '')}'"
