"""What a killed pull left in the hub's cache is believed by nobody until it is checked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, serving_hub
from huggingface_hub.utils import WeakFileLock

from paw_mlx.hub import hashes, unchecked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MAIN = "from paw_mlx.__main__ import main; main()"
# Everything has come, and nothing is checked: here it is killed.
HELD = """
import time
from paw_mlx.hub import hashes
def check(*_):
    print("came", flush=True)
    time.sleep(100)
hashes.check = check
"""
BASE = {
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "model.safetensors": bytes(range(256)) * 4096,
}
UNCHECKED = "what came of it was not yet checked against its hashes"
Pull = Callable[..., dict[str, Any]]


@pytest.fixture
def server() -> Iterator[Hub]:
    ggufs = {"q4.gguf": b"GGUF four", "q8.gguf": b"GGUF eight"}
    with serving_hub(Hub(repos={"org/base": BASE, "org/ggufs": ggufs})) as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


def start(env: dict[str, str], *arguments: str, before: str = "") -> subprocess.Popen[str]:
    """Start `paw-mlx pull --json`."""
    return subprocess.Popen(
        [sys.executable, "-c", before + MAIN, "pull", "--json", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert "Traceback" not in stderr, stderr
    result: dict[str, Any] = json.loads(stdout)
    return result


@pytest.fixture
def pull(env: dict[str, str]) -> Pull:
    def run(*arguments: str, **extra: str) -> dict[str, Any]:
        return result_of(start(env | extra, *arguments))

    return run


def start_held(env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a pull that waits when all has come, before anything is checked."""
    process = start(env, *arguments, before=HELD)
    assert process.stdout is not None
    assert process.stdout.readline() == "came\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("links", ["with links", "without links"])
