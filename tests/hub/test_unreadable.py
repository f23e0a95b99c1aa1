"""What one may not read: the rest is shown, and it is neither damaged nor absent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner
from hub_server import make_program
from huggingface_hub import constants
from unreadable import open_folder, refused

from paw_mlx import hub, store, wheels
from paw_mlx.cli import cli
from paw_mlx.errors import DiskError
from paw_mlx.hub import client
from paw_mlx.hub.repo import Repo


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with two programs, a quantized base, and two bases in the hub's cache."""
    with open_folder() as folder:
        monkeypatch.setenv("PAW_MLX_HOME", str(folder))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        for name in ("triage", "me/brief"):
            store.add(make_program(folder / "one.paw"), name)
        (folder / "cache/bases/x-4bit").mkdir(parents=True)
        (folder / "cache/bases/x-4bit/model.safetensors").write_bytes(bytes(10))
        for owner in ("one", "two"):
            blobs = folder / f"hub/models--{owner}--gpt2/blobs"
            blobs.mkdir(parents=True)
            (blobs / "abc").write_bytes(bytes(10))
        ls()  # what is imported late has to be readable, too
        client.cached(Repo("no/base"))
        yield folder


def ls() -> tuple[dict[str, list[str]], str]:
    """Return the names that `ls` shows, by kind, and what it says besides."""
    done = CliRunner().invoke(cli, ["ls", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    return {kind: [one["name"] for one in found[kind]] for kind in found}, done.stderr


def test_ls_shows_the_rest_and_says_what_is_left_out(home: Path) -> None:
    everything = ls()[0]
    assert everything["programs"] == ["me/brief", "triage"]
    assert everything["bases"] == ["one/gpt2", "two/gpt2", "x-4bit"]
    for closed, kind, left in (
        ("programs/triage", "programs", ["me/brief"]),
        ("programs/me", "programs", ["triage"]),
        ("programs", "programs", []),
        ("hub/models--two--gpt2", "bases", ["one/gpt2", "x-4bit"]),
        ("hub/models--two--gpt2/blobs", "bases", ["one/gpt2", "x-4bit"]),
        ("hub", "bases", ["x-4bit"]),
        ("cache/bases/x-4bit", "bases", ["one/gpt2", "two/gpt2"]),
        ("cache/bases", "bases", ["one/gpt2", "two/gpt2"]),
    ):
        with refused(home / closed):
            found, said = ls()
        assert found == everything | {kind: left}, closed
        assert f"cannot read {home / closed}" in said
        assert "left out" in said


@pytest.mark.parametrize("closed", ["programs/triage", "programs"])
def test_a_program_one_may_not_read_is_not_called_absent(home: Path, closed: str) -> None:
    for ask in (store.find, store.current, hub.resolve_program, hub.resolve_adapter):
        with refused(home / closed), pytest.raises(DiskError, match="Permission denied"):
            ask("triage")


def test_a_mark_one_may_not_read_is_no_other_version(home: Path, other: Path) -> None:
    store.add(other, "triage")
    store.rollback("triage")
    with refused(home / "programs/triage/.current"), pytest.raises(DiskError):
        store.find("triage")


def test_a_base_one_may_not_read_is_not_fetched_again(home: Path) -> None:
    kept = home / "bases/smollm2-135m"
    kept.mkdir(parents=True)
    assert wheels.installed("smollm2-135m") is None
    with refused(kept):
        with pytest.raises(DiskError, match="Permission denied"):
            hub.resolve_base("smollm2-135m")
        told = wheels.damage("smollm2-135m")
    assert told is not None
    assert "Permission denied" in told
    assert "damaged" not in told


def test_a_cache_one_may_not_read_is_one_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = home / "hub/models--one--gpt2/snapshots"
    folder = tiny.write_base(snapshots / ("c0ffee" * 6 + "c0ff"), "gpt2")
    refs = home / "hub/models--one--gpt2/refs"
    refs.mkdir()
    (refs / "main").write_text(folder.name)
    for place in (folder, snapshots):
        with refused(place), pytest.raises(DiskError, match="Permission denied"):
            client.cached(Repo("one/gpt2"))


def test_a_path_one_may_not_follow_is_no_typo(home: Path) -> None:
    base = tiny.write_base(home / "in" / "base", "llama")
    assert hub.resolve_base(str(base)) == base
    with refused(home / "in"):
        for ask in (hub.resolve_base, hub.resolve_program, hub.resolve_compiler):
            with pytest.raises(DiskError, match="Permission denied"):
                ask(str(base))


def test_names_macos_leaves_are_no_versions_and_no_bases(home: Path) -> None:
    for path in ("programs/triage/._v1.paw", "programs/triage/.DS_Store", "bases/.DS_Store"):
        (home / path).parent.mkdir(exist_ok=True)
        (home / path).write_bytes(b"\x00\x05\x16\x07")
    assert ls()[0]["programs"] == ["me/brief", "triage"]
    assert store.find("triage").name == "v1.paw"
    store.remove("triage")
    assert not (home / "programs/triage").exists()
