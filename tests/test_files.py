"""Atomic writes survive whatever interrupts them; settings put files where they belong."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from unreadable import open_folder, refused

from paw_mlx import files, locks, settings
from paw_mlx.errors import DiskError, NotFound
from paw_mlx.files import bytes_in, exists, find_files, is_litter, replacing

ROOT = Path(__file__).parents[1]


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, NotFound])
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_stood_there_survives_an_interruption(
    tmp_path: Path, error: type[BaseException], is_folder: bool
) -> None:
    path = tmp_path / "target"
    if is_folder:
        path.mkdir()
        (path / "member").write_bytes(b"old")
    else:
        path.write_bytes(b"old")

    def interrupted(half: Path) -> None:
        half.write_bytes(b"half")
        raise error("stopped")

    with pytest.raises(error), replacing(path) as temporary:
        interrupted(temporary)
    assert (path / "member" if is_folder else path).read_bytes() == b"old"
    assert names(tmp_path) == ["target"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_bytes(b"")
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_takes_a_place_is_on_the_disk_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_folder: bool
) -> None:
    """Or a machine that loses its power has the new name, and nothing in it."""
    path = tmp_path / "target"
    inside = ["a", "in/b"] if is_folder else [""]
    synced: list[int] = []

    def write(data: bytes) -> None:
        with replacing(path) as temporary:
            for name in inside:
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).write_bytes(data)

    def fsync(number: int) -> None:
        assert {(path / name).read_bytes() for name in inside} == {b"old"}
        assert os.pread(number, 9, 0) == b"new"
        synced.append(os.fstat(number).st_ino)

    write(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    write(b"new")
    assert sorted(synced) == sorted((path / name).stat().st_ino for name in inside)


FOLDERS = """
import os, signal, sys
from pathlib import Path
from paw_mlx import files

def write(path, name, fails=False):
    with files.replacing(path) as temporary:
        temporary.mkdir()
        (temporary / name).write_bytes(b"")
        if fails:
            raise ValueError

def kill_at_rename(number):
    seen = []
    def hook(event, args):
        if event == "os.rename":
            seen.append(event)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

path, swaps = Path(sys.argv[1]), sys.argv[2] == "swaps"
write(path, "old")
if not swaps:
    files._swap = lambda one, other: False  # as on a disk that cannot
for number in (1, 2):
    child = os.fork()
    if not child:
        kill_at_rename(number)
        write(path, "new")
        os._exit(0)
    os.waitpid(child, 0)
    print(*(os.listdir(path) if path.exists() else ["gone"]))
try:
    write(path, "newer", fails=True)
except ValueError:
    print(*os.listdir(path))
"""


@pytest.mark.parametrize(
    ("how", "found"), [("swaps", "new new new"), ("renames", "old gone old")], ids=str
)
def test_a_folder_is_never_gone_where_disks_swap_and_comes_back_elsewhere(
    tmp_path: Path, how: str, found: str
) -> None:
    path = tmp_path / "folder [1]"
    done = subprocess.run(
        [sys.executable, "-c", FOLDERS, str(path), how],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == found.split()


def test_a_block_that_writes_nothing_removes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(DiskError, match="cannot write"), replacing(path):
        pass
    assert names(tmp_path) == ["folder"]


def test_a_disk_that_refuses_is_one_sentence_and_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from paw_mlx.errors import DiskError; from paw_mlx.files import replacing;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    with replacing(Path(sys.argv[1])) as file: file.write_bytes(bytes(1 << 20))\n"
        "except DiskError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"cannot write {path}: File too large\n"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below", b"")


def test_hidden_files_and_folders_are_not_found(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "._a.json", ".hidden.json", "a.txt", "in/c.json", ".x/d.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    assert find_files(tmp_path, "*.json") == [tmp_path / "a.json", tmp_path / "b.json"]
    assert find_files(tmp_path, "*.json", below=True)[-1] == tmp_path / "in/c.json"
    assert find_files(tmp_path / "none", "*") == find_files(tmp_path / "a.txt", "*") == []
    assert [is_litter(name) for name in ("._a", ".DS_Store", "__MACOSX", ".a", "a")] == (
        [True] * 3 + [False] * 2
    )
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    assert bytes_in(tmp_path) == 7 * 4


def test_a_refusal_to_read_is_told_from_absence() -> None:
    with open_folder() as folder:
        (folder / "in").mkdir()
        (folder / "in" / "file").write_bytes(b"")
        assert exists(folder / "in" / "file")
        assert not exists(folder / "in" / "none")
        assert not exists(folder / ("x" * 5000))
        with refused(folder / "in"):
            for ask in (lambda p: exists(p / "file"), lambda p: find_files(p, "*"), bytes_in):
                with pytest.raises(DiskError, match=r"cannot read .*in.*: Permission denied"):
                    ask(folder / "in")


def test_macos_settings_are_the_way_out_of_its_own_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DiskError) as caught, files.read_errors(tmp_path):
        raise PermissionError(errno.EPERM, "Operation not permitted", "/Users/me/Desktop/a.paw")
    assert str(caught.value) == "cannot read /Users/me/Desktop/a.paw: Operation not permitted"
    assert "Privacy & Security" in caught.value.hints[0]


LOCKED = """
import sys, time
from pathlib import Path
from paw_mlx import locks

