"""Fuzz the readers: `python -m tests.fuzz --help` says how.

Results are added up in OUT/counts.json, so that a run goes on where another ended; what was found
lies in OUT/finds, an input and its trace each. The exit status is 1 if this run found anything.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from .driver import Asked, fuzz, try_out
from .targets import TARGETS

_OUT = Path(__file__).parents[2] / "build" / "fuzz"


def main() -> int:
    """Fuzz what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="all without")
    parser.add_argument("--runs", type=int, default=1 << 60, help="inputs of each target")
    parser.add_argument("--seconds", type=float, default=60.0, help="in all, shared by the targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--out", type=Path, default=_OUT)
    parser.add_argument("--file", type=Path, help="read this one input of a --target, and end")
    parser.add_argument(
        "--coverage",
        action=argparse.BooleanOptionalAction,
        default=find_spec("atheris") is not None,
        help="keep inputs that reach new code; needs Atheris",
    )
    given = parser.parse_args()
    if given.file:
        if len(given.target or ()) != 1:
            parser.error("--file needs one --target")
        return try_out(given.target[0], given.file.absolute())
    return fuzz(
        Asked(
            targets=tuple(given.target or TARGETS),
            runs=given.runs,
            seconds=given.seconds,
            seed=given.seed,
            jobs=given.jobs,
            out=given.out.absolute(),
            coverage=given.coverage,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
