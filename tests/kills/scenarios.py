"""The commands that are broken at their changes on the disk, each in a world of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub_server import Hub
from worlds import ON_BASE, SPEC, TUNE

_PULL = ["pull", "new.paw", "--as", "mail"]
_PULL_OLD = ["pull", "old.paw", "--as", "mail"]
_CASE = ["case", "add", "mail", "the server is picnic", "A"]
_COMPILE = ["compile", "-f", "spec.txt", "--compiler", "compiler"]


@dataclass(frozen=True)
class Scenario:
    """A command in a world, and how one goes on with it after it was interrupted."""

    name: str
    words: Sequence[str]
    first: Sequence[str] = ()  # a command that comes before
    again: Sequence[str] = ()  # added to go on
    then: Sequence[str] = ()  # writes there, where the same does not once it was done
    unseen: tuple[str, ...] = ()  # files that differ from run to run
    grows: str = ""  # a file that is there before all of it is
    online: bool = False  # it asks the hub
    asks: Sequence[str] = ()  # it is a daemon, and this is what it is asked


SCENARIOS = [
    Scenario("case add", ["case", "add", "mail", "the disk is full", "A"], then=_CASE),
    Scenario("case rm", ["case", "rm", "mail", "2"]),
    Scenario("case import", ["case", "import", "mail", "more.jsonl"], then=_CASE),
    Scenario("pull a file", _PULL, then=_PULL_OLD),
    Scenario(
        "pull anew",
        ["pull", "new.paw", "--as", "other"],
        then=["pull", "old.paw", "--as", "other"],
    ),
    Scenario("pull a base", ["pull", "org/base"], online=True),
    Scenario(
        "pull from a hub",
        ["pull", "org/mail/mail.paw", "--as", "mail"],
        then=_PULL_OLD,
        online=True,
    ),
    Scenario(
        "pull from a service",
        ["pull", "me/mail", "--as", "mail"],
        then=_PULL_OLD,
        online=True,
    ),
    Scenario("rollback", ["rollback", "mail"], first=_PULL, then=_PULL),
    Scenario("rm", ["rm", "mail", "--yes"], first=_PULL),
    Scenario("convert to peft", ["convert", "new.paw", "peft", "--to", "peft", *ON_BASE]),
    Scenario("convert to gguf", ["convert", "new.paw", "new.gguf", *ON_BASE]),
    Scenario("convert over", ["convert", "new.paw", "old.paw", "--dtype", "f16", *ON_BASE]),
    Scenario("convert a base", ["convert", "--base", "base", "packed", "--bits", "8"]),
    Scenario("map csv", ["map", "mail", "rows.csv", "-o", "out.csv"], again=["--resume"]),
    Scenario(
        "map by workers",
        ["map", "mail", "rows.csv", "-o", "out.csv", "--workers", "2"],
        again=["--resume"],
    ),
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
    Scenario("tune", TUNE, then=_PULL_OLD),
    Scenario("tune in a job", ["jobs", "run", "tune-1"], then=_PULL_OLD),
    Scenario("compile", [*_COMPILE, "-o", "made.paw"]),
    Scenario("compile anew", [*_COMPILE, "--name", "made"]),
    Scenario(
        "compile many",
        [*_COMPILE, "-o", "many.paw", "--candidates", "2", "--cases", "more.jsonl"],
    ),
    Scenario(
        "pairs",
        ["pairs", SPEC, "--teacher", "more.jsonl", "-n", "20", "-o", "pairs.jsonl"],
        grows="pairs.jsonl",
    ),
    Scenario("daemon", ["daemon", "run"], asks=["run", "mail", "the disk is full"]),
]


def fill(hub: Hub, program: Path) -> None:
    """Give the hub what it has: a base, and a program, which is the service's too."""
    base = {
        "config.json": b"{}",
        "tokenizer.json": b"{ }",
        "model.safetensors": bytes(range(256)) * 4096,
    }
    hub.repos |= {"org/base": base, "org/mail": {"mail.paw": program.read_bytes()}}
    hub.programs["me/mail"] = program.read_bytes()
