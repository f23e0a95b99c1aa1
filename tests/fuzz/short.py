"""A few inputs of every target in one process: what a default test has the time for.

python -m tests.fuzz.short --runs 40 --seed 1 --sandbox DIR
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
import traceback
from pathlib import Path

from . import finds
from .guard import Guard
from .targets import TARGETS, make


def main() -> None:
    """Read as many inputs of each target as are asked for; the exit status is 1 for a find."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--sandbox", type=Path, required=True)
    asked = parser.parse_args()
    faulthandler.enable()
    guard, found, made = Guard(asked.sandbox), False, []
    for name in TARGETS:
        place = asked.sandbox / name
        place.mkdir()
        made.append(target := make(name, place))
        outcomes = [target.run(seed) for seed in target.seeds]
        assert "ok" in outcomes, f"no seed of {name} is sound: {outcomes}"
    guard.limit_memory()
    for target in made:
        begin = time.perf_counter()
        for number in range(asked.runs):
            try:
                with guard.watching():
                    target.run(target.make(number, asked.seed))
            except BaseException as error:
                found = True
                print(f"{target.name}, input {number}: {finds.signature(error)}")
                traceback.print_exception(error)
        print(f"{target.name}: {asked.runs} inputs, {time.perf_counter() - begin:.2f} s")
    sys.stdout.flush()
    os._exit(int(found))  # threads of a target may wait for ever


if __name__ == "__main__":
    main()
