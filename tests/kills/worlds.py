"""Small worlds of files, what a user sees in them, and the commands that are run there.

Each is a folder with a store that holds a function, a tiny base, rows, examples, a home and a
folder for temporary files: whatever a command leaves lies in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import small_tunings as small
import toy_compilers as toy
from shell import SCRIPT

from paw_mlx import formats
from paw_mlx.cases import Case, write_kept
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.jobs import job as jobs

LIMIT_S = 120
LONGEST_SOCKET = 103
LEAVE_S = 20  # for a worker whose command was killed: it gives itself half of that
SHIM = Path(__file__).with_name("shim.c")
WORDS = ["disk", "server", "picnic", "spring"]
SPEC = "Is it about machines? Return ONLY one of: A, B."
ON_BASE = ["--interpreter", "base"]
TUNE = ["tune", "mail", "--cases", "more.jsonl", "--steps", "20", "--learning-rate", "3e-3"]
BASED = {"run", "map", "rank", "test", "calibrate", "train", "tune", "compile"}  # get ON_BASE
Seen = dict[str, str]
Ended = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class World:
    """A folder, and the commands that are run in it; with `hub`, that address is their hub."""

    folder: Path
    shim: Path
    hub: str = ""

    def run(self, words: Sequence[str], **shim: Any) -> Ended:
        """Run a command to its end, perhaps one that something happens to."""
        return hear_out(self.start(words, **shim))

    def serve(self, words: Sequence[str], asked: Sequence[str], **shim: Any) -> Ended:
        """Run a daemon, perhaps one that something happens to; call it, and stop it.

        What is returned is its end, with what the call said: an exit code of 0 and the answer, or 1
        and a reason. A daemon that is killed may not keep a call from its answer.
        """
        process = self.start(words, **shim)
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and not self._is_heard():
            assert time.monotonic() < deadline, "the daemon does not begin"
            time.sleep(0.05)
        call = self.run(asked)
        self.run(["daemon", "stop"])
        done = hear_out(process)
        code = call.returncode if done.returncode == 0 else done.returncode
        return subprocess.CompletedProcess(words, code, call.stdout, done.stderr + call.stderr)

    def _is_heard(self) -> bool:
        """Return whether a daemon listens at the world's socket."""
        path = str(self.folder / "paw" / "run" / "daemon.sock")
        if len(path) > LONGEST_SOCKET:  # it listens elsewhere then
            return self.run(["daemon", "status"]).returncode == 0
        with socket.socket(socket.AF_UNIX) as caller:
            return caller.connect_ex(path) == 0

    def start(
        self, words: Sequence[str], after_s: float | None = None, **shim: object
    ) -> subprocess.Popen[bytes]:
        """Start a command in the world; with `after_s`, it is killed then."""
        told = {f"SHIM_{name.upper()}": str(value) for name, value in shim.items()}
        if shim:
            told |= {"LD_PRELOAD": str(self.shim), "SHIM_ROOT": str(self.folder)}
        process = subprocess.Popen(
            [*SCRIPT, *words, *(ON_BASE if words[0] in BASED else [])],
            cwd=self.folder,
            env=self.environment() | told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if after_s is not None:
            timer = threading.Timer(after_s, process.kill)
            timer.daemon = True
            timer.start()
        return process

    def environment(self) -> dict[str, str]:
        """Return what the commands find set: homes of their own, and a hub or none."""
        hub = {
            "HF_ENDPOINT": self.hub,
            "PAW_API_URL": self.hub,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return (
            os.environ
            | {
                "HOME": str(self.folder / "home"),
                "PAW_MLX_HOME": str(self.folder / "paw"),
                "HF_HOME": str(self.folder / "hf"),
                "TMPDIR": str(self.folder / "tmp"),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            | (hub if self.hub else {"PAW_OFFLINE": "1"})
        )

    def seen(self, unseen: Sequence[str] = ()) -> Seen:
        """Return what a user sees: each file's content, without what is hidden or on its way."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            seen = path.is_file() and not (_is_on_its_way(name) or _is_anothers(name, path))
            if seen and name not in unseen:
                found[name] = content(path)
        return found

    def names(self) -> set[str]:
        """Return all that is there, hidden or not."""
        return {
            name
            for path in self.folder.rglob("*")
            if not _is_anothers(name := path.relative_to(self.folder).as_posix(), path)
        }

    def living(self) -> list[str]:
        """Return the commands that run in it, once they have had time to end."""
        deadline = time.monotonic() + LEAVE_S
        while (found := self._find_living()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _find_living(self) -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is another user's
                if (process / "cwd").readlink() == self.folder:
                    found.append((process / "cmdline").read_text().replace("\0", " "))
        return found

    def left(self) -> list[str]:
        """Return what writes have left that were interrupted."""
        return sorted(name for name in self.names() if _LEFT.search(name))


def hear_out(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for a command's end, and kill it if it takes too long."""
    try:
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


_SCORE = re.compile(rb"0\.\d{6,}")
_LEFT = re.compile(r"\.paw-[a-z0-9_]{8,16}(/|$)")
_HUBS_OWN = re.compile(
    r"hf/hub/(CACHEDIR\.TAG|.+(/tmp[a-z0-9_]{8}(\.tmp|/.+)?|/tmp_[0-9a-f-]{36}|\.[0-9a-f]{8}\.tmp))"
)
_ON_ITS_WAY = (
    ".part",
    "/blobs/",
    ".lock",
    ".training/",
    ".curve.jsonl",
    ".state.json",
    "-journal",
    "-wal",
)
_INNER = tuple(f"paw/{name}" for name in ("cache", "prefixes", "training", "jobs", "run"))


def _is_on_its_way(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") and part != ".current" for part in parts)
    inner = name.startswith((*_INNER, "home/", "tmp/"))
    return hidden or inner or any(mark in name for mark in _ON_ITS_WAY)


def _is_anothers(name: str, path: Path) -> bool:
    """Return whether a file is under a name that others draw, and nobody can tell whose it is.

    Those are Python's tempfile where it looks whether it may write, and huggingface_hub; also its
    word to backups, which it writes in place.
    """
    probe = path.parent.name == "tmp" and path.is_file() and path.stat().st_size <= len("blat")
    return probe or bool(_HUBS_OWN.fullmatch(name))


def content(path: Path) -> str:
    """A digest of what a file says: of programs without times, of databases their rows.

    A score's last digits are those of the rows that it was computed beside.
    """
    if path.suffix == ".paw":
        return formats.load(path).digest()
    if path.suffix == ".db":
        return hashlib.sha256("\n".join(_dump(path)).encode()).hexdigest()
    data = path.read_bytes()
    if path.suffix == ".csv":
        data = _SCORE.sub(lambda found: b"%.5f" % float(found[0]), data)
    return hashlib.sha256(data).hexdigest()


def _dump(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for (name,) in base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            if name != "paw_mlx_runs":
                yield name
                yield from map(repr, base.execute(f'SELECT * FROM "{name}"'))


def can_shim() -> bool:
    """Return whether there is a C compiler, and the Linux that the shim is written for."""
    return bool(shutil.which("cc")) and Path("/proc/self/fd").exists()


def make_shim(folder: Path) -> Path:
    """Compile the shim."""
    out = folder / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", out, SHIM, "-ldl"], check=True)
    return out


def make_template(folder: Path, shim: Path, hub: str) -> World:
    """Make a world: a store with the function `mail`, its cases and a job that is to tune it."""
    for name in ("paw", "home", "hf", "tmp"):
        (folder / name).mkdir(parents=True)
    base = load_base(toy.write_base(folder / "base"))
    toy.train(folder / "base", folder / "compiler")
    cases = [Case(text, small.right(text)) for text in Random(1).sample(small.INPUTS, 120)]
    for name, steps in (("first", 10), ("new", 1), ("old", 2)):
        program = small.make_program(base, cases[:16], steps)
        formats.save(program, folder / f"{name}.paw", dtype="f32", profile=base.profile)
    texts = [f"{i} {word}" for i in range(6) for word in WORDS]
    (folder / "rows.csv").write_text(
        "id,text\n" + "".join(f"{i},{t}\n" for i, t in enumerate(texts))
    )
    with closing(sqlite3.connect(folder / "rows.db")) as rows, rows:
        rows.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
        rows.executemany("INSERT INTO rows VALUES (?, ?)", enumerate(texts))
    (folder / "more.jsonl").write_bytes(write_kept(cases[24:]))
    (folder / "eight.jsonl").write_bytes(write_kept(cases[16:24]))
    (folder / "spec.txt").write_text(f"{SPEC}\n")
    job = folder / "paw" / "jobs" / "tune-1"
    job.mkdir(parents=True)
    jobs.write(jobs.Job(job.name, (*TUNE, *ON_BASE), ".", 0.0, "interrupted"), job)
    world = World(folder, shim, hub)
    for words in (["pull", "first.paw", "--as", "mail"], ["case", "import", "mail", "eight.jsonl"]):
        done = world.run(words)
        assert done.returncode == 0, done.stderr.decode()
    return world


def copy(world: World, folder: Path) -> World:
    """Copy a world, with its files' times."""
    shutil.copytree(world.folder, folder, symlinks=True)
    return replace(world, folder=folder)


def begin(template: World, folder: Path, first: Sequence[str], *, online: bool) -> World:
    """Make a world in which a first command, if any, was run; without a hub unless `online`."""
    world = copy(template, folder)
    world = world if online else replace(world, hub="")
    assert not first or world.run(first).returncode == 0
    return world
