"""Commands that are killed at every change they make on the disk, refused it, or run twice at once.

Each runs in a small world of its own: a store with a function, a tiny base, rows, examples. What a
user sees there, programs by their content and files by their bytes, is before and after every
change what it was, or what an unbroken run makes of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import small_tunings as small
import toy_compilers as toy
from shell import SCRIPT

from paw_mlx import formats
from paw_mlx.cases import Case, write_kept
from paw_mlx.interpreter.models.load import load_base

LIMIT_S = 120
SHIM = Path(__file__).with_name("shim.c")
WORDS = ["disk", "server", "picnic", "spring"]
SPEC = "Is it about machines? Return ONLY one of: A, B."
ON_BASE = ["--interpreter", "base"]
COMPILER = ["--compiler", "compiler"]
Seen = dict[str, str]


@dataclass(frozen=True)
class Scenario:
    """A command in a world, and how one goes on with it after it was interrupted."""

    name: str
    words: Sequence[str]
    first: Sequence[str] = ()  # a command that comes before
    again: Sequence[str] = ()  # added to go on
    unseen: tuple[str, ...] = ()  # files that differ from run to run
    grows: str = ""  # a file that is there before all of it is


SCENARIOS = [
    Scenario("case add", ["case", "add", "mail", "the disk is full", "A"]),
    Scenario("case rm", ["case", "rm", "mail", "2"]),
    Scenario("case import", ["case", "import", "mail", "more.jsonl"]),
    Scenario("pull a file", ["pull", "new.paw", "--as", "mail"]),
    Scenario("pull anew", ["pull", "new.paw", "--as", "other"]),
    Scenario("rollback", ["rollback", "mail"], first=["pull", "new.paw", "--as", "mail"]),
    Scenario("rm", ["rm", "mail", "--yes"], first=["pull", "new.paw", "--as", "mail"]),
    Scenario("convert to peft", ["convert", "new.paw", "peft", "--to", "peft", *ON_BASE]),
    Scenario("convert to gguf", ["convert", "new.paw", "new.gguf", *ON_BASE]),
    Scenario("convert over", ["convert", "new.paw", "old.paw", "--dtype", "f16", *ON_BASE]),
    Scenario("convert a base", ["convert", "--base", "base", "packed", "--bits", "8"]),
    Scenario("map csv", ["map", "mail", "rows.csv", "-o", "out.csv"], again=["--resume"]),
    Scenario("map packed", ["map", "mail", "rows.csv", "-o", "out.jsonl.gz"], again=["--resume"]),
    Scenario("map parquet", ["map", "mail", "rows.csv", "-o", "out.parquet"], again=["--resume"]),
    Scenario(
        "map sqlite",
        ["map", "mail", "sqlite:///rows.db?table=rows", "-o", "sqlite:///rows.db?table=said"],
        again=["--resume"],
    ),
    Scenario("rank", ["rank", "mail", "rows.csv", "--labels", "A,B", "-o", "out.csv"]),
    Scenario(
        "test",
        ["test", "mail", "--html", "report.html", "--junit", "report.xml"],
        unseen=("report.html", "report.xml"),  # which say when they were made
    ),
    Scenario("calibrate", ["calibrate", "mail", "more.jsonl", "--max-error", "0.9"]),
    Scenario(
        "train",
        [
            "train",
            "-f",
            "spec.txt",
            "--examples",
            "more.jsonl",
            "-o",
            "mine.paw",
            "--steps",
            "6",
            "--rank",
            "4",
        ],
    ),
    Scenario(
        "tune",
        ["tune", "mail", "--cases", "more.jsonl", "--steps", "20", "--learning-rate", "3e-3"],
    ),
    Scenario("compile", ["compile", "-f", "spec.txt", "-o", "made.paw", *COMPILER]),
    Scenario("compile anew", ["compile", "-f", "spec.txt", "--name", "made", *COMPILER]),
    Scenario(
        "pairs",
        ["pairs", SPEC, "--teacher", "more.jsonl", "-n", "20", "-o", "pairs.jsonl"],
        grows="pairs.jsonl",
    ),
]
BASED = {"run", "map", "rank", "test", "calibrate", "train", "tune", "compile"}  # get ON_BASE


@dataclass
class World:
    """A folder, and the commands that are run in it."""

    folder: Path
    shim: Path

    def run(self, words: Sequence[str], **shim: object) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, perhaps one that something happens to."""
        process = self.start(words, **shim)
        try:
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    def start(self, words: Sequence[str], **shim: object) -> subprocess.Popen[bytes]:
        """Start a command in the world."""
        told = {f"SHIM_{name.upper()}": str(value) for name, value in shim.items()}
        if shim:
            told |= {"LD_PRELOAD": str(self.shim), "SHIM_ROOT": str(self.folder)}
        return subprocess.Popen(
            [*SCRIPT, *words, *(ON_BASE if words[0] in BASED else [])],
            cwd=self.folder,
            env=self.environment() | told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "HOME": str(self.folder / "home"),
            "PAW_MLX_HOME": str(self.folder / "paw"),
            "HF_HOME": str(self.folder / "hf"),
            "PAW_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def seen(self, unseen: Sequence[str] = ()) -> Seen:
        """What a user sees: each file's content, without what is hidden or on its way."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not _is_on_its_way(name) and name not in unseen:
                found[name] = content(path)
        return found

    def left(self) -> list[str]:
        """What interrupted writes have left."""
        paths = self.folder.rglob(".*.paw-*")
        return sorted(path.relative_to(self.folder).as_posix() for path in paths)


_ON_ITS_WAY = (".part", ".lock", ".training/", ".curve.jsonl", ".state.json", "-journal", "-wal")


def _is_on_its_way(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") and part != ".current" for part in parts)
    inner = name.startswith(("paw/cache", "paw/prefixes", "paw/training", "paw/jobs", "home/"))
    return hidden or inner or any(mark in name for mark in _ON_ITS_WAY)


def content(path: Path) -> str:
    """A digest of what a file says: of programs without times, of databases their rows."""
    if path.suffix == ".paw":
        return formats.load(path).digest()
    if path.suffix == ".db":
        return hashlib.sha256("\n".join(_dump(path)).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


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


def make_template(folder: Path, shim: Path) -> World:
    """Make a world: a store with the function `mail`, which has cases, and what commands need."""
    for name in ("paw", "home", "hf"):
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
    world = World(folder, shim)
    for words in (["pull", "first.paw", "--as", "mail"], ["case", "import", "mail", "eight.jsonl"]):
        done = world.run(words)
        assert done.returncode == 0, done.stderr.decode()
    return world


def copy(world: World, folder: Path) -> World:
    """Copy a world, with its files' times."""
    shutil.copytree(world.folder, folder, symlinks=True)
    return World(folder, world.shim)


@dataclass
class Check:
    """A scenario's unbroken run, and what is to be found around any break of it."""

    scenario: Scenario
    start: World
    before: Seen
    after: Seen
    num_changes: int
    num_runs: int = 0

    @classmethod
    def of(cls, scenario: Scenario, template: World, folder: Path) -> Check:
        """Run a scenario to its end, and count its changes."""
        start = copy(template, folder / "start")
        if scenario.first:
            assert start.run(scenario.first).returncode == 0
        before = start.seen(scenario.unseen)
        calm = copy(start, folder / "calm")
        done = calm.run(scenario.words, count=folder / "count")
        assert done.returncode == 0, done.stderr.decode()
        after = calm.seen(scenario.unseen)
        return cls(scenario, start, before, after, int((folder / "count").read_text()))

    def broken(self, folder: Path, at: int, act: str) -> str | None:
        """Break a run at a change; say what is wrong then, or after it was begun again."""
        world = copy(self.start, folder)
        self.num_runs += 1
        try:
            done = world.run(self.scenario.words, do=act, at=at, seconds=400 * 86_400)
            self._check(world, done)
            if world.seen(self.scenario.unseen) != self.after:
                self._check_again(world, act)
        except AssertionError as error:
            return f"{self.scenario.name}, {act} at {at} of {self.num_changes}: {error}"
        shutil.rmtree(folder)
        return None

    def _check(self, world: World, done: subprocess.CompletedProcess[bytes]) -> None:
        said = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1, -signal.SIGKILL), f"exit {done.returncode}: {said}"
        assert "Traceback" not in said, said
        seen = world.seen(self.scenario.unseen)
        for name in self.before.keys() | self.after.keys() | seen.keys():
            found = seen.get(name)
            if name == self.scenario.grows:
                continue
            assert found in (self.before.get(name), self.after.get(name)), f"{name} is half"

    def _check_again(self, world: World, act: str) -> None:
        parts = [*world.folder.glob("*.part")]
        again = [*self.scenario.words, *(self.scenario.again if parts else [])]
        done = world.run(again)
        said = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1), f"again: exit {done.returncode}: {said}"
        assert world.seen(self.scenario.unseen) == self.after, f"again: another result: {said}"


def choose(check: Check, chance: Random, most: int) -> list[tuple[int, str]]:
    """Choose where to break a run, and how: every change where they are few."""
    acts = ["kill", "tear", "28", "30", "5", "jump"]
    every = [(at, act) for at in range(1, check.num_changes + 1) for act in acts]
    return every if len(every) <= most else sorted(chance.sample(every, most))


def break_all(check: Check, places: Sequence[tuple[int, str]], folder: Path) -> list[str]:
    """Break a scenario's run at all these places, two at a time; return what was wrong."""

    def work(numbered: tuple[int, tuple[int, str]]) -> str | None:
        number, (at, act) = numbered
        return check.broken(folder / f"{number}", at, act)

    with ThreadPoolExecutor(2) as pool:
        return [fault for fault in pool.map(work, enumerate(places)) if fault]
