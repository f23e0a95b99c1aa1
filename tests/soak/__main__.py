"""Soak Python, the daemon and HTTP in mixed calls: `python -m tests.soak --calls 100000`.

So many calls are made in this process, by a daemon, and over HTTP, each between two crowds of 200
threads and 200 tasks; then an interpreter is opened anew for every hundredth of as many. The exit
status is 1 if memory grows, a descriptor or thread is left, a call ends as it should not, or an
answer is not that of a fresh process.

The daemon and the server run without the C library's caches of freed memory, which it has for each
thread: theirs fill for some 100,000 calls, by 20 bytes a call, and hide what is kept for good.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {
    "PAW_MLX_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
    "PAW_OFFLINE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1",  # of children
}
TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(folder) for folder in (TESTS / "soak", TESTS / "serving", TESTS)]

import paw_mlx.interpreter  # noqa: E402, F401  loads a BLAS before MLX is

import soak_ways  # noqa: E402  isort: skip

MOST_SLOPE = 64.0  # bytes of memory a call: one kept object is more. So few need 100,000 calls


def main() -> int:
    """Soak each way, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="of each way")
    parser.add_argument("--slope", type=float, default=MOST_SLOPE, help="bytes a call at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    num_faults = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAW_MLX_HOME"] = str(Path(folder, "home"))
        for way in (soak_ways.python, soak_ways.daemon, soak_ways.http, soak_ways.openings):
            soak, faults = way(Path(folder), given.calls, given.seed)
            slope, error = soak.slope()
            if slope - 2 * error > given.slope:
                faults.append(f"memory grows by {slope:.1f} ± {error:.1f} bytes a call")
            print(f"{way.__name__:8} {soak.told()}\n        {soak.plot()}", flush=True)
            print("".join(f"    {fault}\n" for fault in faults[:20]), end="", flush=True)
            num_faults += len(faults)
    print(f"{num_faults} faults")
    return int(num_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
