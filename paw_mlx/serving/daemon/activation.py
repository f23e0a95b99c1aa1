"""Started by the system when somebody calls: launchd's sockets on a Mac, systemd's on Linux.

Both listen themselves and hand their socket over; a daemon that nobody needs ends, and the next
call starts it again. launch_activate_socket(3), sd_listen_fds(3).
"""

from __future__ import annotations

import ctypes
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ... import settings
from ...client import places
from ...errors import DaemonError, OptionError
from ...files import replacing
from ...mac import launchd, system

LABEL = "paw-mlx.daemon"
_NAME = "Listener"
_FIRST = 3  # sd_listen_fds(3): the first descriptor that systemd hands over


def sockets() -> list[socket.socket]:
    """Return the sockets that the system listens on for us; none if it did not start us."""
    if sys.platform == "darwin":
        return _from_launchd()
    return [socket.socket(fileno=_FIRST + place) for place in range(settings.listen_fds())]


def install(idle_s: float) -> list[Path]:
    """Have the system start the daemon when somebody calls; return the files that were written.

    OptionError where there is neither launchd nor systemd; DaemonError if it refuses, and then they
    are gone again.
    """
    files = _files(launchd.command("daemon", "run", "--idle", f"{idle_s:g}"))
    places.make_folder()
    for path, content in files.items():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    try:
        if sys.platform == "darwin":
            system.call(launchd.bootout(LABEL))  # an earlier one, if there is one
            _call(launchd.bootstrap(str(next(iter(files)))))
        else:
            _call(_systemctl("daemon-reload"))
            _call(_systemctl("enable", "--now", f"{LABEL}.socket"))
    except DaemonError:
        for path in files:
            path.unlink()
        raise
    return list(files)


def uninstall() -> list[Path]:
    """Take back what `install` did; return the files that were removed."""
    found = [path for path in _files([]) if path.exists()]
    if not found:
        return []
    if sys.platform == "darwin":
        system.call(launchd.bootout(LABEL))
    else:
        system.call(_systemctl("disable", "--now", f"{LABEL}.socket"))
    for path in found:
        path.unlink()
    if sys.platform != "darwin":
        system.call(_systemctl("daemon-reload"))
    return found


def agent(command: list[str]) -> bytes:
    """Return launchd's property list: it listens, and starts the command when somebody calls."""
    listener = {"SockPathName": str(places.socket_path()), "SockPathMode": 0o600}
    return launchd.property_list(
        LABEL,
        command,
        places.log_path(),
        Sockets={_NAME: listener},
        ExitTimeOut=90,
    )


def units(command: list[str]) -> dict[str, bytes]:
    """Return systemd's units by their names: the same for a user of Linux."""
    quoted = " ".join(_quote(word) for word in command)
    environment = "".join(
        f"Environment={_quote(f'{name}={value}')}\n"
        for name, value in launchd.environment().items()
    )
    listening = (
        "[Unit]\nDescription=paw-mlx, when somebody calls\n\n[Socket]\n"
        f"ListenStream={_escape(str(places.socket_path()))}\nSocketMode=0600\nDirectoryMode=0700\n\n"
        "[Install]\nWantedBy=sockets.target\n"
    )
    working = (
        f"[Unit]\nDescription=paw-mlx\nRequires={LABEL}.socket\n\n[Service]\n"
        f"ExecStart={quoted}\n{environment}TimeoutStopSec=90\n"
    )
    return {f"{LABEL}.socket": listening.encode(), f"{LABEL}.service": working.encode()}


def _files(command: list[str]) -> dict[Path, bytes]:
    if folder := settings.launch_agents():
        return {folder / f"{LABEL}.plist": agent(command)}
    if shutil.which("systemctl") is None:
        raise OptionError(
            "there is neither launchd nor systemd here to start the daemon",
            hint="Start it yourself: paw-mlx daemon start",
        )
    return {settings.systemd_units() / name: data for name, data in units(command).items()}


def _systemctl(*words: str) -> list[str]:
    return ["systemctl", "--user", *words]


def _call(command: list[str]) -> None:
    if wrong := system.call(command):
        raise DaemonError(f"`{' '.join(command)}` failed: {wrong}")


def _escape(text: str) -> str:
    """Escape what systemd.unit(5) would replace."""
    return text.replace("%", "%%")


def _quote(word: str) -> str:
    """Quote a word of a command or an assignment as systemd.syntax(7) has it."""
    inside = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_escape(inside)}"'


def _from_launchd() -> list[socket.socket]:
    library = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
    descriptors, number = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t()
    with suppress(AttributeError):
        error = library.launch_activate_socket(
            _NAME.encode(), ctypes.byref(descriptors), ctypes.byref(number)
        )
        if error == 0:
            found = [socket.socket(fileno=descriptors[place]) for place in range(number.value)]
            library.free(descriptors)
            return found
    return []
