"""What was installed is known, replaced as a whole, and removed without a trace."""

from __future__ import annotations

import json
import os
import plistlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_for_mac import LABELS, planned, stored

from paw_mlx import settings
from paw_mlx.errors import DiskError, FormatError, NotFound, OptionError
from paw_mlx.mac import install as installing
from paw_mlx.mac import register, system
from paw_mlx.mac.install import install, remove
from paw_mlx.mac.kinds import KINDS
from paw_mlx.mac.plan import own_folder

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    stored("mail", labels=LABELS)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def listing(*folders: Path) -> list[str]:
    """All that lies in some folders, but for the register itself."""
    ours = {own_folder(), own_folder() / "register.json", own_folder() / ".lock"}
    return sorted(str(path) for folder in folders for path in folder.rglob("*") if path not in ours)


class Mac:
    """A Mac's programs, which note what they are told, and make what they are to make."""

    def __init__(self, wrong: str | None = None) -> None:
        self.told: list[list[str]] = []
        self.wrong = wrong

    def __call__(self, words: Sequence[str]) -> str | None:
        self.told.append(list(words))
        if self.wrong is None and words[0].endswith("shortcuts"):
            Path(words[-1]).write_bytes(b"AEA1 signed")
        if self.wrong is None and words[0].endswith("osacompile"):
            Path(words[2]).write_bytes(b"FasdUAS 1.101.10")
        return self.wrong


@pytest.fixture
def mac(monkeypatch, home) -> Mac:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("HOME", str(home))
    return Mac()


@every_kind
def test_what_is_installed_is_removed_without_a_trace(kind, home):
    plan = planned("mail", kind, home)
    before = listing(home, settings.data_dir())
    entry = install(plan)
    assert entry.changed() == entry.missing() == []
    assert {Path(path): Path(path).read_bytes() for path in entry.files} == plan.paths()
    assert os.access(plan.place, os.X_OK) or kind != "raycast"
    assert register.entries() == [entry] or register.entries()[0].files
    remove("mail", None)
    assert listing(home, settings.data_dir()) == before
    assert register.entries() == []


@every_kind
def test_installing_twice_replaces(kind, home):
    install(planned("mail", kind, home))
    again = install(planned("mail", kind, home, labels=("a", "b")))
    assert len(register.entries()) == 1
    assert again.changed() == []
    moved = install(planned("mail", kind, home, into=home / "elsewhere"))
    assert not Path(again.place).exists()
    assert Path(moved.place).exists()
    remove("mail", kind)
    assert listing(home / "elsewhere") == []


def test_others_things_are_never_written_over(home):
    plan = planned("mail", "quick-action", home, title="Summary")
    plan.place.mkdir(parents=True)
    (plan.place / "mine").write_text("x")
    with pytest.raises(OptionError, match=r"Summary\.workflow is there already, and not of"):
        install(plan, force=True)
    assert (plan.place / "mine").read_text() == "x"
    stored("me/mail")
    install(planned("mail", "quick-action", home))
    with pytest.raises(OptionError, match=r"mail as quick-action lies at .* already") as refused:
        install(planned("me/mail", "finder", home, title="mail"))
    assert refused.value.hints == ["Give this one another name: --title TEXT"]
    assert [entry.reference for entry in register.entries()] == ["mail"]


@pytest.mark.parametrize("how", ["edited", "added", "link"])
def test_what_was_changed_by_hand_is_kept_and_said(how, home):
    entry = install(planned("mail", "quick-action", home))
    place = Path(entry.place)
    changed = place / "Contents" / "document.wflow"
    if how == "edited":
        changed.write_bytes(changed.read_bytes() + b"\n")
    elif how == "added":
        changed = place / "Contents" / "QuickLook" / "Thumbnail.png"
        changed.parent.mkdir()
        changed.write_bytes(b"png")
    else:
        other = place.rename(home / "kept.workflow")
        changed = place
        place.symlink_to(other)
    assert register.entries()[0].changed() == [changed]
    with pytest.raises(OptionError, match=f"{changed} was changed since it was installed"):
        remove("mail", None)
    with pytest.raises(OptionError, match="was changed since"):
        install(planned("mail", "quick-action", home))
    assert changed.exists()
    remove("mail", None, force=True)
    assert not os.path.lexists(place)
    if how == "link":  # whose target is not ours to delete
        assert len(listing(home / "kept.workflow")) == 3


def test_what_is_gone_already_is_no_error(home):
    entry = install(planned("mail", "raycast", home))
    Path(entry.place).unlink()
    assert entry.missing() == [Path(entry.place)]
    remove("mail", "raycast")
    with pytest.raises(NotFound, match="'mail' is not installed as raycast"):
        remove("mail", "raycast")
    with pytest.raises(NotFound, match=r"'mail' is not installed\n"):
        remove("mail", None)


def test_folders_of_others_stay(home):
    entry = install(planned("mail", "quick-action", home))
    other = Path(entry.place).parent / "Other.workflow"
    other.mkdir()
    remove("mail", None)
    assert other.is_dir()


def test_a_write_that_fails_leaves_what_was_there(home, monkeypatch):
    first = install(planned("mail", "raycast", home))
    text = Path(first.place).read_bytes()

    def refuse(plan: object) -> None:
        raise DiskError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(installing, "_write", refuse)
        with pytest.raises(DiskError):
            install(planned("mail", "raycast", home, title="other"))
        with pytest.raises(DiskError):
            install(planned("mail", "shortcut", home))
    assert Path(first.place).read_bytes() == text
    (kept,) = register.entries()
    assert (kept.kind, kept.changed()) == ("raycast", [])


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from made_for_mac import planned
from paw_mlx.mac import install
write = install._write
def die(plan):
    if sys.argv[4] == "after":
        write(plan)
    os._exit(9)
