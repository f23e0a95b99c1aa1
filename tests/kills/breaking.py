"""Commands that are killed at every change they make on the disk, refused it, or run twice at once.

What a user sees, programs by their content and files by their bytes, is before and after every
change what it was, or what an unbroken run makes of it; and once the same command was started
again, nothing lies there that unbroken runs do not leave, hidden or not.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from scenarios import Scenario
from worlds import Ended, Seen, World, begin, copy

ACTS = ["kill", "tear", "moment", "28", "30", "5", "jump", "back"]
KILLS = ("kill", "tear", "moment")
_JUMPS_S = {"jump": 400 * 86_400, "back": -400 * 86_400}


def run(scenario: Scenario, world: World, more: Sequence[str] = (), **shim: Any) -> Ended:
    """Run a scenario's command in a world; one that is a daemon is asked, and stopped."""
    words = [*scenario.words, *more]
    return world.serve(words, scenario.asks, **shim) if scenario.asks else world.run(words, **shim)


@dataclass
class Check:
    """A scenario's unbroken run, and what is to be found around any break of it."""

    scenario: Scenario
    start: World
    before: Seen
    after: Seen
    twice: Seen  # after a second run
    names: set[str]  # of all that unbroken runs ever have there
    said: bytes
    num_changes: int
    lasts_s: float
    num_runs: int = 0

    @classmethod
    def of(cls, scenario: Scenario, template: World, folder: Path) -> Check:
        """Run a scenario to its end, and again, and count the changes of the first time."""
        start = begin(template, folder / "start", scenario.first, online=scenario.online)
        before, names = start.seen(scenario.unseen), start.names()
        calm = copy(start, folder / "calm")
        began = time.monotonic()
        done = run(scenario, calm, count=folder / "count")
        lasts_s = time.monotonic() - began
        assert done.returncode == 0, done.stderr.decode()
        after, names = calm.seen(scenario.unseen), names | calm.names()
        run(scenario, calm)
        twice, names = calm.seen(scenario.unseen), names | calm.names()
        if scenario.then:
            calm.run(scenario.then)
            names |= calm.names()
        count = int((folder / "count").read_text())
        return cls(scenario, start, before, after, twice, names, done.stdout, count, lasts_s)

    def broken(self, folder: Path, at: int, act: str) -> str | None:
        """Break a run at a change; say what is wrong then, or after it was begun again."""
        world = copy(self.start, folder)
        self.num_runs += 1
        try:
            done = run(self.scenario, world, **self._shim(at, act))
            self._check(world, done)
            if act not in KILLS:
                assert not world.left(), f"not cleaned up: {world.left()}"
            self._check_again(world)
        except AssertionError as error:
            return f"{self.scenario.name}, {act} at {at} of {self.num_changes}: {error}"
        shutil.rmtree(folder)
        return None

    def _shim(self, at: int, act: str) -> dict[str, Any]:
        """Return what happens at a change; a moment's kill comes after that share of the time."""
        if act == "moment":
            return {"after_s": self.lasts_s * at / self.num_changes}
        if act in _JUMPS_S:
            return {"at": at, "do": "jump", "seconds": _JUMPS_S[act]}
        return {"at": at, "do": act}

    def _check(self, world: World, done: Ended) -> None:
        said = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1, -signal.SIGKILL), f"exit {done.returncode}: {said}"
        assert "Traceback" not in said, said
        if self.scenario.asks and done.returncode != 1:
            assert done.stdout == self.said, f"another answer: {done.stdout!r}"
        seen = world.seen(self.scenario.unseen)
        for name in self.before.keys() | self.after.keys() | seen.keys():
            found = seen.get(name)
            if name == self.scenario.grows:
                continue
            assert found in (self.before.get(name), self.after.get(name)), f"{name} is half"

    def _check_again(self, world: World) -> None:
        finished = world.seen(self.scenario.unseen) == self.after
        parts = [*world.folder.glob("*.part")]
        done = run(self.scenario, world, self.scenario.again if parts else ())
        said = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1), f"again: exit {done.returncode}: {said}"
        found = world.seen(self.scenario.unseen)
        expected = (self.after, self.twice) if finished else (self.after,)
        assert found in expected, f"again: another result: {said}"
        if finished and self.scenario.then:
            world.run(self.scenario.then)
        assert not (living := world.living()), f"again: still run: {living}"
        orphans = sorted(world.names() - self.names)
        assert not orphans, f"again: left behind: {', '.join(orphans)}"


def choose(check: Check, chance: Random, most: int) -> list[tuple[int, str]]:
    """Choose where to break a run, and how: every change where they are few."""
    every = [(at, act) for at in range(1, check.num_changes + 1) for act in ACTS]
    return every if len(every) <= most else sorted(chance.sample(every, most))


def break_all(check: Check, places: Sequence[tuple[int, str]], folder: Path) -> list[str]:
    """Break a scenario's run at all these places, two at a time; return what was wrong."""

    def work(numbered: tuple[int, tuple[int, str]]) -> str | None:
        number, (at, act) = numbered
        return check.broken(folder / f"{number}", at, act)

    with ThreadPoolExecutor(2) as pool:
        return [fault for fault in pool.map(work, enumerate(places)) if fault]
