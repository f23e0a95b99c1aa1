"""A launchd agent that sorts the files of a folder: as they come, or once a day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import OptionError
from . import launchd, scripts
from .plan import Plan, Request, own_folder

AGENTS = Path("Library/LaunchAgents")
_THROTTLE_S = 30  # between two starts, if something stays in the folder
_GUARDED = ("Desktop", "Documents", "Downloads")  # in a home


def launch_agent(request: Request) -> Plan:
    """Return an agent's property list, its script inside; OptionError without a folder."""
    folder, to, home = request.folder, request.to, request.home
    if folder is None or to is None:
        raise OptionError("a launch agent needs the folder that it watches", hint="--folder DIR")
    if to.is_relative_to(folder):
        raise OptionError(
            f"{to} lies in {folder}, which is emptied",
            hint="Have the files sorted elsewhere: --to DIR",
        )
    when: dict[str, Any] = {"QueueDirectories": [str(folder)]}
    if request.at:
        when = {"StartCalendarInterval": dict(zip(("Hour", "Minute"), request.at, strict=True))}
    name, log = label(request.slug), own_folder() / "logs" / f"{request.slug}.log"
    script = scripts.sorting(request, '"$folder"/*')
    arguments = ["/bin/sh", "-c", script, "paw-mlx"]
    keys = when | {"ThrottleInterval": _THROTTLE_S}
    place = (request.into or home / AGENTS) / f"{name}.plist"
    steps = [f"It logs to {log}."]
    if any(folder.is_relative_to(home / each) for each in _GUARDED):
        steps.append(
            f"macOS lets nothing that launchd starts read {folder} before you allow it: "
            "System Settings > Privacy & Security > Full Disk Access, there /bin/sh. "
            "Any other folder needs no permission."
        )
    files = {"": launchd.property_list(name, arguments, log, **keys)}
    return Plan(request, place, files, log=log, steps=tuple(steps))


def label(slug: str) -> str:
    """Return what launchd calls the agent of a function."""
    return f"paw-mlx.mac.{slug}"
