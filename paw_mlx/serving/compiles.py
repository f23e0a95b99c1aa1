"""Compile jobs in this process: one at a time, in a thread that lives as long as there are some.

    queued -> compiling -> ready | failed | cancelled

A finished program is in the store, under the name that was asked for or `compiled/<8 hex of its
id>`. Whoever asks for a compile may be far away: a compiler is known by its name alone, never a
path, and only one that somebody named is ever fetched.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .. import hub, program_names, store
from ..annotations import output_of
from ..compiler.compilation import Compilation
from ..compiler.installed import EMBEDDED, compiler_for, installed_compiler
from ..compiler.pipeline import Compiler
from ..errors import HubError, NotFound, OptionError, PawError, QueueFull, listed
from ..interpreter.engine.grammar import check_output
from ..output import TEXT
from ..spec_output import labels_in_spec
from .compile_job import Compile

__all__ = ["MAX_WAITING", "Compile", "Compiles"]

MAX_WAITING = 32
_MAX_KEPT = 512  # jobs that are remembered
_LOG = logging.getLogger(__name__)
_LOADING, _WRITING, _READING, _STORING = 0.0, 30.0, 50.0, 90.0  # percent, where each begins


class Compiles:
    """Compile jobs, from any thread. Closed by its owner, or the process waits for the last one.

    `compiler` is who compiles where nobody says (a reference of any kind, the owner's word), for
    `interpreter`; else the published one for `qwen3-0.6b` if it is on this machine, or the embedded
    one. `offline` keeps compiles from fetching anything.
    """

    def __init__(
        self,
        compiler: str | None = None,
        *,
        interpreter: str | None = None,
        offline: bool = False,
    ) -> None:
        self._default, self._offline = compiler, offline
        self._interpreter = interpreter
        self._jobs: dict[str, Compile] = {}
        self._queue: deque[str] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def compiler(self) -> str:
        """Who compiles where nobody says."""
        if self._default:
            return self._default
        published = compiler_for(None)
        try:
            installed_compiler(published, offline=True)
        except HubError:
            return EMBEDDED.name
        return published

    def compilers(self) -> list[str]:
        """Return the names that a compile may ask for, the default first."""
        names = (name for name in hub.published_compilers() if "/" not in name)
        return list(dict.fromkeys((self.compiler, EMBEDDED.name, *names)))

    def start(
        self,
        spec: str,
        *,
        compiler: str | None = None,
        name: str | None = None,
        labels: object = None,
        schema: object = None,
        regex: Any = None,
    ) -> Compile:
        """Queue a spec and return its job. `labels`, `schema` and `regex` are as in `compile`.

        OptionError for an empty spec, a bad name or type, or a compiler that is not known;
        QueueFull where too many wait.
        """
        if not spec.strip():
            raise OptionError("the spec is empty")
        if name:
            store.check_name(name)
        output = output_of(labels, schema, regex) or labels_in_spec(spec) or TEXT
        check_output(output)
        chosen = compiler or self.compiler
        if compiler and compiler not in (known := self.compilers()):
            raise OptionError(
                f"no compiler is called {compiler[:200]!r}", hint=f"Known: {listed(known)}."
            )
        job = Compile(secrets.token_hex(8), spec.strip(), output, chosen, name, time.time())
        with self._changed:
            if self._closed:
                raise QueueFull("no compile begins any more: the server ends")
            if len(self._queue) >= MAX_WAITING:
                raise QueueFull(
                    f"{MAX_WAITING} compiles wait already", hint="Try again when some are done."
                )
            self._forget()
            self._jobs[job.id] = job
            self._queue.append(job.id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="paw-mlx-compiles")
                self._thread.start()
        return job

    def get(self, job_id: str) -> Compile:
        """Return a job as it is now; NotFound if there is none of that id."""
        with self._changed:
            if job_id not in self._jobs:
                raise NotFound(f"no compile has the id {job_id[:64]!r}")
            return self._jobs[job_id]

    def entries(self) -> list[Compile]:
        """Return all jobs that are remembered, the newest first."""
        with self._changed:
            return list(reversed(self._jobs.values()))

    def num_waiting(self) -> int:
        """Return how many jobs wait."""
        with self._changed:
            return len(self._queue)

    def position(self, job_id: str) -> int | None:
        """Return how many jobs are served until this one is, itself included; None if it is."""
        with self._changed, suppress(ValueError):
            return self._queue.index(job_id) + 1
        return None

    def cancel(self, job_id: str) -> Compile:
        """Cancel a job that is not done: nothing of it is stored. NotFound as in `get`.

        One that runs ends with its step. One that is done, or just being stored, stays as it is.
        """
        with self._changed:
            job = self.get(job_id)
            if job.is_done or job.percent >= _STORING:
                return job
            with suppress(ValueError):
                self._queue.remove(job_id)
            return self._change(
                job_id, state="cancelled", message="cancelled", completed=time.time()
            )

    def wait(self, job_id: str, timeout_s: float | None = None) -> Compile:
        """Return a job when it is done, or as it is after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.get(job_id).is_done, timeout_s)
            return self.get(job_id)

    def changes(self, job_id: str, after: int, timeout_s: float | None = None) -> Compile:
        """Return a job when its revision is beyond `after`, or as it is after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.get(job_id).revision > after, timeout_s)
            return self.get(job_id)

    def close(self) -> None:
        """Cancel all that is not done, and wait for the step that runs."""
        with self._changed:
            self._closed = True
            for job in list(self._jobs.values()):
                self.cancel(job.id)
            thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join()

    def _forget(self) -> None:
        """Forget the oldest that are done, beyond what is kept."""
        done = [job.id for job in self._jobs.values() if job.is_done]
        for job_id in done[: max(len(self._jobs) - _MAX_KEPT + 1, 0)]:
            del self._jobs[job_id]

    def _change(self, job_id: str, **changes: Any) -> Compile:
        """Change a job and tell all who wait; one that is done stays as it is."""
        with self._changed:
            job = self._jobs[job_id]
            if not job.is_done:
                job = replace(job, revision=job.revision + 1, **changes)
                self._jobs[job_id] = job
                self._changed.notify_all()
            return job

    def _work(self) -> None:
        """Compile what waits, one after the other, and end."""
        while True:
            with self._changed:
                if not self._queue:
                    self._thread = None
                    return
                job_id = self._queue.popleft()
                job = self._change(job_id, state="compiling", started=time.time())
            try:
                end = self._compile(job, _Steps(self, job_id))
            except _Cancelled:
                continue
            except PawError as error:
                hint = error.hints[0] if error.hints else None
                end = {"error": str(error), "code": type(error).__name__, "hint": hint}
            except Exception:
                _LOG.exception("compile %s failed", job_id)
                end = {"error": "the compiler made a mistake; the log has more", "code": "internal"}
            end = {"state": "failed", "message": "failed"} | end
            self._change(job_id, completed=time.time(), **end)

    def _compile(self, job: Compile, steps: _Steps) -> dict[str, Any]:
        """Compile a job and store its program; return how it ended."""
        steps.begin("loading the compiler", _LOADING, _WRITING)
        chosen = self._interpreter if job.compiler == self._default else None
        with Compiler.load(
            job.compiler, interpreter=chosen, offline=self._offline, progress=steps
        ) as compiler:
            steps.begin("writing the pseudo-program", _WRITING, _READING)
            compilation = Compilation(job.spec, output=job.output)
            compiler.write(compilation)
            steps.begin("reading the spec", _READING, _STORING)
            (done,) = compiler.compile_all([compilation])
            if done.error:
                raise done.error
            assert done.program is not None
            steps.begin("storing the program", _STORING, 100.0)
            name = job.name or f"compiled/{done.program.id[:8]}"
            before = program_names.versions_in(program_names.folder_of(name))
            version = store.add(done.program, name, profile=compiler.target.profile)
        return {
            "state": "ready",
            "percent": 100.0,
            "message": "ready",
            "program_id": done.program.id,
            "reference": f"{name}@v{version}",
            "created_version": version not in before,
        }


class _Cancelled(Exception):
    """Whoever hears of a step learns that its job was cancelled."""


class _Steps:
    """A Meter: what the compiler says of its steps becomes a job's message and percent."""

    def __init__(self, compiles: Compiles, job_id: str) -> None:
        self._compiles, self._id = compiles, job_id
        self._start = self._end = 0.0

    def begin(self, message: str, start: float, end: float) -> None:
        """Begin a step that goes from `start` to `end` percent."""
        self._start, self._end = start, end
        self._tell(message=message, percent=start)

    def __call__(self, message: str, /) -> None:
        self._tell(message=message)

    def advance(self, done: float, total: float) -> None:
        """Hear how far a step is; what is less than a percent is not told."""
        share = min(max(done / total, 0.0), 1.0) if total > 0 else 0.0
        percent = float(int(self._start + (self._end - self._start) * share))
        if percent != self._compiles.get(self._id).percent:
            self._tell(percent=percent)

    def _tell(self, **changes: Any) -> None:
        if self._compiles._change(self._id, **changes).state == "cancelled":
            raise _Cancelled
