"""What is generated is well-formed, of known keys and types, and never runs what names say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_for_mac import (
    LABELS,
    SHAPES,
    lint,
    misfits,
    planned,
    run_bare,
    scripts,
    standing_in,
    stored,
    strings_of,
    texts,
)

from paw_mlx.errors import NotFound, OptionError
from paw_mlx.mac import launchd
from paw_mlx.mac.kinds import KINDS
from paw_mlx.mac.text import applescript, checked, file_name, one_line

every_kind = pytest.mark.parametrize("kind", KINDS)
EVIL = '$(touch pwned) `touch pwned` \'; touch pwned; "; touch pwned; \\" & ¬ <b>&amp; 🐾 ünï -- (*'
LABELS_OF_EVIL = (
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "a) touch pwned ;;",
    "*",
    "..",
    "a/b:c",
    "-n",
    "@x",
    "🐾  über\u202fall",
    "a-b/c",
    "TITLE",
    "esac",
    "in",
    "{",
    "!",
    "#x",
    "~",
)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A function whose spec and labels would run, if they were code; and a home of that kind."""
    stored("evil", f"{EVIL}\n{EVIL}\r\n# @raycast.mode silent\n\x07\x00end", LABELS_OF_EVIL)
    home = tmp_path / 'ho\'me $(touch pwned) "x" 🐾'
    home.mkdir()
    return home


@every_kind
@pytest.mark.parametrize("hostile", [False, True])
def test_property_lists_have_known_keys_and_types(kind, hostile, evil, tmp_path):
    stored("mail", labels=LABELS)
    plan = planned("evil", kind, evil, title=EVIL) if hostile else planned("mail", kind, tmp_path)
    for path, data in plan.paths().items():
        shape = SHAPES.get(path.name) or SHAPES.get(path.suffix)
        assert not shape or misfits(lint(data), shape) == []
        assert shape or path.suffix in (".sh", ".applescript")


def test_an_unknown_key_and_a_wrong_type_are_found(tmp_path):
    stored("mail")
    plan = planned("mail", "launch-agent", tmp_path)
    told = lint(plan.files[""]) | {"KeepAlife": True, "ThrottleInterval": "30"}
    told["EnvironmentVariables"] = {"A": 1}
    assert sorted(misfits(told, SHAPES[".plist"])) == [
        ".EnvironmentVariables.A is 1, no str",
        ".KeepAlife is unknown",
        ".ThrottleInterval is '30', no int",
    ]