install._write = die
install.install(planned("mail", "raycast", Path(sys.argv[3]), title="other"))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("installed", [False, True])
def test_a_kill_while_it_is_written_leaves_nothing_unknown(when, installed, home):
    before = listing(home, settings.data_dir())
    if installed:
        install(planned("mail", "raycast", home))
    tests = Path(__file__).parent
    words = [sys.executable, "-c", KILLED, str(tests), str(tests.parent), str(home), when]
    assert subprocess.run(words, env=os.environ.copy()).returncode == 9
    (entry,) = register.entries()
    assert entry.changed() == []
    remove("mail", "raycast")
    assert listing(home, settings.data_dir()) == before


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        '{"installed": [{"reference": 3}]}',
        '{"installed": [{"a": 1}]}',
        json.dumps(
            {
                "installed": [
                    {
                        "reference": "a",
                        "kind": "raycast",
                        "title": "a",
                        "place": "/x/y",
                        "files": {"/etc/passwd": []},
                    }
                ]
            }
        ),
    ],
)
def test_a_damaged_register_is_one_sentence_and_stays(damage, home):
    file = own_folder() / "register.json"
    file.parent.mkdir(parents=True)
    file.write_text(damage)
    for call in (register.entries, lambda: install(planned("mail", "raycast", home))):
        with pytest.raises(FormatError, match=r"register\.json is damaged"):
            call()
    assert file.read_text() == damage


def test_only_a_mac_has_the_places(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    for kind in KINDS.keys() - {"raycast", "shortcut"}:
        with pytest.raises(OptionError, match=f"only a Mac has a place for --as {kind}"):
            installing.check_place(planned("mail", kind, home).request)
    with_folder = planned("mail", "finder", home, into=home / "x").request
    installing.check_place(with_folder)
    assert installing.plan(with_folder).place == home / "x" / "mail (files).workflow"


def test_a_mac_is_told_of_an_agent_and_told_to_forget_it(mac, home):
    entry = install(planned("mail", "launch-agent", home), call=mac)
    me = f"gui/{os.getuid()}"
    assert mac.told == [
        ["/bin/launchctl", "bootout", f"{me}/paw-mlx.mac.mail"],
        ["/bin/launchctl", "bootstrap", me, entry.place],
    ]
    assert plistlib.loads(Path(entry.place).read_bytes())["Label"] == "paw-mlx.mac.mail"
    log = Path(entry.log or "")
    assert log.parent.is_dir()
    log.write_text("what it did")
    mac.told.clear()
    remove("mail", None, call=mac)
    assert mac.told == [["/bin/launchctl", "bootout", f"{me}/paw-mlx.mac.mail"]]
    assert not log.exists()


def test_a_mac_binds_a_folder_action_and_reads_its_services_anew(mac, home):
    entry = install(planned("mail", "folder-action", home), call=mac)
    install(planned("mail", "quick-action", home), call=mac)
    (osascript, _, bind, *arguments), *services = mac.told
    assert osascript == "/usr/bin/osascript"
    assert arguments == [str(home / "in"), "mail.workflow", entry.place]
    assert str(home) not in bind
    assert services == [[system._PBS, "-flush"], [system._PBS, "-update"]]
    mac.told.clear()
    remove("mail", None, call=mac)
    assert mac.told[0][3:] == [str(home / "in"), "mail.workflow"]
    assert mac.told[1:] == services


@pytest.mark.parametrize(("kind", "suffix"), [("shortcut", ".shortcut"), ("applescript", ".scpt")])
def test_what_a_mac_makes_is_known_too(kind, suffix, mac, home):
    before = listing(home, settings.data_dir())
    for _ in range(2):
        entry = install(planned("mail", kind, home), call=mac)
    made = Path(entry.place).with_name(f"mail{suffix}")
    assert set(entry.files) == {entry.place, str(made)}
    assert entry.changed() == []
    remove("mail", None, call=mac)
    assert listing(home, settings.data_dir()) == before


def test_what_a_mac_refuses_is_a_warning(mac, home):
    mac.wrong = "Bootstrap failed: 5: Input/output error"
    with pytest.warns(UserWarning, match="launchctl did not: Bootstrap failed: 5"):
        install(planned("mail", "launch-agent", home), call=mac)
    with pytest.warns(UserWarning, match="shortcuts did not: Bootstrap"):
        entry = install(planned("mail", "shortcut", home), call=mac)
    assert list(entry.files) == [entry.place]


def test_another_home_is_not_told_to_this_mac(mac, home, tmp_path):
    (tmp_path / "other").mkdir()
    entry = install(planned("mail", "launch-agent", tmp_path / "other"), call=mac)
    assert (mac.told, entry.called) == ([], False)
    (line,) = system.commands(entry)
    assert line == f"/bin/launchctl bootstrap gui/$(id -u) {entry.place}"
    install(planned("mail", "quick-action", home, into=tmp_path / "x"), call=mac)
    assert mac.told == []


def test_a_program_of_macos_that_is_missing_or_fails_is_a_sentence():
    assert "No such file" in (system.call(["/bin/no-launchctl"]) or "")
    assert system.call(["/bin/sh", "-c", "echo a; echo 'b  c' >&2; exit 5"]) == "b c"
    assert system.call(["/bin/sh", "-c", "exit 5"]) == "exit code 5"
    assert system.call(["/bin/sh", "-c", "true"]) is None
