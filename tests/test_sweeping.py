"""What killed writes have left goes with the next write, and what the living write stays."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paw_mlx import files

ROOT = Path(__file__).parents[1]
WRITING = """
import sys
from pathlib import Path
from paw_mlx.files import replacing

with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("half", flush=True)
    sys.stdin.read()
    temporary.write_bytes(b"whole")
"""
SCRATCH = """
import os, signal, sys
from pathlib import Path
from paw_mlx.files import scratch

with scratch(Path(sys.argv[1])) as folder:
    (folder / "file").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
MANY = """
import sys
from pathlib import Path
from paw_mlx import files

for number in range(200):
    files._swept.clear()
    with files.replacing(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(b"%d" % number)
"""


def start(code: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process write half of a file, and wait; it is killed after the block."""
    process = start(WRITING, path)
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"half\n"
        yield process
        process.kill()


def write(path: Path) -> None:
    """Write a file as a process does that has just begun."""
    files._swept.clear()
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"new")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_old(folder: Path) -> None:
    """Let a folder, and all in it, look as if nobody had changed it for two days."""
    old = time.time() - 2 * files._LEFT_S
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (old, old))


def test_what_a_killed_write_has_left_is_gone_with_the_next(tmp_path: Path) -> None:
    with writing(tmp_path / "file"):
        pass
    assert len(names(tmp_path)) == 1
    write(tmp_path / "other")
    assert names(tmp_path) == ["other"]


def test_the_work_of_a_living_process_stays_whatever_the_clock_says(tmp_path: Path) -> None:
    with writing(tmp_path / "file") as process:
        (folder,) = tmp_path.iterdir()
        make_old(folder)
        write(tmp_path / "other")
        assert names(tmp_path) == sorted([folder.name, "other"])
        assert process.communicate(b"", timeout=60)[1] == b""
    assert names(tmp_path) == ["file", "other"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_many_that_write_and_sweep_at_once_take_nothing_from_each_other(tmp_path: Path) -> None:
    running = [start(MANY, tmp_path / f"{number % 2}") for number in range(4)]
    assert [process.communicate(timeout=120)[1] for process in running] == [b""] * 4
    assert names(tmp_path) == ["0", "1"]
    assert (tmp_path / "0").read_bytes() == b"199"


def test_a_folder_that_nobody_keeps_goes_with_its_block_or_with_the_next(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.scratch(tmp_path) as folder:
        (folder / "none" / "file").write_bytes(b"half")
    assert names(tmp_path) == []
    start(SCRATCH, tmp_path).communicate(timeout=60)
    (left,) = tmp_path.iterdir()
    files._swept.clear()
    with files.scratch(tmp_path) as folder:
        assert [*tmp_path.iterdir()] == [folder] != [left]
    assert names(tmp_path) == []


def test_what_another_machine_or_an_unknown_one_left_is_swept_when_it_is_old(
    tmp_path: Path,
) -> None:
    left = [".file.paw-abcdefgh", ".file.paw-fromafarabcdefgh"]
    others = [".env.backup_1", "x.paw-abcdefgh", ".file.paw-abcdefgh1"]
    for name in (*left, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"half")
        make_old(tmp_path / name)
    for name in left:  # its folder may have been made long ago
        (tmp_path / name / "file").touch()
    write(tmp_path / "file")
    assert names(tmp_path) == sorted(["file", *left, *others])
    for name in left:
        make_old(tmp_path / name)
    write(tmp_path / "file")
    assert names(tmp_path) == sorted(["file", *others])


def test_as_long_a_name_as_ever_can_be_written(tmp_path: Path) -> None:
    longest = 255 - len("..paw-abcdefgh")
    write(tmp_path / ("x" * longest))
    assert names(tmp_path) == ["x" * longest]


def test_what_waits_to_be_put_back_is_not_swept(tmp_path: Path) -> None:
    """A kill between two renames leaves the old one and the new; behind them, the old one alone."""
    with writing(tmp_path / "file"):
        (waits,) = tmp_path.iterdir()
        (waits / ".old").write_bytes(b"somebody's")
    with writing(tmp_path / "other"):
        (replaced,) = (path for path in tmp_path.iterdir() if path != waits)
        (replaced / "other").rename(replaced / ".old")
    write(tmp_path / "third")
    assert names(tmp_path) == sorted([waits.name, "third"])
    write(tmp_path / "file")
    assert names(tmp_path) == ["file", "third"]


def test_where_no_lock_says_who_lives_a_day_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: Any, how: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    with writing(tmp_path / "locked"):
        (locked,) = tmp_path.iterdir()
    with monkeypatch.context() as without_locks:
        without_locks.setattr(fcntl, "flock", flock)
        write(tmp_path / "other")
        assert names(tmp_path) == [locked.name, "other"]
        slow = files.replacing(tmp_path / "file")
        temporary = slow.__enter__()
    temporary.write_bytes(b"slow")
    write(tmp_path / "other")  # there are locks again, and one that nobody could take
    assert names(tmp_path) == [temporary.parent.name, "other"]
    slow.__exit__(None, None, None)
    assert names(tmp_path) == ["file", "other"]
