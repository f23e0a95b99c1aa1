"""Work in the background: commands that outlive their terminal, and go on after an interrupt.

A job is a folder `jobs/<id>` in the data folder:

    job.json   the command, where and when it was started, its state, its process
    log        what it printed
    work       for its own checkpoints
    .lock      held by the process that works on it, for as long as that lives

Whether a job is alive says the lock alone: after a kill or a reboot nobody holds it, and the job is
interrupted. `resume` goes on from its checkpoints. On macOS launchd does that at the next login.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import NotFound, OptionError
from ..files import disk_errors, read_errors, replacing
from ..locks import locked
from . import agent
from .job import Job, hold, read, root, write

__all__ = [
    "Job", "current", "entries", "read", "remove", "resume", "run", "start", "stop", "tail",
]  # fmt: skip

_MAX_TAIL = 1 << 16
_PATIENCE_S = 1.0  # for a lock that may only be looked at
_START_S = 60.0
_STOP_S = 10.0
_current: Job | None = None  # whose work this process does


def current() -> Job | None:
    """Return the job whose work this process does; None if it is nobody's."""
    return _current


def entries() -> list[Job]:
    """Return all jobs, the newest first."""
    with read_errors(root()):
        names = [path.parent.name for path in root().glob("*/job.json")]
    return sorted(map(read, names), key=lambda job: -job.started)


def tail(job: Job, num: int) -> list[str]:
    """Return the last lines that a job printed, `num` at most, of the last 64 KiB."""
    with read_errors(job.log), suppress(FileNotFoundError), job.log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_TAIL))
        return file.read(_MAX_TAIL).decode(errors="replace").splitlines()[-num:] if num else []
    return []


def start(argv: Sequence[str]) -> Job:
    """Have a command of `paw-mlx` done in the background, and return once it has begun.

    DiskError if the disk refuses.
    """
    with locked(root() / ".lock"):
        taken = [path.name for path in root().glob(f"{argv[0]}-*")]
        numbers = [int(name.rpartition("-")[2]) for name in taken if name[-1:].isdigit()]
        id = f"{argv[0]}-{max(numbers, default=0) + 1}"
        job = Job(id, tuple(argv), str(Path.cwd()), time.time(), "interrupted")
        with replacing(job.folder) as folder:
            folder.mkdir()
            write(job, folder)
    return resume(id)


def resume(id: str) -> Job:
    """Go on with a job in the background, and return once it goes on.

    OptionError for one that is done, or that a process is at: of two calls at once one fails.
    """
    job = read(id)
    if job.state in ("running", "done"):
        raise OptionError(f"job {id} is {job.state}")
    agent.keep_after_reboot(job)
    with disk_errors(f"write {job.log}"), job.log.open("ab") as log:
        process = subprocess.Popen(
            agent.command_of(id),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_S
    while process.poll() is None and read(id).pid != process.pid and time.monotonic() < deadline:
        time.sleep(0.02)
    process.returncode = 0  # it is left alone: nobody waits for it
    job = read(id)
    if job.pid != process.pid:
        begun = job.state in ("running", "done")
        raise OptionError(
            f"job {id} is {job.state}" if begun else f"job {id} did not begin",
            hint=f"See {job.log}.",
        )
    return job


def run(id: str, call: Callable[[list[str]], int]) -> int | None:
    """Do a job's work in this process, by `call`, which takes the command and gives its exit code.

    None, and nothing is done, if another process is at it, or it is done. NotFound if the folder
    it was started in is gone.
    """
    global _current
    with hold(read(id), _PATIENCE_S) as held:
        job = read(id)
        if not held or job.state == "done":
            return None
        began = _began(os.getpid())
        job = replace(job, state="running", pid=os.getpid(), began=began, ended=None)
        write(job, job.folder)
        try:
            _current = job
            _go_to(job.cwd)
            code = call(list(job.argv))
        except BaseException:
            _end(job, "failed", 1)
            raise
        finally:
            _current = None
        if code != 130:  # interrupted: it can go on
            _end(job, "failed" if code else "done", code)
    return code


def stop(id: str) -> None:
    """Stop a job that is running; it can be resumed. OptionError for one that is not."""
    job = read(id)
    if job.state != "running" or job.pid is None or _began(job.pid) != job.began:
        raise OptionError(f"job {id} is not running: it is {job.state}")
    for number in (signal.SIGTERM, signal.SIGKILL):
        with disk_errors(f"stop process {job.pid}"):
            os.kill(job.pid, number)
        with hold(job, _STOP_S) as held:
            if held:
                job = read(id)
                if job.state == "running":  # and was not done just before
                    _end(job, "stopped", None)
                return
    raise OptionError(f"job {id} did not stop: process {job.pid} is still there")


def remove(id: str) -> None:
    """Remove a job with its log and its checkpoints; OptionError while it is running."""
    job = read(id)
    with hold(job, _PATIENCE_S) as held:
        if not held:
            raise OptionError(f"job {id} is running", hint=f"paw-mlx jobs stop {id}")
        with disk_errors(f"remove {job.folder}"):
            (job.folder / "job.json").unlink()  # without it the folder is no job
            agent.forget(id)
            shutil.rmtree(job.folder)


def _end(job: Job, state: str, code: int | None) -> None:
    """Record how a job ended; what it would have gone on from is let go once it is done."""
    agent.forget(job.id)
    write(replace(job, state=state, exit_code=code, ended=time.time()), job.folder)
    if state == "done":
        shutil.rmtree(job.work, ignore_errors=True)


def _go_to(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise NotFound(f"cannot go to {folder}: {error.strerror}") from error


def _began(pid: int) -> str | None:
    """Return when a process began, in the system's own words; None if there is none."""
    with suppress(OSError):  # Linux: proc_pid_stat(5), field 22, after a name in brackets
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    with suppress(OSError):
        words = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(words, capture_output=True, text=True).stdout.strip() or None
    return None