def test_what_a_killed_pull_left_is_not_believed_and_the_next_pull_mends_it(
    pull: Pull, env: dict[str, str], server: Hub, cache: Path, links: str
) -> None:
    name = "model.safetensors"
    if links == "without links":
        env["HF_HUB_DISABLE_SYMLINKS"] = "1"
    server.damaged.add(name)
    kill(start_held(env, "org/base"))
    damaged = bytes([BASE[name][0] ^ 1]) + BASE[name][1:]
    assert damaged in [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    error = pull("org/base", PAW_OFFLINE="1")["error"]
    assert error["code"] == "OfflineError"
    assert error["message"] == f"offline, and org/base is not on this machine: {UNCHECKED}"
    assert "paw-mlx pull org/base" in error["hints"][0]
    server.damaged.clear()
    server.log.clear()
    folder = Path(pull("org/base")["path"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == BASE
    fetched = [path for method, path, _ in server.log if method == "GET" and "resolve" in path]
    assert [path.rpartition("/")[2] for path in fetched] == [name]
    server.log.clear()
    assert pull("org/base")["path"] == str(folder)
    assert server.log == []


def test_what_lay_there_before_a_killed_pull_stays_in_use(
    pull: Pull, env: dict[str, str], server: Hub
) -> None:
    first = pull("org/ggufs/q4.gguf")["path"]
    server.damaged.add("q8.gguf")
    kill(start_held(env, "org/ggufs/q8.gguf"))
    assert pull("org/ggufs/q4.gguf", PAW_OFFLINE="1")["path"] == first
    error = pull("org/ggufs/q8.gguf", PAW_OFFLINE="1")["error"]
    assert error["message"].endswith(UNCHECKED)
    server.damaged.clear()
    assert Path(pull("org/ggufs/q8.gguf")["path"]).read_bytes() == b"GGUF eight"
    assert pull("org/ggufs/q8.gguf", PAW_OFFLINE="1")["path"]


def test_a_pull_of_another_file_removes_what_a_killed_one_left_damaged(
    pull: Pull, env: dict[str, str], server: Hub, cache: Path
) -> None:
    server.damaged.add("q8.gguf")
    kill(start_held(env, "org/ggufs/q8.gguf"))
    assert pull("org/ggufs/q4.gguf")["path"]
    assert not [path for path in cache.rglob("*.gguf") if path.name == "q8.gguf" and path.exists()]
    error = pull("org/ggufs/q8.gguf", PAW_OFFLINE="1")["error"]
    assert error["message"].endswith("q8.gguf missing")


def test_a_pull_that_waits_for_another_checks_what_that_one_left_when_it_is_killed(
    pull: Pull, env: dict[str, str], server: Hub
) -> None:
    server.damaged.add("model.safetensors")
    first = start_held(env, "org/base")
    second = start(env, "org/base")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(2)
    server.damaged.clear()
    kill(first)
    folder = Path(result_of(second)["path"])
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert pull("org/base", PAW_OFFLINE="1")["path"] == str(folder)


def test_a_pull_that_waited_for_another_asks_nobody_again(env: dict[str, str], server: Hub) -> None:
    going_on = HELD.replace("time.sleep(100)", "input(); original(*_)")
    going_on = going_on.replace("def check", "original = hashes.check\ndef check")
    first = subprocess.Popen(
        [sys.executable, "-c", going_on + MAIN, "pull", "--json", "org/base"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "came\n"
    second = start(env, "org/base")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(2)
    num_asked = len(server.log)
    first.stdin.write("\n")
    assert result_of(first)["path"] == result_of(second)["path"]
    assert len(server.log) == num_asked


def test_a_killed_pull_into_a_home_that_cannot_be_written_is_not_believed_either(
    pull: Pull, env: dict[str, str], server: Hub, tmp_path: Path
) -> None:
    (tmp_path / "paw").write_text("in the way")
    server.damaged.add("model.safetensors")
    kill(start_held(env, "org/base"))
    elsewhere = {"PAW_MLX_HOME": str(tmp_path / "other")}  # a home that shares the cache
    for home in ({}, elsewhere):
        error = pull("org/base", PAW_OFFLINE="1", **home)["error"]
        assert error["message"].endswith(UNCHECKED)


def test_parts_of_files_go_with_the_next_pull_unless_somebody_fetches_them(
    pull: Pull, env: dict[str, str], cache: Path
) -> None:
    folder, etags = cache / "models--org--base", ("dead", "alive")
    kill(start_held(env, "org/base"))
    parts = [folder / "blobs" / f"{etag}.0123abcd.incomplete" for etag in etags]
    going_on = folder / "blobs" / "dead.incomplete"  # which an older huggingface_hub would do
    for part in (*parts, going_on):
        part.write_bytes(b"half")
    with WeakFileLock(cache / ".locks" / folder.name / "alive.lock"):
        assert pull("org/base")["path"]
        assert [part.exists() for part in (*parts, going_on)] == [False, True, True]


def test_a_pull_of_nothing_leaves_no_folder(pull: Pull, cache: Path) -> None:
    assert pull("org/missing")["error"]["code"] == "NotFound"
    assert not [path.name for path in cache.iterdir() if "missing" in path.name]


@pytest.mark.parametrize("text", ["", "[]", '{"there before": [[1, 2], [{}]]}', "[" * 100_000])
def test_of_a_damaged_mark_nothing_is_believed(tmp_path: Path, text: str) -> None:
    blob = tmp_path / "blobs" / "abc"
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    assert not unchecked.is_unchecked(tmp_path, [blob])
    (tmp_path / ".paw-mlx-unchecked").write_text(text)
    assert unchecked.is_unchecked(tmp_path, [blob])


def test_what_is_checked_is_on_the_disk_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, synced, fsync = tmp_path / "models--x", list[tuple[int, bool]](), os.fsync
    blob = folder / "blobs" / hashlib.sha256(b"x").hexdigest()

    def note(number: int) -> None:
        synced.append((os.fstat(number).st_ino, unchecked.is_unchecked(folder, [blob])))
        fsync(number)

    with unchecked.arriving(folder, lambda left: None):
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"x")
        monkeypatch.setattr(os, "fsync", note)
        hashes.check([blob], lambda path: path.name, "it")
    assert synced == [(blob.stat().st_ino, True)]
    assert not unchecked.is_unchecked(folder, [blob])
