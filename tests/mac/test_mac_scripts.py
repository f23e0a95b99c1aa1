"""The generated scripts run a real function, as a host starts them: with next to no environment.

The dialogs, notifications and converters of macOS are stood in for by scripts that note what they
are told.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from made_for_mac import LABELS, lint, planned, run_bare, scripts, standing_in, stored

from paw_mlx import function, store

pytestmark = pytest.mark.slow

TOOLS = ("osascript", "textutil", "pbpaste")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that stand in for macOS's; each notes its arguments in NAME.told."""
    folder = tmp_path / "tools"
    folder.mkdir()
    note = 'open(sys.argv[0] + ".told", "a").write(json.dumps(sys.argv[1:]) + "\\n")'
    standing_in(folder, "osascript", note)
    standing_in(folder, "textutil", f"{note}\nopen(sys.argv[4], 'w').write('from a document')")
    standing_in(folder, "pbpaste", "print('of the clipboard', end='')")
    return folder


def told(tools: Path, name: str = "osascript") -> list[list[str]]:
    """What a program of macOS was told, without its script."""
    file = tools / f"{name}.told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def script_of(tools: Path, *words: str, **choices: object) -> str:
    name, kind = words
    (script,) = scripts(planned(name, kind, tools.parent, **choices))
    for tool in TOOLS:
        script = script.replace(f"/usr/bin/{tool}", str(tools / tool))
    return script


def said(name: str, text: str) -> str:
    """What a function says in this process."""
    return function(name).run(text).text.strip()


def test_an_answer_replaces_the_text_and_a_failure_leaves_it(tools):
    stored("mail")
    script = script_of(tools, "mail", "quick-action")
    text = "the disk is 'full' $(x)"
    done = run_bare(script, stdin=text.encode())
    assert (done.returncode, done.stdout.decode()) == (0, said("mail", text))
    assert said("mail", text) not in ("", text)
    assert told(tools) == []
    lines = run_bare(script, stdin=f"{text}\n".encode())
    assert lines.stdout.decode() == f"{said('mail', text)}\n"
    store.remove("mail")
    kept = "ünï 🐾 \n\n text \\ with %s\n\n".encode()
    failed = run_bare(script, stdin=kept)
    assert (failed.returncode, failed.stdout) == (0, kept)
    assert told(tools)[0][2] == "mail"
    assert "error: no program 'mail' in" in told(tools)[0][3]


def test_a_label_is_shown(tools):
    stored("mail", labels=LABELS)
    run_bare(script_of(tools, "mail", "quick-action"), stdin=b"the server is down")
    ((_, script, title, label),) = told(tools)
    assert (title, label) == ("mail", said("mail", "the server is down"))
    assert "display dialog answer" in script


def test_launchers_print_an_answer_or_say_why_not(tools):
    stored("mail", labels=LABELS)
    expected = said("mail", "-n 'x'")
    for kind in ("raycast", "alfred", "applescript"):
        done = run_bare(script_of(tools, "mail", kind), "-n 'x'")
        assert (done.returncode, done.stdout.decode()) == (0, expected), kind
    done = run_bare(script_of(tools, "mail", "shortcut"), stdin=b"-n 'x'")
    assert done.stdout.decode() == expected
    clipboard = run_bare(script_of(tools, "mail", "raycast"))
    assert clipboard.stdout.decode() == said("mail", "of the clipboard")
    found = {kind: script_of(tools, "mail", kind) for kind in ("raycast", "applescript")}
    store.remove("mail")
    for kind, script in found.items():
        done = run_bare(script, "x")
        assert done.returncode == 1
        told_by = done.stdout if kind == "raycast" else done.stderr  # where each host looks
        assert b"error: no program 'mail' in" in told_by


def test_labels_of_the_user_are_passed_on(tools):
    stored("mail")
    script = script_of(tools, "mail", "raycast", labels=("@yes", "no way", "it's"))
    assert run_bare(script, "the disk is full").stdout.decode() in ("@yes", "no way", "it's")


def test_an_agent_sorts_what_lies_in_its_folder_in_the_environment_it_names(tools):
    stored("mail", labels=LABELS)
    plan = planned("mail", "launch-agent", tools.parent)
    agent = lint(plan.files[""])
    folder, to = tools.parent / "in", tools.parent / "in sorted"
    texts = {"a.txt": "the server is down", "b 'x'.md": "spring picnic on Friday"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\x00")
    (folder / "big.txt").write_bytes(b"x" * 1_000_001)
    (folder / "folder").mkdir()
    (folder / ".DS_Store").write_bytes(b"Finder's")
    label = said("mail", texts["a.txt"])
    (to / label).mkdir(parents=True)
    (to / label / "a.txt").write_text("another, from yesterday")
    done = subprocess.run(
        agent["ProgramArguments"], env=agent["EnvironmentVariables"], cwd="/", capture_output=True
    )
    assert list(folder.iterdir()) == []  # or launchd would start it again and again
    assert (to / label / "a.txt").read_text() == "another, from yesterday"
    assert (to / label / "2 a.txt").read_text() == texts["a.txt"]
    assert (to / said("mail", texts["b 'x'.md"]) / "b 'x'.md").exists()
    assert sorted(path.name for path in (to / "failed").iterdir()) == [
        "big.txt",
        "folder",
        "photo.jpg",
    ]
    log = done.stderr.decode()
    assert "big.txt: it is larger than 1 MB" in log
    assert "photo.jpg: error: standard input is not UTF-8: byte 0xff at 0" in log


def test_a_folder_action_leaves_what_it_cannot_sort(tools):
    stored("mail")
    script = script_of(tools, "mail", "folder-action")
    folder = tools.parent / "in"
    for name, data in {"a.txt": b"the disk is full", "b.jpg": b"\xff", "c.part": b"c"}.items():
        (folder / name).write_bytes(data)
    run_bare(script, *map(str, folder.iterdir()))
    assert {path.name for path in folder.iterdir()} == {"b.jpg", "c.part", "mail"}
    kept = folder / "mail" / "a.txt.mail.txt"
    assert kept.read_text().strip() == said("mail", "the disk is full")
    assert told(tools)[0][3].startswith("b.jpg: error:")


def test_files_are_tagged_by_their_texts_or_shown(tools):
    stored("mail", labels=LABELS)
    stored("tell")
    (tools / "a.docx").write_bytes(b"PK\x03\x04\xff")
    (tools / "gone.txt").write_text("x")
    paths = [str(tools / name) for name in ("a.docx", "none.txt")]
    run_bare(script_of(tools, "tell", "finder"), *paths)
    (((*_, shown),)) = told(tools)
    assert shown.splitlines() == [
        *f"a.docx: {said('tell', 'from a document')}".splitlines(),
        "none.txt: it is no file",
    ]
    assert told(tools, "textutil")[0][:3] == ["-convert", "txt", "-output"]
    (tools / "osascript.told").unlink()
    run_bare(script_of(tools, "mail", "finder"), *paths[:1])
    (((*_, shown),)) = told(tools)  # only macOS has tags
    assert shown.startswith("a.docx: error: cannot run /usr/bin/xattr: No such file")


def test_a_script_leaves_no_folder_behind(tools):
    stored("mail")
    own = tools.parent / "tmp"
    own.mkdir()
    script = script_of(tools, "mail", "raycast")
    for text in ("x", "y" * 5000):
        run_bare(script, text, env={"TMPDIR": str(own)})
    assert list(own.iterdir()) == []