with locks.locked(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(float(sys.argv[2]))
    print("done", time.monotonic(), flush=True)
"""


def no_locks_at(where: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let flock answer below a folder as a disk without locks does; return what was asked."""
    real, asked = fcntl.flock, []

    def flock(file: Any, how: int) -> None:
        asked.append(Path(file.name))
        if asked[-1].is_relative_to(where):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    return asked


def test_a_lock_keeps_other_processes_waiting(tmp_path: Path) -> None:
    start = [sys.executable, "-c", LOCKED, str(tmp_path / "in" / ".lock"), "0.3"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    first, second = (
        subprocess.Popen(start, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    ends = [float(process.communicate()[0].split()[-1]) for process in (first, second)]
    assert abs(ends[0] - ends[1]) >= 0.29


def test_on_a_disk_without_locks_this_machine_still_keeps_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    asked = no_locks_at(tmp_path / "disk", monkeypatch)
    path = tmp_path / "disk" / "rows.part"
    with locks.locked(path):
        assert [one.parent.parent.name for one in asked] == [tmp_path.name, "tmp"]
        assert asked[1].parent.stat().st_mode & 0o777 == 0o700
        with path.open("ab") as file, pytest.raises(BlockingIOError):
            locks.lock(file, path, wait=False)
        with (tmp_path / "disk" / "other").open("ab") as file:
            locks.lock(file, tmp_path / "disk" / "other", wait=False)
            locks.unlock(file)
    with path.open("ab") as file:
        locks.lock(file, path, wait=False)
        locks.unlock(file)
    assert not locks._standing_in


def test_where_nothing_can_be_locked_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks_at(Path("/"), monkeypatch)
    with locks.locked(tmp_path / ".lock"):
        pass
    monkeypatch.setattr(fcntl, "flock", lambda *_: Path("/nowhere").stat())
    with pytest.raises(DiskError, match="cannot write in"), locks.locked(tmp_path / ".lock"):
        pass


def test_a_forked_child_does_not_keep_its_parents_locks(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from paw_mlx import locks\n"
        "path = Path(sys.argv[1])\n"
        "with locks.locked(path):\n"
        "    child = os.fork()\n"
        "    if not child: time.sleep(5); os._exit(0)\n"
        "with path.open('ab') as file:\n"
        "    locks.lock(file, path, wait=False)\n"
        "os.kill(child, 9); os.waitpid(child, 0)\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / ".lock")], env=env, check=True)


def test_one_variable_moves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path))
    assert settings.data_dir() == tmp_path
    assert settings.cache_dir() == tmp_path / "cache"


def test_without_it_each_system_has_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAW_MLX_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "prefix", "/nowhere/.venv")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert settings.data_dir() == Path("/home/me/Library/Application Support/paw-mlx")
    assert settings.cache_dir() == Path("/home/me/Library/Caches/paw-mlx")
    monkeypatch.setattr(sys, "platform", "linux")
    assert settings.data_dir() == Path("/home/me/.local/share/paw-mlx")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert settings.data_dir() == Path("/data/paw-mlx")


def test_what_make_set_up_in_a_checkout_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PAW_MLX_HOME")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert settings.data_dir() != tmp_path / ".paw"
    (tmp_path / ".paw").mkdir()
    assert settings.data_dir() == tmp_path / ".paw"
    assert settings.cache_dir() == tmp_path / ".paw/cache"
    monkeypatch.setenv("PAW_MLX_HOME", "/elsewhere")
    assert settings.data_dir() == Path("/elsewhere")


@pytest.mark.parametrize("name", ["PAW_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False)])
def test_offline_is_a_switch(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: bool
) -> None:
    assert not settings.offline()
    monkeypatch.setenv(name, value)
    assert settings.offline() is expected


def test_the_service_is_off_until_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAW_API_URL", raising=False)
    monkeypatch.delenv("PAW_API_KEY", raising=False)
    assert settings.service() is None
    monkeypatch.setenv("PAW_API_URL", "https://example.org/")
    assert settings.service() == ("https://example.org", "")
    monkeypatch.setenv("PAW_API_KEY", "secret")
    assert settings.service() == ("https://example.org", "secret")


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_locks_do_not_go_to_a_folder_that_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"paw-mlx-{os.getuid()}"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(DiskError, match="not this user's alone"), locks.locked(tmp_path / "lock"):
        pass
    assert not [*folder.iterdir()]
