"""Break commands at their changes on the disk: `python -m tests.kills --runs 1000`.

The exit status is 1 if a break lost something, left half of it, or could not be gone on from.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from random import Random

os.environ |= {"PAW_MLX_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import paw_mlx.interpreter  # noqa: E402, F401  loads a BLAS before MLX is

import breaking  # noqa: E402  isort: skip


def main() -> int:
    """Break every scenario so many times, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    names = [scenario.name for scenario in breaking.SCENARIOS]
    parser.add_argument("--runs", type=int, default=1000, help="breaks, shared by the scenarios")
    parser.add_argument("--scenario", action="append", choices=names, help="all without")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = [one for one in breaking.SCENARIOS if one.name in (given.scenario or names)]
    num_faults = num_runs = 0
    with tempfile.TemporaryDirectory() as folder:
        world = breaking.make_template(Path(folder, "template"), breaking.make_shim(Path(folder)))
        for number, scenario in enumerate(chosen):
            check = breaking.Check.of(scenario, world, Path(folder, f"{number}"))
            most = (given.runs - num_runs) // (len(chosen) - number)
            places = breaking.choose(check, Random(given.seed + number), most)
            faults = breaking.break_all(check, places, Path(folder, f"{number}-broken"))
            num_runs += check.num_runs
            num_faults += len(faults)
            counts = f"{check.num_changes:5} changes {check.num_runs:5} breaks"
            print(f"{scenario.name:20} {counts} {len(faults):3} faults", flush=True)
            print("".join(f"    {fault}\n" for fault in faults), end="", flush=True)
    print(f"{num_runs} breaks, {num_faults} faults")
    return int(num_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
