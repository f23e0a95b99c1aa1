"""A large Parquet file is mapped in the memory that a small one takes. Ten seconds a format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

pytestmark = pytest.mark.slow

SMALL, LARGE, CELL_BYTES = 200, 2_000, 100_000
MOST_MORE = 100_000_000
HERE = Path(__file__).parent

CHILD = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from parquet_rows import peak_bytes
from sqlite_rows import shout
shout(Path(sys.argv[1]), Path(sys.argv[2]), field="text")
print(peak_bytes())
"""


def write_large(path: Path, num_rows: int) -> Path:
    """Few inputs that differ, each beside 100 KB that nothing makes smaller."""
    schema = pa.schema([("text", pa.string()), ("data", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(num_rows // 100):
            data = [os.urandom(CELL_BYTES) for _ in range(100)]
            text = [f"the disk {number}" for number in range(100)]
            writer.write_table(pa.table([text, data], schema=schema))
    return path


def peak_bytes(file: Path, out: Path) -> int:
    """The most memory that a process took that mapped a file."""
    places = [str(file), str(out), str(HERE), str(HERE.parent)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *places], capture_output=True, text=True, timeout=120
    )
    assert not done.stderr
    out.unlink()
    return int(done.stdout)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    small, large = (
        peak_bytes(write_large(tmp_path / f"{num_rows}.parquet", num_rows), out)
        for num_rows in (SMALL, LARGE)
    )
    assert large < small + MOST_MORE, (small, large)
