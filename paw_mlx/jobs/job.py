"""A job's record, and the lock that says whether its process lives."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from .. import settings
from ..errors import FormatError, NotFound
from ..files import disk_errors, read_errors, replacing
from ..locks import lock, unlock

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_MAX_BYTES = 1 << 20  # of job.json


@dataclass(frozen=True)
class Job:
    """A job; `started` and `ended` are in seconds since 1970.

    `state` is running, done, failed (with its `exit_code`), stopped or interrupted. `began` tells
    its process from a later one of the same `pid`.
    """

    id: str
    argv: tuple[str, ...]
    cwd: str
    started: float
    state: str
    pid: int | None = None
    began: str | None = None
    ended: float | None = None
    exit_code: int | None = None

    @property
    def folder(self) -> Path:
        """Where the job is kept."""
        return folder_of(self.id)

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "log"

    @property
    def work(self) -> Path:
        """Where it keeps what it goes on from."""
        return self.folder / "work"


def read(id: str) -> Job:
    """Return a job; NotFound if there is none, FormatError if its record is damaged."""
    file = folder_of(id) / "job.json"
    try:
        with read_errors(file), file.open("rb") as opened:
            record = json.loads(opened.read(_MAX_BYTES))
        job = Job(**record | {"argv": tuple(record["argv"])})
        if job.id != id:
            raise ValueError(f"it is that of {job.id!r}")
    except FileNotFoundError:
        raise NotFound(f"there is no job {id!r}", hint="`paw-mlx jobs` lists them.") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"{file} is damaged: {error}") from error
    if job.state != "running":
        return job
    with hold(job, 0) as lost:
        return replace(job, state="interrupted") if lost else job


def write(job: Job, folder: Path) -> None:
    """Write a job's record into a folder; DiskError if the disk refuses."""
    with replacing(folder / "job.json") as temporary:
        temporary.write_text(json.dumps(asdict(job), indent=1) + "\n", encoding="utf-8")


@contextmanager
def hold(job: Job, patience_s: float) -> Iterator[bool]:
    """Hold a job's lock in the block; give False if another process does for so long.

    DiskError if the disk refuses.
    """
    path, deadline = job.folder / ".lock", time.monotonic() + patience_s
    with disk_errors(f"write {path}"):
        file = path.open("ab")
    with file:
        while not (held := _try_lock(file, path)) and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield held
        finally:
            if held:
                unlock(file)


def _try_lock(file: IO[bytes], path: Path) -> bool:
    with disk_errors(f"lock {path}"):
        try:
            lock(file, path, wait=False)
        except BlockingIOError:
            return False
    return True


def root() -> Path:
    """Return the folder of all jobs."""
    return settings.data_dir().absolute() / "jobs"


def folder_of(id: str) -> Path:
    """Return the folder of a job, there or not; NotFound for what no job can be called."""
    if not _ID.fullmatch(id):
        raise NotFound(f"there is no job {id!r}", hint="`paw-mlx jobs` lists them.")
    return root() / id
