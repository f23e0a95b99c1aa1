"""How often `paw-mlx run` ends as it should: many processes, each with an exit code.

    python tests/exit_codes.py [-n 100] [--families gpt2,qwen3]

A process may give a right output and then abort while Python ends (SIGABRT, exit code -6): only
many runs show it. Each runs a tiny random base, as this machine does, and with the choices that
a GPU gets. Prints the exit codes of each kind with their counts; exits with 1 if any is not 0,
or an output is not the first one's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import tiny

from paw_mlx import formats

PLAIN = "from paw_mlx.__main__ import main; main()"
ASSUMED = f"from paw_mlx.device import assume_gpu\nwith assume_gpu():\n    {PLAIN}"
KINDS = {"as it is": PLAIN, "as on a GPU": ASSUMED}
_LIMIT_S = 120


def main() -> None:
    """Run all kinds, print what each ended with, and exit accordingly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=100, help="runs of each kind (100)")
    parser.add_argument("--families", default="gpt2,qwen3", help="bases (gpt2,qwen3)")
    given = parser.parse_args()
    sound = True
    with tempfile.TemporaryDirectory() as folder:
        for family in given.families.split(","):
            words = _make(Path(folder, family), family)
            for kind, code in KINDS.items():
                codes, outputs, last = _run(code, words, given.n)
                told = ", ".join(f"{code}: {times}" for code, times in sorted(codes.items()))
                differ = "" if len(outputs) == 1 else f"; {len(outputs)} different outputs"
                print(f"{family}, {kind}: exit codes {{{told}}}{differ}", flush=True)
                if set(codes) != {0} or differ:
                    sound = False
                    print(last.decode(errors="replace"), file=sys.stderr)
    sys.exit(0 if sound else 1)


def _make(folder: Path, family: str) -> list[str]:
    """Write a tiny base and a program; return the command's words that run it."""
    base, program = tiny.write_base(folder / "base", family), folder / "program.paw"
    formats.save(tiny.program(family), program, "f16", profile=tiny.profile(family))
    words = ["run", str(program), "the disk is full", "--interpreter", str(base)]
    return [*words, "--max-tokens", "8"]


def _run(code: str, words: list[str], num: int) -> tuple[Counter[int], set[bytes], bytes]:
    """Return the exit codes of so many runs, their outputs, and the last error's words."""
    codes: Counter[int] = Counter()
    outputs, last = set(), b""
    for _ in range(num):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
        codes[done.returncode] += 1
        outputs.add(done.stdout)
        last = done.stderr if done.returncode else last
    return codes, outputs, last


if __name__ == "__main__":
    main()
