"""Launchd's agents: on a Mac a job goes on by itself at the next login."""

from __future__ import annotations

import plistlib
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from .. import settings
from ..errors import DiskError
from ..files import replacing
from .job import Job


def command_of(id: str) -> list[str]:
    """Return what does a job's work; -P: what lies in its folder is no module of ours."""
    return [sys.executable, "-P", "-m", "paw_mlx", "jobs", "run", id]


def property_list(job: Job) -> bytes:
    """Return the property list by which launchd goes on with a job at the next login.

    See launchd.plist(5). A type that is not interactive would be slowed down.
    """
    return plistlib.dumps(
        {
            "Label": f"paw-mlx.{job.id}",
            "ProgramArguments": command_of(job.id),
            "WorkingDirectory": job.cwd,
            "EnvironmentVariables": settings.as_set(),
            "RunAtLoad": True,
            "ProcessType": "Interactive",
            "StandardOutPath": str(job.log),
            "StandardErrorPath": str(job.log),
        }
    )


def keep_after_reboot(job: Job) -> None:
    """Have launchd go on with a job at the next login, where there is a launchd; or warn."""
    if file := _agent_file(job.id):
        try:
            with replacing(file) as temporary:
                temporary.write_bytes(property_list(job))
        except DiskError as error:
            hint = f"after a reboot, go on with `paw-mlx jobs resume {job.id}`"
            warnings.warn(f"{error}; {hint}", stacklevel=3)


def forget(id: str) -> None:
    """Take back what launchd was told of a job, if it was."""
    if file := _agent_file(id):
        with suppress(OSError):
            file.unlink()


def _agent_file(id: str) -> Path | None:
    folder = settings.launch_agents()
    return folder / f"paw-mlx.{id}.plist" if folder else None
