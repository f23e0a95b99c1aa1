"""Break commands at their changes on the disk: `python -m tests.kills --runs 1000`.

The exit status is 1 if a break lost something, left half of it, could not be gone on from, or left
something behind; or if two commands at once came to what no order of them makes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

os.environ |= {"PAW_MLX_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import breaking  # noqa: E402
from hub_server import Hub, serving_hub  # noqa: E402
from scenarios import SCENARIOS, Scenario, fill  # noqa: E402
from together import PAIRS, Pair, Serial  # noqa: E402
from worlds import World, make_shim, make_template  # noqa: E402

import paw_mlx.interpreter  # noqa: E402, F401  loads a BLAS before MLX is


def main() -> int:
    """Break every scenario so many times, run every pair at once, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    names = [one.name for one in (*SCENARIOS, *PAIRS)]
    parser.add_argument("--runs", type=int, default=1000, help="breaks, shared by the scenarios")
    parser.add_argument("--at-once", type=int, default=4, help="runs of each pair")
    parser.add_argument("--scenario", action="append", choices=names, help="all without")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = given.scenario or names
    with tempfile.TemporaryDirectory() as made, serving_hub(Hub()) as hub:
        folder = Path(made)
        world = make_template(folder / "template", make_shim(folder), hub.url)
        fill(hub, world.folder / "new.paw")
        scenarios = [one for one in SCENARIOS if one.name in names]
        pairs = [one for one in PAIRS if one.name in names]
        broken = break_scenarios(scenarios, world, given.runs, given.seed)
        at_once = run_pairs(pairs, world, given.at_once, given.seed)
    print(f"{broken[0]} breaks, {at_once[0]} pairs at once, {broken[1] + at_once[1]} faults")
    return int(broken[1] + at_once[1] > 0)


def break_scenarios(
    scenarios: Sequence[Scenario], world: World, runs: int, seed: int
) -> tuple[int, int]:
    """Break each scenario's run in turn; return how many breaks there were, and faults."""
    num_runs = num_faults = 0
    for number, scenario in enumerate(scenarios):
        folder = world.folder.with_name(f"{number}")
        check = breaking.Check.of(scenario, world, folder)
        most = (runs - num_runs) // (len(scenarios) - number)
        places = breaking.choose(check, Random(seed + number), most)
        faults = breaking.break_all(check, places, folder / "broken")
        num_runs += check.num_runs
        num_faults += len(faults)
        say(scenario.name, f"{check.num_changes:5} changes {check.num_runs:5} breaks", faults)
        shutil.rmtree(folder)
    return num_runs, num_faults


def run_pairs(pairs: Sequence[Pair], world: World, times: int, seed: int) -> tuple[int, int]:
    """Run each pair at once so many times; return how many runs there were, and faults."""
    num_faults = 0
    for number, pair in enumerate(pairs if times else ()):
        folder = world.folder.with_name(f"pair-{number}")
        serial, chance = Serial.of(pair, world, folder), Random(seed + number)
        found = [serial.at_once(folder / f"once-{time}", chance) for time in range(times)]
        faults = [fault for fault in found if fault]
        num_faults += len(faults)
        say(pair.name, f"{times:19} at once", faults)
        shutil.rmtree(folder)
    return times * len(pairs), num_faults


def say(name: str, counts: str, faults: Sequence[str]) -> None:
    print(f"{name:20} {counts} {len(faults):3} faults", flush=True)
    print("".join(f"    {fault}\n" for fault in faults), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