@every_kind
@pytest.mark.parametrize("shell", ["sh", "bash", "zsh"])
def test_shells_can_read_the_scripts(kind, shell, evil):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    found = scripts(planned("evil", kind, evil, title=EVIL))
    assert found
    for script in found:
        done = subprocess.run([shell, "-n"], input=script.encode(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def echo(tmp_path, monkeypatch) -> Path:
    """A Python that, asked to run a function, says what it reads."""
    body = "if sys.argv[4] == 'run': sys.stdout.write(sys.stdin.read())"
    path = standing_in(tmp_path, "python $(touch pwned) 'x'", body)
    monkeypatch.setattr(sys, "executable", str(path))
    return path


@pytest.mark.parametrize("kind", ["folder-action", "launch-agent"])
def test_files_of_hostile_labels_and_names_are_sorted(kind, evil, echo, tmp_path):
    plan = planned("evil", kind, evil)
    folder = evil / "in"
    names = [f"{number} $(touch pwned) '\"`-n {number}.txt" for number in range(99)]
    for name, label in zip(names, LABELS_OF_EVIL, strict=False):
        (folder / name).write_text(label)
    (folder / "no label.txt").write_text("something else")
    given = [str(path) for path in folder.iterdir()] if kind == "folder-action" else []
    done = run_bare(scripts(plan)[0], *given)
    assert done.returncode == 0, done.stderr
    to = folder if kind == "folder-action" else evil / "in sorted"
    for name, label in zip(names, LABELS_OF_EVIL, strict=False):
        into = "a-b-c 2" if label == "a-b/c" else file_name(label)
        assert (to / into / name).read_text() == label
    assert (to / "other" / "no label.txt").exists()
    assert not [path for path in folder.iterdir() if path.is_file()]
    assert not any(path.name == "pwned" for path in tmp_path.rglob("*"))
    assert not Path("/pwned").exists()


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_answers_beside_files_are_written_over_nothing(shell, echo, tmp_path):
    path = shutil.which(shell)
    if not path:
        pytest.skip(f"{shell} is not installed")
    stored("mail")
    folder, outside = tmp_path / "in", tmp_path / "outside.txt"
    outside.write_text("outside")
    (script,) = scripts(planned("mail", "folder-action", tmp_path))
    kept = folder / "mail"
    kept.mkdir()
    (kept / "a.txt.mail.txt").write_text("of the user")
    (kept / "b.txt.mail.txt").symlink_to(outside)
    (kept / "2 b.txt.mail.txt").symlink_to(tmp_path / "nowhere")
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(f"answer {name}")
    done = run_bare(script, *(f"{folder}/{name}.txt" for name in "abc"), shell=path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (kept / "a.txt.mail.txt").read_text() == "of the user"
    assert (kept / "2 a.txt.mail.txt").read_text() == "answer a.txt\n"
    assert outside.read_text() == "outside"
    assert not (tmp_path / "nowhere").exists()
    assert (kept / "3 b.txt.mail.txt").read_text() == "answer b.txt\n"
    assert (kept / "c.txt.mail.txt").read_text() == "answer c.txt\n"
    meanwhile = script.replace("keep() {", "free() { free=$1/$2; }\nkeep() {")
    (folder / "d.txt").write_text("answer d.txt")
    (kept / "d.txt.mail.txt").write_text("of the user, made just now")
    done = run_bare(meanwhile, f"{folder}/d.txt", shell=path)
    assert b"d.txt.mail.txt" in done.stderr
    assert (kept / "d.txt.mail.txt").read_text() == "of the user, made just now"


@every_kind
def test_nothing_that_names_say_is_run(kind, evil, echo, tmp_path):
    for script in scripts(planned("evil", kind, evil, title=EVIL)):
        run_bare(script, stdin=EVIL.encode())
        run_bare(script, EVIL)
    assert not any(path.name == "pwned" for path in tmp_path.rglob("*"))
    assert not Path("/pwned").exists()


def test_what_names_say_stays_in_the_strings_of_an_applescript(evil):
    source = planned("evil", "applescript", evil, title=EVIL).files[""].decode()
    strings = strings_of(source)
    assert strings[0].startswith("$(touch pwned) `touch pwned` '; touch pwned; \"")
    assert "\n" not in strings[0]
    assert set(LABELS_OF_EVIL) <= set(strings)
    for text in strings:
        source = source.replace(applescript(text), "STRING")
    assert "pwned" not in source
    assert source.count("else if theAnswer is STRING then") == len(LABELS_OF_EVIL) - 1


def test_a_header_of_raycast_is_not_continued_by_a_spec(evil):
    script = planned("evil", "raycast", evil, title=f"{EVIL}\nx").files[""].decode()
    head = [line for line in script.splitlines() if line.startswith("# @raycast")]
    assert [line.split()[1] for line in head] == [
        "@raycast.schemaVersion",
        "@raycast.title",
        "@raycast.mode",
        "@raycast.packageName",
        "@raycast.icon",
        "@raycast.argument1",
        "@raycast.description",
    ]
    assert "# @raycast.mode compact" in head


def test_a_command_needs_no_path_and_carries_where_things_lie(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PAW_MLX_HOME", "here")
    monkeypatch.setenv("HF_HOME", "~/hf")
    monkeypatch.setenv("HF_TOKEN", "a secret")
    monkeypatch.setenv("PAW_API_KEY", "a secret")
    stored("mail")
    plan = planned("mail", "launch-agent", tmp_path)
    told = lint(plan.files[""])
    assert told["EnvironmentVariables"] == {
        "PAW_MLX_HOME": str(tmp_path / "here"),
        "PAW_MLX_DEVICE": "cpu",
        "HF_HOME": str(tmp_path / "hf"),
    }
    assert not any("secret" in text for text in texts(told))
    assert told["ProcessType"] == "Interactive"
    assert not {"KeepAlive", "RunAtLoad"} & told.keys()
    assert Path(told["ProgramArguments"][0]).is_absolute()
    shown = subprocess.run(
        [*launchd.command("--version")], env={}, cwd="/", capture_output=True, text=True
    )
    assert shown.stdout.startswith("paw-mlx, version")
    assert Path(launchd.command()[0]) == Path(sys.executable)  # a virtual environment's own


def test_an_agent_starts_at_a_time_or_for_files(tmp_path, monkeypatch):
    stored("mail")
    inbox = tmp_path / "in"
    files = lint(planned("mail", "launch-agent", tmp_path).files[""])
    assert files["QueueDirectories"] == [str(inbox)]
    daily = lint(planned("mail", "launch-agent", tmp_path, at=(8, 5)).files[""])
    assert daily["StartCalendarInterval"] == {"Hour": 8, "Minute": 5}
    assert "QueueDirectories" not in daily
    with pytest.raises(OptionError, match=r"in/x lies in .*in, which is emptied"):
        planned("mail", "launch-agent", tmp_path, to=inbox / "x")
    with pytest.raises(NotFound, match=r"there is no folder .*gone"):
        planned("mail", "quick-action", tmp_path, folder=tmp_path / "gone")
    monkeypatch.chdir(inbox)
    here = planned("mail", "launch-agent", tmp_path, folder=Path())
    assert (here.request.folder, here.request.to) == (inbox, tmp_path / "in sorted")
    guarded = planned("mail", "launch-agent", tmp_path, folder=tmp_path / "Downloads" / "x")
    assert any("Full Disk Access" in step for step in guarded.steps)


@pytest.mark.parametrize(
    ("labels", "replace", "replaces"),
    [((), None, True), (LABELS, None, False), (LABELS, True, True), ((), False, False)],
)
def test_a_quick_action_replaces_texts_and_shows_labels(labels, replace, replaces, tmp_path):
    stored("mail", labels=labels)
    plan = planned("mail", "quick-action", tmp_path, replace=replace)
    service = lint(plan.files["Contents/Info.plist"])["NSServices"][0]
    metadata = lint(plan.files["Contents/document.wflow"])["workflowMetaData"]
    assert ("NSReturnTypes" in service) == replaces
    kind = "text" if replaces else "nothing"
    assert metadata["serviceOutputTypeIdentifier"] == f"com.apple.Automator.{kind}"


def test_alfreds_parts_are_connected_and_found_where_it_syncs(tmp_path):
    stored("me/mail", labels=LABELS)
    plan = planned("me/mail", "alfred", tmp_path)
    flow = lint(plan.files["info.plist"])
    types = {part["uid"]: part["type"].rpartition(".")[2] for part in flow["objects"]}
    assert len(types) == 5
    assert set(flow["uidata"]) == set(types)
    ways = {
        (types[start], types[way["destinationuid"]])
        for start, ends in flow["connections"].items()
        for way in ends
    }
    assert ways == {
        ("keyword", "script"),
        ("universalaction", "script"),
        ("script", "clipboard"),
        ("script", "notification"),
    }
    assert flow["objects"][0]["config"]["keyword"] == "mail"
    synced = tmp_path / "Sync" / "Alfred.alfredpreferences"
    (synced / "workflows").mkdir(parents=True)
    preferences = tmp_path / "Library/Application Support/Alfred/prefs.json"
    preferences.write_text(f'{{"current": "{synced}"}}')
    assert planned("me/mail", "alfred", tmp_path).place.parent == synced / "workflows"
    with pytest.raises(NotFound, match="there is no Alfred here"):
        KINDS["alfred"].plan(replace(plan.request, home=tmp_path / "none"))


def test_what_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    stored("mail")
    stored("many", labels=tuple(f"label {number}" for number in range(101)))
    with pytest.raises(OptionError, match=r"101 labels .* tells 100 apart"):
        planned("many", "finder", tmp_path)
    with pytest.raises(OptionError, match="comma"):
        planned("mail", "finder", tmp_path, labels=("a,b", "c"))
    with pytest.raises(OptionError, match=r"'a\\nb' holds '\\n'"):
        planned("mail", "finder", tmp_path, labels=("a\nb", "c"))
    with pytest.raises(OptionError, match=r"the folder .* holds '\\x07'"):
        planned("mail", "folder-action", tmp_path, folder=tmp_path / "a\x07")
    with pytest.raises(OptionError, match="needs the folder"):
        KINDS["folder-action"].plan(planned("mail", "quick-action", tmp_path).request)
    with pytest.raises(NotFound, match="nothing"):
        planned("nothing", "raycast", tmp_path)
    with pytest.raises(OptionError, match="no name of a stored function") as refused:
        planned("./mail.paw", "raycast", tmp_path)
    assert "paw-mlx pull FILE --as NAME" in refused.value.hints[0]
    monkeypatch.setattr(sys, "prefix", "/Users/me/.cache/uv/archive-v0/x")
    with pytest.raises(OptionError, match="for the moment") as fleeting:
        planned("mail", "raycast", tmp_path)
    assert "uv tool install" in fleeting.value.hints[0]


def test_names_for_files_keep_their_words():
    assert file_name("a/b: c") == "a-b- c"
    assert file_name("../../x") == "x"
    assert file_name("..") == file_name("\n") == "_"
    assert len(file_name("ü" * 500).encode()) <= 120
    assert one_line("a\nb\x00 c", 9) == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert checked("🐾\u200d é\u202f", "x")
    with pytest.raises(OptionError):
        checked("\ud800", "x")
