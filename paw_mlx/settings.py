"""Paths and environment. Nothing else in this package reads `os.environ`.

    PAW_MLX_HOME          everything this package keeps, in one folder
    PAW_OFFLINE           1: never touch the network
    PAW_MLX_BLAS          Linux: the BLAS library to load before MLX (a path, or `none`)
    PAW_MLX_DEVICE        cpu or gpu: where MLX computes, if not on what it prefers
    PAW_MLX_PREFIX_BYTES  how many bytes of evaluated prefixes to keep on disk (1000000000);
                          0 keeps and reads none
    PAW_MLX_EVAL_DATA     the folder of data that `paw-mlx bench accuracy` evaluates on
    PAW_MLX_DAEMON        off: run here, also while the daemon runs
    PAW_API_URL           a PAW service to fetch programs from; PAW_API_KEY, its key
    PAW_TEACHER_KEY       the key of the endpoint that `--teacher URL` names
    PAW_SERVE_TOKEN       the token that `paw-mlx serve` asks of its clients

Without PAW_MLX_HOME, a folder `.paw` beside the virtual environment is it, where there is one: what
`make` sets up in a checkout is found there by hand, too. Without either, what must be kept
(programs, bases, converted compilers) lies in `~/Library/Application Support/paw-mlx` on macOS and
`$XDG_DATA_HOME/paw-mlx` elsewhere; what can be made again (quantized bases, pseudo-programs,
prefixes) in `~/Library/Caches/paw-mlx` and `$XDG_CACHE_HOME/paw-mlx`.
`HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT` are huggingface_hub's. MLX's own MLX_ENABLE_TF32 is set
to 0, unless the user has set it: some GPUs would else round float32 products to 10 bits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import OptionError

_PASSED_ON = (
    "PAW_MLX_HOME",
    "PAW_OFFLINE",
    "PAW_MLX_BLAS",
    "PAW_MLX_DEVICE",
    "PAW_MLX_PREFIX_BYTES",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
)
_BLAS_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def data_dir() -> Path:
    """Return the folder of what must be kept: programs, bases, compilers."""
    return _find_folder("XDG_DATA_HOME", ".local/share", "Library/Application Support")


def cache_dir() -> Path:
    """Return the folder of what can be made again: quantized bases, pseudo-programs, prefixes."""
    if home := _find_home():
        return home / "cache"
    return _find_folder("XDG_CACHE_HOME", ".cache", "Library/Caches")


def offline() -> bool:
    """Return whether the environment forbids the network (PAW_OFFLINE or HF_HUB_OFFLINE)."""
    said = (os.environ.get(name, "") for name in ("PAW_OFFLINE", "HF_HUB_OFFLINE"))
    return any(text.strip().lower() in ("1", "true", "yes", "on") for text in said)


def blas_library() -> str | None:
    """Return the BLAS library the user names, `none` to load none, or None to search."""
    return os.environ.get("PAW_MLX_BLAS") or None


def keep_float32() -> None:
    """Have MLX multiply float32 as float32, unless the user wants TF32. Before it is imported."""
    os.environ.setdefault("MLX_ENABLE_TF32", "0")


def hush_ray() -> None:
    """Have Ray not print that a worker or a node died. Before it is imported."""
    died = "A worker died or was killed|has been marked dead|Raylet is terminated"
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", died)


def device() -> str | None:
    """Return `cpu` or `gpu` if the user says which, else None; OptionError for others."""
    name = os.environ.get("PAW_MLX_DEVICE", "").strip().lower() or None
    if name not in (None, "cpu", "gpu"):
        raise OptionError(f"PAW_MLX_DEVICE is {name!r}, and can be cpu or gpu")
    return name


def prefix_bytes() -> int:
    """Return how many bytes of evaluated prefixes to keep on disk; OptionError for no number."""
    text = os.environ.get("PAW_MLX_PREFIX_BYTES", "").strip() or "1000000000"
    if not (text.isascii() and text.isdigit()):
        raise OptionError(f"PAW_MLX_PREFIX_BYTES is {text!r}, and must be a number of bytes")
    return int(text)


def eval_data() -> Path | None:
    """Return the folder of data to evaluate on, or None."""
    return _read_folder("PAW_MLX_EVAL_DATA")


def service() -> tuple[str, str] | None:
    """Return the PAW service's address and key (empty without one), or None to use no service."""
    url = os.environ.get("PAW_API_URL", "").strip().rstrip("/")
    return (url, os.environ.get("PAW_API_KEY", "").strip()) if url else None


def teacher_key() -> str:
    """Return the key of the endpoint that a user names as teacher; empty without one."""
    return os.environ.get("PAW_TEACHER_KEY", "").strip()


def serve_token() -> str:
    """Return the token that a server asks of its clients; empty without one."""
    return os.environ.get("PAW_SERVE_TOKEN", "").strip()


def daemon_wanted() -> bool:
    """Return whether the daemon is used where it runs; OptionError unless it is on or off."""
    said = os.environ.get("PAW_MLX_DAEMON", "").strip().lower() or "on"
    if said not in ("on", "off", "1", "0"):
        raise OptionError(f"PAW_MLX_DAEMON is {said!r}, and can be on or off")
    return said in ("on", "1")


def as_set() -> dict[str, str]:
    """Return the variables that are set, for a process that the system starts: no keys, no tokens.

    They say where things lie, and on what to compute.
    """
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def worker_environment(num_workers: int) -> dict[str, str]:
    """Return the environment of one of several processes that compute here at once.

    Each BLAS gets its part of the cores, unless the user says how many threads it has.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux: a container may have a part only
    num_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = dict.fromkeys(_BLAS_THREADS, str(max(1, num_cores // num_workers)))
    counted = any(name in os.environ for name in _BLAS_THREADS)
    return {**os.environ} if counted else os.environ | threads


def listen_fds() -> int:
    """Return how many sockets systemd hands over to this process (sd_listen_fds(3))."""
    number = os.environ.get("LISTEN_FDS", "0")
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    return int(number) if mine and number.isdigit() else 0


def systemd_units() -> Path:
    """Return the folder of this user's systemd units."""
    base = _read_folder("XDG_CONFIG_HOME") or Path.home() / ".config"
    return base / "systemd" / "user"


def launch_agents() -> Path | None:
    """Return the folder of this user's launchd agents; None where there is no launchd."""
    return Path.home() / "Library" / "LaunchAgents" if sys.platform == "darwin" else None


def _find_folder(xdg: str, linux: str, mac: str) -> Path:
    if home := _find_home():
        return home
    if base := _read_folder(xdg):
        return base / "paw-mlx"
    try:
        return Path.home() / (mac if sys.platform == "darwin" else linux) / "paw-mlx"
    except RuntimeError as error:
        raise OptionError(
            "HOME is not set, and the system knows no home of this user",
            hint="Set PAW_MLX_HOME to a folder.",
        ) from error


def _find_home() -> Path | None:
    """Return the one folder that everything is kept in, if there is such a one."""
    beside = Path(sys.prefix).parent / ".paw"
    in_environment = sys.prefix != sys.base_prefix
    return _read_folder("PAW_MLX_HOME") or (beside if in_environment and beside.is_dir() else None)


def _read_folder(name: str) -> Path | None:
    """Return the folder that a variable names, or None; OptionError for a ~user nobody knows."""
    folder = os.environ.get(name)
    try:
        return Path(folder).expanduser() if folder else None
    except RuntimeError as error:
        raise OptionError(
            f"{name} is {folder!r}, and the system knows no such home",
            hint="Give the whole path.",
        ) from error
