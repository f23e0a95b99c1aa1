"""Atomic writes survive whatever interrupts them; settings put files where they belong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paw_mlx import settings
from paw_mlx.errors import DiskError, NotFound
from paw_mlx.files import replacing

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


def test_one_variable_moves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path))
    assert settings.data_dir() == tmp_path
    assert settings.cache_dir() == tmp_path / "cache"


def test_without_it_each_system_has_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAW_MLX_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert settings.data_dir() == Path("/home/me/Library/Application Support/paw-mlx")
    assert settings.cache_dir() == Path("/home/me/Library/Caches/paw-mlx")
    monkeypatch.setattr(sys, "platform", "linux")
    assert settings.data_dir() == Path("/home/me/.local/share/paw-mlx")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert settings.data_dir() == Path("/data/paw-mlx")


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
