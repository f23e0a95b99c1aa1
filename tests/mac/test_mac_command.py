"""`paw-mlx mac`: what a user sees."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from made_for_mac import LABELS, stored
from shell import SCRIPT, Paw, inside

from paw_mlx import settings
from paw_mlx.mac import register


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Paw:
    return inside(monkeypatch, capfdbinary)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    stored("mail", labels=LABELS)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_function_is_installed_listed_and_removed(call, home):
    assert "nothing is installed" in call("mac", "ls").stderr
    words = ("mail", "--as", "quick-action", "--home", home)
    done = call("mac", "install", *words, "--yes")
    place = home / "Library" / "Services" / "mail.workflow"
    assert done.stdout.decode().splitlines() == [
        f"wrote {place}/Contents/Info.plist",
        f"wrote {place}/Contents/document.wflow",
    ]
    assert "Services > mail." in done.stderr
    assert "On the Mac it is for: /System/Library/CoreServices/pbs -flush" in done.stderr
    assert call("mac", "ls").stdout.decode().splitlines() == [
        "NAME  AS            STATE       WHERE",
        f"mail  quick-action  as written  {place}",
    ]
    (place / "Contents" / "Info.plist").write_text("mine")
    (told,) = json.loads(call("mac", "ls", "--json").stdout)["installed"]
    assert (told["name"], told["as"], told["state"]) == ("mail", "quick-action", "changed")
    refused = call("mac", "remove", "mail", "--yes")
    assert refused.returncode == 1
    assert "Info.plist was changed since it was installed" in refused.stderr
    assert "hint: Keep a copy; --force" in refused.stderr
    removed = call("mac", "remove", "mail", "--yes", "--force")
    assert removed.stdout.decode() == f"removed mail as quick-action: {place}\n"
    assert list(home.iterdir()) == []


def test_show_prints_and_writes_nothing(call, home):
    shown = call("mac", "show", "mail", "--as", "shortcut")
    place = settings.data_dir() / "mac" / "shortcuts" / "mail.unsigned.shortcut"
    assert shown.stdout.startswith(b"<?xml")
    assert b"is.workflow.actions.runshellscript" in shown.stdout
    assert shown.stderr == f"{place}:\n"
    record = json.loads(call("mac", "show", "mail", "--as", "raycast", "--json").stdout)
    ((_, text),) = record["files"].items()
    assert text.startswith("#!/bin/sh\n# @raycast.schemaVersion 1\n")
    assert not (settings.data_dir() / "mac").exists()


def test_its_own_folder_needs_no_yes_and_others_do(call, home):
    own = call("mac", "install", "mail", "--as", "raycast")
    assert own.returncode == 0
    assert "In Raycast, once:" in own.stderr
    refused = call("mac", "install", "mail", "--as", "raycast", "--into", home)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert f"{home}/mail.sh (" in refused.stderr
    assert "not writing" in refused.stderr
    assert "hint: Add --yes." in refused.stderr
    assert list(home.iterdir()) == []
    unasked = call("mac", "remove", "mail")
    assert "not removing mail without being told to" in unasked.stderr


@pytest.mark.parametrize(("answer", "written"), [(b"y\n", True), (b"n\n", False)])
def test_on_a_terminal_it_asks(answer, written, home):
    ours, theirs = pty.openpty()
    words = ["mac", "install", "mail", "--as", "finder", "--home", str(home)]
    process = subprocess.Popen(
        [*SCRIPT, *words], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(theirs)
    os.write(ours, answer)
    _, stderr = process.communicate(timeout=60)
    os.close(ours)
    assert b"Write that for mail as finder? [y/N]" in stderr
    assert process.returncode == (0 if written else 130)
    assert (home / "Library").exists() == written


def test_what_this_machine_has_not_is_one_sentence(call, home):
    done = call("mac", "install", "mail", "--as", "folder-action", "--folder", home, "--yes")
    assert done.returncode == 1
    assert "error: this is no Mac, and only a Mac has a place for --as folder-action" in done.stderr
    assert "--home DIR" in done.stderr
    as_json = call("mac", "install", "no", "--as", "raycast", "--json")
    assert json.loads(as_json.stdout)["error"]["code"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--as", "finder", "--folder", "x"],
            "--folder goes with --as folder-action or launch-agent",
        ),
        (["--as", "raycast", "--at", "8:30"], "--at goes with --as launch-agent, not with raycast"),
        (["--as", "finder", "--show"], "--replace and --show go with --as quick-action"),
        (["--as", "launch-agent", "--at", "24:00"], "'24:00' is no time of day, such as 8:30."),
        (["--as", "siri"], "'siri' is not one of 'quick-action'"),
        ([], "Missing option '--as'"),
    ],
)
def test_a_wrong_call_is_a_wrong_call(words, said, call, home):
    done = call("mac", "install", "mail", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_labels_it_says_what_labels_would_do(call, home):
    stored("texts")
    (home / "in").mkdir()
    words = ["--as", "launch-agent", "--home", home, "--folder", home / "in", "--at", "8:30"]
    done = call("mac", "install", "texts", *words, "--json", "--yes")
    steps = json.loads(done.stdout)["steps"]
    assert any("with --labels A,B it tells files apart" in step for step in steps)
    assert steps[-1].startswith("On the Mac it is for: /bin/launchctl bootstrap gui/")


def test_two_at_once_wait_for_each_other(home):
    words = ["mac", "install", "mail", "--as", "raycast"]
    with register.changing():
        other = subprocess.Popen([*SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(4)
        assert register.entries() == []
    other.communicate(timeout=60)
    assert [entry.kind for entry in register.entries()] == ["raycast"]
