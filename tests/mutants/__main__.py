"""Change a copy of the code, a line at a time, and count the changes that tests find.

`python -m tests.mutants --tool .venv/mutants/bin/cosmic-ray`: the changes are
Cosmic Ray's, drawn by a seed. The exit status is 1 if fewer than 90 % were found.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.mutants.modules import TESTS

ROOT = Path(__file__).parents[2]
LEAST = 0.9
# What nobody can find: annotations are never evaluated, and `is` between small numbers is `==`.
NOT_DRAWN = re.compile("ReplaceBinaryOperator_BitOr|_(Is|IsNot)$")


class Counted(NamedTuple):
    """What became of a module's changes."""

    num: int
    survivors: list[str]  # as diffs
    num_late: int  # killed because tests took too long
    seconds: float


def main() -> int:
    """Change every module so many times, and say which changes no test found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--tool", type=Path, required=True, help="where cosmic-ray is")
    parser.add_argument("--module", action="append", choices=TESTS, help="all without")
    parser.add_argument("--per-module", type=int, default=18, help="changes at most, in a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="modules at once")
    given = parser.parse_args()
    tool, modules = given.tool.absolute(), given.module or [*TESTS]
    num_killed = num_mutants = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        found = pool.map(lambda one: change(tool, one, given.seed, given.per_module), modules)
        for module, (num, survivors, num_late, seconds) in zip(modules, found, strict=True):
            num_killed += num - len(survivors)
            num_mutants += num
            told = f"{num:4} mutants {len(survivors):3} survivors {num_late:3} late"
            print(f"{module:44} {told} {seconds:4.0f} s")
            print("".join(f"{diff}\n" for diff in survivors), end="", flush=True)
    share = num_killed / max(num_mutants, 1)
    print(f"{num_killed} of {num_mutants} mutants killed ({share:.1%})")
    return int(share < LEAST)


def change(tool: Path, module: str, seed: int, most: int) -> Counted:
    """Change a module in a copy of the tree, and let its tests look for each change."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy, session = copy_tree(Path(folder, "tree")), Path(folder, "session.sqlite")
        begin(tool, copy, module, session)
        draw(session, Random(f"{seed} {module}"), most)
        run(tool, "exec", session.with_suffix(".toml"), session, copy=copy)
        outcomes = read(session)
    survivors = [diff for outcome, _, diff in outcomes if outcome == "survived"]
    num_late = sum(output == "timeout" for _, output, _ in outcomes)
    return Counted(len(outcomes), survivors, num_late, time.monotonic() - started)


def copy_tree(tree: Path) -> Path:
    """Copy what git knows or would add, with the packages where an installation has them."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for name in ("convert", "benchmarks", "examples"):
        (tree / "paw_mlx" / name).symlink_to(tree / name)
    return tree


def begin(tool: Path, copy: Path, module: str, session: Path) -> None:
    """Run the tests once unchanged, and list all changes of the module in `session`."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += shlex.split(TESTS[module])
    started = time.monotonic()
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{module}: its tests fail without a change")
    longest = 5 + 3 * (time.monotonic() - started)
    session.with_suffix(".toml").write_text(
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {longest:.1f}\n'
        f'excluded-modules = []\ntest-command = "{shlex.join(command)}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    run(tool, "init", session.with_suffix(".toml"), session, copy=copy)


def run(tool: Path, *args: object, copy: Path) -> None:
    """Call Cosmic Ray inside the copy."""
    command = [str(tool), *map(str, args)]
    subprocess.run(command, cwd=copy, env=environment(copy), check=True)


def environment(copy: Path) -> dict[str, str]:
    """Return variables by which tests import the copy, on one thread, and leave no bytecode."""
    ours = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return os.environ | ours


def draw(session: Path, random: Random, most: int) -> None:
    """Keep at most one change of a place, and `most` in all."""
    with closing(sqlite3.connect(session)) as database, database:
        places: dict[tuple[int, int], list[str]] = {}
        query = (
            "SELECT start_pos_row, start_pos_col, operator_name, occurrence, job_id"
            " FROM mutation_specs ORDER BY 1, 2, 3, 4"
        )
        for row, column, operator, _, job in database.execute(query):
            if not NOT_DRAWN.search(operator):
                places.setdefault((row, column), []).append(job)
        chosen = random.sample(sorted(places), min(most, len(places)))
        kept = [random.choice(places[place]) for place in chosen]
        marks = ",".join("?" * len(kept))
        for table in ("mutation_specs", "work_items"):
            database.execute(f"DELETE FROM {table} WHERE job_id NOT IN ({marks})", kept)


def read(session: Path) -> list[tuple[str, str, str]]:
    """Return what became of each change, what its tests said, and its diff."""
    query = "SELECT lower(test_outcome), output, diff FROM work_results"
    with closing(sqlite3.connect(session)) as database:
        return database.execute(query).fetchall()


if __name__ == "__main__":
    sys.exit(main())
