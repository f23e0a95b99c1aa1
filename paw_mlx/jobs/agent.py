"""Launchd's agents: on a Mac a job goes on by itself at the next login."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

from .. import settings
from ..errors import DiskError
from ..files import replacing
from ..mac import launchd
from .job import Job


def command_of(id: str) -> list[str]:
    """Return what does a job's work."""
    return launchd.command("jobs", "run", id)


def property_list(job: Job) -> bytes:
    """Return the property list by which launchd goes on with a job at the next login."""
    return launchd.property_list(
        f"paw-mlx.{job.id}",
        command_of(job.id),
        job.log,
        WorkingDirectory=job.cwd,
        RunAtLoad=True,
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
