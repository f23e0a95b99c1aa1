"""What launchd is told of an agent (launchd.plist(5)), and a command that needs no PATH."""

from __future__ import annotations

import os
import plistlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import settings

_LAUNCHCTL = "/bin/launchctl"


def command(*words: str) -> list[str]:
    """Return what runs a command of `paw-mlx` by absolute paths, whatever environment it is in.

    The interpreter of a virtual environment is not resolved, for it is what knows the environment.
    -P: what lies in the folder it is run in is no module of ours.
    """
    return [str(Path(sys.executable).absolute()), "-P", "-m", "paw_mlx", *words]


def environment() -> dict[str, str]:
    """Return the variables to carry along: no keys, and folders by their absolute paths."""
    return {
        name: str(Path(os.path.expanduser(value)).absolute())  # noqa: PTH111  a ~nobody stays
        if value and name.endswith("_HOME")
        else value
        for name, value in settings.as_set().items()
    }


def bootstrap(file: str) -> list[str]:
    """Return the command that has launchd know an agent by its property list (launchctl(1))."""
    return [_LAUNCHCTL, "bootstrap", domain(), file]


def bootout(label: str) -> list[str]:
    """Return the command that ends an agent and has launchd forget it."""
    return [_LAUNCHCTL, "bootout", f"{domain()}/{label}"]


def domain() -> str:
    """Return launchd's name for the agents of this user's session."""
    return f"gui/{os.getuid()}"


def property_list(label: str, arguments: Sequence[str], log: Path, **keys: Any) -> bytes:
    """Return an agent's property list; `keys` are others of launchd's, such as `Sockets`.

    A type that is not interactive would be slowed down. Without RunAtLoad, KeepAlive, Sockets or
    another reason to start among the keys it never starts.
    """
    agent = {
        "Label": label,
        "ProgramArguments": list(arguments),
        "EnvironmentVariables": environment(),
        "ProcessType": "Interactive",
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(agent | keys, sort_keys=False)
