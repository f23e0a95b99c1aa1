"""Where the daemon lives: other users, links, full disks, what it finds there and leaves."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Place
from shell import SCRIPT

import paw_mlx as paw
from paw_mlx.client import places

pytestmark = pytest.mark.slow

TEXT = "the disk is full"
NOBODY = 65534
PYTHON = "/usr/bin/python3"  # that of the tests may lie where only we can read
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or not Path(PYTHON).exists(),
    reason="only root can be another user, whom this Python lets run it",
)


@pytest.fixture(autouse=True)
def inside(apart: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", apart.environment["PAW_MLX_HOME"])


@pytest.fixture
def open_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home in a folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setenv("PAW_MLX_HOME", str(folder))
    yield folder
    shutil.rmtree(folder)


def as_nobody(code: str, *words: object) -> subprocess.CompletedProcess[bytes]:
    """Run Python as a user who has nothing to do with us."""
    command = [PYTHON, "-c", code, *map(str, words)]
    return subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, timeout=60
    )


@needs_root
def test_another_user_is_hung_up_on_even_where_the_folder_is_open(
    apart: Place, open_home: Path
) -> None:
    moved = replace_home(apart, open_home)
    with moved.daemon():
        code = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendall(b'PAWD'); print(s.recv(9))"
        )
        refused = as_nobody(code, places.socket_path())
        assert b"PermissionError" in refused.stderr
        places.folder().chmod(0o777)
        places.socket_path().chmod(0o777)
        refused = as_nobody(code, places.socket_path())
        ends = (b"b''\n", b"BrokenPipeError", b"ConnectionResetError")
        assert any(end in refused.stdout + refused.stderr for end in ends)
        log = places.log_path().read_text()
        assert '"event": "refused", "uid": 65534' in log
        places.folder().chmod(0o700)
        assert moved.status()["running"]


@needs_root
def test_another_users_socket_is_not_talked_to(apart: Place, open_home: Path) -> None:
    places.make_folder()
    places.folder().chmod(0o777)
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
        "print('listens', flush=True)\n"
        "while True: print(s.accept()[0].recv(100), flush=True)"
    )
    command = [PYTHON, "-c", code, str(places.socket_path())]
    with subprocess.Popen(
        command, user=NOBODY, group=NOBODY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listening:
        assert listening.stdout
        listening.stdout.readline()
        moved = replace_home(apart, open_home)
        for owner in (NOBODY, 0):  # its own, or made to look like ours
            os.chown(places.socket_path(), owner, owner)
            done = moved.call("run", apart.folder / "one.paw", TEXT)
            assert (done.returncode, done.stdout) == (1, b"")
            assert "nobody is trusted" in done.stderr
            local = moved.call("run", apart.folder / "one.paw", TEXT, "--local")
            assert local.returncode == 0
        listening.kill()
        assert {*listening.communicate()[0].splitlines()} == {b"b''"}  # it heard nothing


def replace_home(place: Place, home: Path) -> Place:
    """Return a place in another home, with the same base."""
    moved = object.__new__(Place)
    moved.folder, moved.base = place.folder, place.base
    moved.environment = place.environment | {"PAW_MLX_HOME": str(home)}
    return moved


def test_a_folder_where_others_may_write_is_refused(apart: Place) -> None:
    folder = places.make_folder()
    folder.chmod(0o770)
    done = apart.paw("daemon", "start")
    assert (done.returncode, "chmod 700" in done.stderr) == (1, True)
    folder.chmod(0o755)
    with apart.daemon():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_lies_in_the_sockets_place_is_in_nobodys_way(apart: Place) -> None:
    target = apart.folder / "precious"
    target.write_text("precious")
    path = places.make_folder() / "daemon.sock"
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    assert apart.call("run", "one", TEXT).returncode == 0
    with apart.daemon():
        assert not path.is_symlink()
    assert target.read_text() == "precious"
    path.mkdir()
    done = apart.paw("daemon", "run")
    assert (done.returncode, done.stderr.startswith("error: cannot ")) == (1, True)
    assert apart.call("run", "one", TEXT).returncode == 0
    path.rmdir()


def test_a_daemon_whose_socket_was_taken_away_leaves(apart: Place) -> None:
    with apart.daemon() as process:
        places.socket_path().unlink()
        assert process.wait(20) == 0
    with apart.daemon() as old:
        places.folder().rename(apart.folder / "moved")
        with apart.daemon() as new:
            assert old.wait(20) == 0
            assert apart.status()["pid"] == new.pid
    shutil.rmtree(apart.folder / "moved")


def test_a_home_of_a_long_path_has_a_daemon_too(apart: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        home = apart.folder / ("long" * 30)
        patch.setenv("PAW_MLX_HOME", str(home))
        moved = replace_home(apart, home)
        assert len(os.fsencode(places.socket_path())) < 104
        with moved.daemon():
            done = moved.call("run", apart.folder / "one.paw", TEXT)
            assert moved.status()["num_calls"] == 1
            assert done == moved.call("run", apart.folder / "one.paw", TEXT, "--local")
            above = places.folder().parent
            assert [stat.S_IMODE(one.stat().st_mode) for one in (places.folder(), above)] == [
                0o700
            ] * 2
        shutil.rmtree(places.folder())


@needs_root
def test_a_folder_above_that_another_user_made_is_refused(
    apart: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = apart.folder / "tmp"
    (temporary / f"paw-mlx-{os.getuid()}").mkdir(parents=True)
    os.chown(temporary / f"paw-mlx-{os.getuid()}", NOBODY, NOBODY)
    monkeypatch.setattr(places, "_TEMPORARY", temporary)
    monkeypatch.setenv("PAW_MLX_HOME", str(apart.folder / ("long" * 30)))
    with pytest.raises(paw.DaemonError, match="belongs to user 65534"):
        places.make_folder()


def test_a_home_that_cannot_be_written_has_no_daemon(apart: Place) -> None:
    moved = replace_home(apart, Path("/dev/null/home"))
    for words in (("start",), ("run",)):
        done = moved.paw("daemon", *words)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: cannot write /dev/null/home")
    assert moved.paw("daemon", "stop").stdout == b"no daemon runs\n"
    assert moved.paw("daemon", "status").returncode == 1
    assert moved.call("run", apart.folder / "one.paw", TEXT).returncode == 0


def test_a_disk_that_is_full_fails_the_call_and_not_the_daemon(apart: Place) -> None:
    """ulimit stands in for a full disk: no file may have more than 24 kB."""
    words = ["bash", "-c", 'ulimit -f 24; exec "$@"', "-", *SCRIPT, "daemon", "run"]
    with subprocess.Popen(words, env=apart.environment, stderr=subprocess.PIPE) as process:
        wait_for(apart)
        for command in ("run", "map"):
            rows = apart.folder / "row.txt"
            rows.write_text(f"{TEXT}\n")
            asked = TEXT if command == "run" else rows
            done = apart.call(command, "one", asked)
            assert done.returncode == 1, done
            assert "error: cannot write" in done.stderr
            assert "File too large" in done.stderr
        assert [*(places.folder() / "programs").iterdir()] == []
        assert apart.status()["running"]
        process.terminate()
        assert process.communicate(timeout=30)[1] == b""


def test_a_log_that_cannot_be_written_is_no_reason_to_stop(apart: Place) -> None:
    with apart.daemon() as process:
        process.terminate()
        process.communicate(timeout=30)
    places.log_path().unlink()
    places.log_path().symlink_to("/dev/full")
    with apart.daemon() as process:
        assert apart.call("run", "one", TEXT).returncode == 0
        assert apart.status()["num_calls"] == 1
        process.terminate()
        assert process.communicate(timeout=30)[1] == b""
    places.log_path().unlink()


def test_a_daemon_that_stands_still_can_be_stopped(apart: Place) -> None:
    with apart.daemon() as process:
        process.send_signal(signal.SIGSTOP)
        assert apart.paw("daemon", "stop").stdout == b"stopped\n"
        assert process.wait(20) == 0


def test_what_a_killed_daemon_kept_on_the_disk_is_removed(apart: Place) -> None:
    with apart.daemon():
        apart.call("run", "one", TEXT)
        assert len([*(places.folder() / "programs").iterdir()]) == 1
        apart.kill()
    with apart.daemon():
        assert not (places.folder() / "programs").exists()


def test_the_end_hears_out_its_callers(apart: Place) -> None:
    """Calls under way are answered, and what comes after that is not begun."""
    with apart.daemon() as process:
        fn = paw.connect().function("one", interpreter=str(apart.base))
        futures = [fn.submit(f"{TEXT} {number}", max_tokens=100) for number in range(100)]
        futures[0].result()
        process.terminate()
        answered = [future.exception(timeout=60) for future in futures]
        assert process.wait(20) == 0
        assert answered.count(None) == 100
        with pytest.raises(paw.DaemonError):
            fn(TEXT)
        fn.runner.close()


def wait_for(place: Place) -> None:
    deadline = time.monotonic() + 30
    while place.paw("daemon", "status").returncode and time.monotonic() < deadline:
        time.sleep(0.05)
