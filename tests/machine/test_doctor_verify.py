"""`paw-mlx doctor --verify`: the bytes of what is installed, and what is said where they differ."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from paw_mlx import hub, settings, store, wheels
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.machine.doctor import OK, PROBLEM, WARNING, Check
from paw_mlx.machine.verify import verify

CALL = "from paw_mlx.cli.doctor import command; command(prog_name='paw-mlx doctor')"


def found() -> list[Check]:
    """What is damaged; what is said of the rest comes last, and is checked here."""
    *damaged, last = verify(hub.installed())
    assert (last.name, last.state) == ("verify", OK)
    assert last.message.startswith("sound: ")
    return damaged


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_with_nothing_installed_nothing_is_wrong():
    assert found() == []


def test_a_base_out_of_a_wheel_is_held_to_its_pinned_checksum(monkeypatch):
    name, data = "smollm2-135m", b"GGUF and more"
    pinned = replace(
        wheels.WHEELS[name],
        member_bytes=len(data),
        member_sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(wheels.WHEELS, name, pinned)
    path = settings.data_dir() / "bases" / name / Path(pinned.member).name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert found() == []
    flip(path)
    assert wheels.installed(name)  # by its size
    (check,) = found()
    assert check.state == PROBLEM
    assert check.message.startswith(f"{path} is damaged: it has the SHA-256 ")
    assert check.hint == f"paw-mlx rm {name}; paw-mlx pull {name}"


@pytest.fixture
def cached(tmp_path, monkeypatch) -> dict[str, Path]:
    """A repo in the hub's cache, as huggingface_hub lays it down: links to blobs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repo = tmp_path / "hub" / "models--openai-community--gpt2"
    (repo / "blobs").mkdir(parents=True)
    folder = repo / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    blobs = {}
    for file, data in (("config.json", b"{}"), ("model.safetensors", bytes(1000))):
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        name = git if file == "config.json" else hashlib.sha256(data).hexdigest()
        blobs[file] = repo / "blobs" / name
        blobs[file].write_bytes(data)
        (folder / file).symlink_to(f"../../blobs/{name}")
    return blobs


@pytest.mark.parametrize(
    ("file", "kind"), [("config.json", "SHA-1"), ("model.safetensors", "SHA-256")]
)
def test_a_file_of_the_hubs_cache_is_held_to_its_name(cached, file, kind):
    assert found() == []
    flip(cached[file])
    (check,) = found()
    assert check.state == PROBLEM
    assert f"{file} is damaged: it has the {kind} " in check.message
    assert check.hint == "paw-mlx rm openai-community/gpt2; paw-mlx pull openai-community/gpt2"
    cached[file].unlink()
    (check,) = found()
    assert (check.state, check.message[:13]) == (PROBLEM, "no such file:")


def test_what_was_made_here_has_sound_headers_and_programs_load(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    load_base(folder, bits=4)
    store.add(tiny.program("llama"), "triage", dtype="f32", profile=tiny.profile("llama"))
    assert found() == []
    (kept,) = (settings.cache_dir() / "bases").glob("base-*")
    weights = kept / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    program = store.find("triage")
    program.write_bytes(program.read_bytes()[:-100])
    base, broken = found()
    assert (base.state, base.hint) == (PROBLEM, f"paw-mlx rm {kept.name}")
    assert base.message.startswith(f"{weights}: the tensor ")
    assert (broken.state, broken.hint) == (PROBLEM, "paw-mlx rm triage@v1")
    done = subprocess.run(
        [sys.executable, "-c", CALL, "--verify", "--json"], capture_output=True, text=True
    )
    checks = [one for one in json.loads(done.stdout)["checks"] if one["name"] == "verify"]
    assert (done.returncode, [one["state"] for one in checks]) == (1, [PROBLEM, PROBLEM, OK])


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    load_base(tiny.write_base(tmp_path / "base", "llama"), bits=4)
    opened = Path.open

    def refuse(path, *args, **keys):
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **keys)

    monkeypatch.setattr(Path, "open", refuse)
    (check,) = found()
    assert check.state == WARNING
    assert "damaged" not in check.message
