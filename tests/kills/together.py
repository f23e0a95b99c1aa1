"""Two commands at once in one world: what stands there then is what one after the other makes."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from worlds import ON_BASE, TUNE, Ended, Seen, World, begin, copy, hear_out

Words = Sequence[str]


@dataclass(frozen=True)
class Pair:
    """Two commands that are in each other's way, perhaps after a `first` one."""

    name: str
    one: Words
    other: Words
    first: Words = ()
    online: bool = False  # they ask the hub


_MAP = ["map", "mail", "rows.csv", "-o", "out.csv"]
_PEFT = ["convert", "new.paw", "peft", "--to", "peft", *ON_BASE]
_COMPILE = ["compile", "-f", "spec.txt", "--name", "made", "--compiler", "compiler"]
_PULL = ["pull", "new.paw", "--as", "mail"]
PAIRS = [
    Pair("case add", *(["case", "add", "mail", f"the {word} is full", "A"] for word in "ab")),
    Pair("case add and rm", ["case", "add", "mail", "the disk", "A"], ["rm", "mail", "--yes"]),
    Pair("pull one", ["pull", "new.paw", "--as", "other"], ["pull", "new.paw", "--as", "other"]),
    Pair("pull two", _PULL, ["pull", "old.paw", "--as", "mail"]),
    Pair("pull and rollback", ["pull", "old.paw", "--as", "mail"], ["rollback", "mail"], _PULL),
    Pair("pull a base", ["pull", "org/base"], ["pull", "org/base"], online=True),
    Pair("run and rm", ["run", "mail", "the disk is full"], ["rm", "mail", "--yes"]),
    Pair("map", _MAP, _MAP),
    Pair("map and pull", _MAP, _PULL),
    Pair("convert", _PEFT, [*_PEFT, "--dtype", "f16"]),
    Pair("tune", TUNE, TUNE),
    Pair("tune and rm", TUNE, ["rm", "mail", "--yes"]),
    Pair("compile", _COMPILE, _COMPILE),
]


@dataclass
class Serial:
    """What two commands say and leave, one after the other and alone."""

    pair: Pair
    start: World
    alone: list[Seen]  # after either
    both: list[Seen]  # in either order
    outputs: list[set[bytes]]  # of either, where it succeeds
    names: set[str]  # of all that is ever there
    lasts_s: float = 0.0

    @classmethod
    def of(cls, pair: Pair, template: World, folder: Path) -> Serial:
        """Run both in either order."""
        start = begin(template, folder / "start", pair.first, online=pair.online)
        serial = cls(pair, start, [], [], [set(), set()], start.names())
        for place in (0, 1):
            world = copy(start, folder / f"{place}")
            serial.alone.append(serial._run(place, world))
            serial.both.append(serial._run(1 - place, world))
        return serial

    def _run(self, place: int, world: World) -> Seen:
        began = time.monotonic()
        done = world.run((self.pair.one, self.pair.other)[place])
        self.lasts_s = max(self.lasts_s, time.monotonic() - began)
        if done.returncode == 0:
            self.outputs[place].add(_output(world, done))
        self.names |= world.names()
        return world.seen()

    def at_once(self, folder: Path, chance: Random) -> str | None:
        """Run both at once, one a little later than the other; say what is wrong then."""
        world = copy(self.start, folder)
        running = [world.start(self.pair.one)]
        time.sleep(chance.uniform(0, self.lasts_s))
        running.append(world.start(self.pair.other))
        done = [hear_out(process) for process in running]
        try:
            for place in (0, 1):
                self._check(place, world, done[place])
            succeeded = [place for place in (0, 1) if done[place].returncode == 0]
            expected = self.both + ([self.alone[succeeded[0]]] if len(succeeded) == 1 else [])
            assert succeeded, "both were refused"
            assert world.seen() in expected, "no order of both makes this"
            orphans = sorted(world.names() - self.names)
            assert not orphans, f"left behind: {', '.join(orphans)}"
        except AssertionError as error:
            said = b"".join(one.stderr for one in done).decode(errors="replace")
            return f"{self.pair.name}, exits {[one.returncode for one in done]}: {error}\n{said}"
        shutil.rmtree(folder)
        return None

    def _check(self, place: int, world: World, done: Ended) -> None:
        said = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1), f"exit {done.returncode}: {said}"
        assert "Traceback" not in said, said
        if done.returncode == 0:
            assert _output(world, done) in self.outputs[place], f"another answer: {done.stdout!r}"


def _output(world: World, done: Ended) -> bytes:
    """Return what a command said, without where its world lies and how long it took."""
    said = done.stdout.replace(bytes(world.folder), b"")
    return re.sub(rb"[0-9.]+ s\b", b"", said)
