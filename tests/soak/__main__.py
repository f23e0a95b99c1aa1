"""Soak Python and the daemon in mixed calls: `python -m tests.soak --calls 100000`.

Half of the calls are made in this process, half by a daemon, each between two crowds of 200 threads
and 200 tasks. The exit status is 1 if memory grows, a descriptor or thread is left, a call ends as
it should not, or an answer is not that of a fresh process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"PAW_MLX_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "PAW_OFFLINE": "1"}
TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(folder) for folder in (TESTS / "soak", TESTS / "serving", TESTS)]

import paw_mlx.interpreter  # noqa: E402, F401  loads a BLAS before MLX is

import soak_ways  # noqa: E402  isort: skip

MOST_SLOPE = 64.0  # bytes of memory a call: one kept object is more


def main() -> int:
    """Soak both, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="shared by both ways")
    parser.add_argument("--slope", type=float, default=MOST_SLOPE, help="bytes a call at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    num_faults = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAW_MLX_HOME"] = str(Path(folder, "home"))
        for way in (soak_ways.python, soak_ways.daemon):
            soak, faults = way(Path(folder), given.calls // 2, given.seed)
            slope, error = soak.slope()
            if slope - 2 * error > given.slope:
                faults.append(f"memory grows by {slope:.1f} ± {error:.1f} bytes a call")
            print(f"{way.__name__:7} {soak.told()}\n        {soak.plot()}", flush=True)
            print("".join(f"    {fault}\n" for fault in faults[:20]), end="", flush=True)
            num_faults += len(faults)
    print(f"{given.calls} calls, {num_faults} faults")
    return int(num_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
