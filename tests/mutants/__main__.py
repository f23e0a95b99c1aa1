"""Change a copy of the code, a line at a time, and count the changes that tests find.

`python -m tests.mutants --tool .venv/mutants/bin/cosmic-ray`: the changes are
Cosmic Ray's, drawn by a seed. The exit status is 1 if fewer than 90 % were found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from random import Random

from tests.mutants.modules import TESTS

ROOT = Path(__file__).parents[2]
LEAST = 0.9
# What nobody can find: annotations are never evaluated, and `is` between small numbers is `==`.
NOT_DRAWN = re.compile("ReplaceBinaryOperator_BitOr|_(Is|IsNot)$")


def main() -> int:
    """Change every module so many times, and say which changes no test found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--tool", type=Path, required=True, help="where cosmic-ray is")
    parser.add_argument("--module", action="append", choices=TESTS, help="all without")
    parser.add_argument("--per-module", type=int, default=18, help="changes at most, in a module")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tool = given.tool.absolute()
    num_killed = num_mutants = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_tree(Path(folder, "tree"))
        for module in given.module or TESTS:
            started = time.monotonic()
            session = Path(folder, "session.sqlite")
            begin(tool, copy, module, session)
            draw(session, Random(f"{given.seed} {module}"), given.per_module)
            run(tool, "exec", session.with_suffix(".toml"), session, copy=copy)
            outcomes = read(session)
            survivors = [diff for outcome, diff in outcomes if outcome == "survived"]
            num_killed += len(outcomes) - len(survivors)
            num_mutants += len(outcomes)
            counts = f"{len(outcomes):4} mutants {len(survivors):3} survivors"
            print(f"{module:44} {counts} {time.monotonic() - started:4.0f} s", flush=True)
            print("".join(f"{diff}\n" for diff in survivors), end="", flush=True)
            session.unlink()
    share = num_killed / max(num_mutants, 1)
    print(f"{num_killed} of {num_mutants} mutants killed ({share:.1%})")
    return int(share < LEAST)


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
    command += TESTS[module].split()
    started = time.monotonic()
    subprocess.run(command, cwd=copy, env=environment(copy), check=True, capture_output=True)
    longest = 5 + 3 * (time.monotonic() - started)
    session.with_suffix(".toml").write_text(
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {longest:.1f}\n'
        f'excluded-modules = []\ntest-command = "{" ".join(command)}"\n'
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


def read(session: Path) -> list[tuple[str, str]]:
    """Return whether each change survived, and its diff."""
    query = "SELECT lower(test_outcome), diff FROM work_results"
    with closing(sqlite3.connect(session)) as database:
        return database.execute(query).fetchall()


if __name__ == "__main__":
    sys.exit(main())
