"""The scripts of examples/shell, run as they are, with real functions on a tiny base.

Only what belongs to a Mac or a desktop is stood in for: the clipboard, notifications, the system's
log, and what reads a picture. A function here says always the same, unless its labels are asked.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pages
import pytest
import tiny

from paw_mlx import Labels, store
from paw_mlx.cli import cli
from paw_mlx.output import TEXT, Output

SHELL = Path(__file__).parents[1] / "examples" / "shell"
SCRIPTS = ["commit-msg", "watch-log", "clean-clipboard", "rename-screenshots"]
NASTY = '-n it\'s "$(touch hacked)" `touch hacked`; \\n %s é\n\n  * two'

Done = subprocess.CompletedProcess[str]


class Desk:
    """A user's folder, with `paw-mlx` and other commands on the PATH."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base, self.heard = folder / "it's here", base, folder / "heard"
        self.bin = folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()
        system = "/usr/local/bin:/usr/bin:/bin"
        self.environment = os.environ | {"PATH": f"{self.bin}:{system}", "HOME": str(folder)}
        self.command("paw-mlx", f'tee "{self.heard}" | "{sys.executable}" -m paw_mlx "$@"')

    def command(self, name: str, text: str) -> None:
        """Put a command of one line on the PATH."""
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def function(self, name: str, says: str | None = None, output: Output = TEXT) -> None:
        """Store a function that always says this, or one with an output of its own."""
        if says is not None:  # no label is as likely as that
            output = Labels(("a", "b"), threshold=1.0, otherwise=says)
        program = replace(tiny.program("llama", 1), output=output, interpreter=str(self.base))
        store.add(program, name, profile=tiny.profile("llama"))

    def run(self, *words: object, **options: Any) -> Done:
        """Run a command in the folder, standard input empty."""
        options = {"env": self.environment, "stdin": subprocess.DEVNULL} | options
        done = subprocess.run(
            [*map(str, words)], cwd=self.folder, capture_output=True, text=True, timeout=120,
            **options,
        )  # fmt: skip
        assert not list(self.folder.parent.rglob("hacked"))
        return done

    def files(self) -> dict[str, str]:
        """Return the files in the folder, with their texts."""
        return {path.name: path.read_text() for path in self.folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture
def desk(tmp_path: Path, base: Path) -> Desk:
    return Desk(tmp_path, base)


# --- all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("checker", ["sh -n", "bash -n", "dash -n", "shellcheck"])
def test_scripts_are_sound(script: str, checker: str) -> None:
    words = shlex.split(checker)
    if not shutil.which(words[0]):
        pytest.skip(f"there is no {words[0]} here")
    done = subprocess.run([*words, SHELL / script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert os.access(SHELL / script, os.X_OK)


@pytest.mark.parametrize("file", [*SCRIPTS, "mail-rule.applescript", "labels.mk"])
def test_what_a_header_says_to_call_can_be_called(file: str) -> None:
    lines = (SHELL / file).read_text().splitlines()
    comments = "\n".join(line[2:].strip() for line in lines if re.match("(#|--) ", line))
    found = re.findall(r"^(paw-mlx(?:[^\n]*\\\n)*[^\n]*)", comments, re.MULTILINE)
    assert found
    for text in found:
        for words in pages.simple_commands(text):
            name, command, arguments = cli.resolve_command(click.Context(cli), words[1:])
            assert command
            command.make_context(name, arguments)


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node here")
def test_the_ocr_script_is_javascript() -> None:
    done = subprocess.run(["node", "--check", SHELL / "ocr.js"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


# --- commit-msg ----------------------------------------------------------------------------


@pytest.fixture
def commit(desk: Desk) -> Any:
    """Return what commits with a message, in a repository with the hook."""
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "core.editor=true"]
    desk.run("git", "init", "--quiet")
    shutil.copy(SHELL / "commit-msg", desk.folder / ".git" / "hooks")

    def run(*words: str) -> Done:
        return desk.run(*git, "commit", "--allow-empty", *words)

    return run


def subjects(desk: Desk) -> list[str]:
    return desk.run("git", "log", "--format=%s").stdout.splitlines()


def test_a_vague_message_is_warned_of_or_refused_and_kept(desk: Desk, commit: Any) -> None:
    desk.function("commit-message", "vague")
    done = commit("-m", "wip")
    assert (done.returncode, "say what was changed?" in done.stderr) == (0, True)
    desk.run("git", "config", "paw.vague", "refuse")
    done = commit("-m", NASTY)
    assert (done.returncode, subjects(desk)) == (1, ["wip"])
    again = shlex.split(done.stderr.split("go on with: git commit ")[1])
    desk.run("git", "config", "paw.vague", "warn")
    assert commit(*again).returncode == 0
    assert subjects(desk)[0] == NASTY.splitlines()[0]


@pytest.mark.parametrize("message", ["Merge branch 'a'", 'Revert "wip"', "fixup! wip"])
def test_what_git_wrote_is_not_asked_about(desk: Desk, commit: Any, message: str) -> None:
    desk.function("commit-message", "vague")
    desk.run("git", "config", "paw.vague", "refuse")
    assert commit("-m", message).stderr == ""
    assert (subjects(desk), desk.heard.exists()) == ([message], False)


def test_comments_and_the_diff_are_not_asked_about(desk: Desk, commit: Any) -> None:
    desk.function("commit-message", "clear")
    message = desk.folder / "message"
    cut = f"# {'-' * 24} >8 {'-' * 24}\n"
    message.write_text(f"# a comment\nAdd it\n\n{NASTY}\n# more\n{cut}diff --git a b\n+x\n")
    assert desk.run(SHELL / "commit-msg", message).stderr == ""
    assert desk.heard.read_text() == f"Add it\n\n{NASTY}\n"
    message.write_text("# nothing\n\n")
    desk.run("git", "config", "paw.vague", "refuse")
    assert desk.run(SHELL / "commit-msg", message).returncode == 0


def test_what_goes_wrong_lets_a_commit_through(desk: Desk, commit: Any) -> None:
    desk.run("git", "config", "paw.vague", "refuse")
    done = commit("-m", "no such function")
    assert (done.returncode, "no program 'commit-message'" in done.stderr) == (0, True)
    (desk.bin / "paw-mlx").unlink()
    done = commit("-m", "no paw-mlx")
    assert (done.returncode, "was not checked" in done.stderr) == (0, True)
    assert subjects(desk) == ["no paw-mlx", "no such function"]


def test_the_rows_to_train_on_have_the_labels_of_the_spec() -> None:
    spec = (SHELL / "commit-message.txt").read_text()
    rows = [json.loads(line) for line in (SHELL / "commit-message.jsonl").read_text().splitlines()]
    counts = Counter(row["output"] for row in rows)
    assert set(counts) == set(spec.strip().split("Return ONLY one of: ")[1].split(", "))
    assert len({row["input"] for row in rows}) == len(rows) == 2 * counts["vague"]
    assert 'label" = vague' in (SHELL / "commit-msg").read_text()


# --- watch-log -----------------------------------------------------------------------------

LOG = ["raid: disk 3 failed", "ok 200 POST /v3/quotes 31ms", NASTY.splitlines()[0], "ready é", "-e"]


def test_lines_to_act_on_are_shown_and_notified_of(desk: Desk) -> None:
    desk.function("log-triage", output=Labels(("ALERT", "QUIET")))
    desk.command("notify-send", f'printf "%s\\n" "$3" >> "{desk.bin}/notified"')
    (desk.folder / "app.log").write_text("".join(f"{line}\n" for line in LOG))
    direct = desk.run("paw-mlx", "filter", "log-triage", "app.log", "--keep", "ALERT").stdout
    assert 0 < direct.count("\n") < len(LOG)
    done = desk.run(SHELL / "watch-log", "cat", "app.log")
    assert (done.returncode, done.stdout) == (0, direct)
    if sys.platform != "darwin":
        assert (desk.bin / "notified").read_text() == direct
    other = {"WATCH_LABEL": "QUIET"}
    rest = desk.run(SHELL / "watch-log", "cat", "app.log", env=desk.environment | other).stdout
    assert sorted((direct + rest).splitlines()) == sorted(LOG)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac's log never ends")
def test_without_a_command_it_is_the_systems_log(desk: Desk) -> None:
    desk.function("log-triage", "ALERT")
    desk.command("journalctl", 'printf "%s\\n" "$*"')
    done = desk.run(SHELL / "watch-log")
    assert done.stdout == "--follow --lines 0 --priority err --output cat\n"


# --- clean-clipboard -----------------------------------------------------------------------


@pytest.fixture
def clipboard(desk: Desk) -> Path:
    """A clipboard: the file that pbpaste and pbcopy of this desk read and write."""
    file = desk.folder / "clipboard"
    desk.command("pbpaste", f'cat "{file}"')
    desk.command("pbcopy", f'cat > "{file}"')
    return file


def test_the_clipboard_gets_what_the_function_says(desk: Desk, clipboard: Path) -> None:
    desk.function("tidy", 'it\'s "tidy" \\n now')
    clipboard.write_text(NASTY)
    done = desk.run(SHELL / "clean-clipboard", "tidy")
    assert (done.returncode, done.stderr) == (0, "")
    assert (desk.heard.read_text(), clipboard.read_text()) == (NASTY, 'it\'s "tidy" \\n now')


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("missing", "no program 'missing'"),
        ("silent", "silent said nothing"),
        ("endless", "the output was cut before its end"),
        ("", "usage"),
    ],
)
def test_the_clipboard_stays_where_nothing_whole_is_said(
    desk: Desk, clipboard: Path, function: str, said: str
) -> None:
    desk.function("silent", output=Labels(("a", "b"), threshold=1.0))
    desk.function("endless")
    clipboard.write_text(NASTY)
    done = desk.run(SHELL / "clean-clipboard", *([function] if function else []))
    assert (done.returncode, clipboard.read_text()) == (1, NASTY)
    assert said in done.stderr
    assert "the clipboard is as it was" in done.stderr


def test_a_clipboard_without_text_is_left_alone(desk: Desk, clipboard: Path) -> None:
    desk.function("tidy", "tidy")
    done = desk.run(SHELL / "clean-clipboard", "tidy")
    assert (done.returncode, clipboard.exists(), desk.heard.exists()) == (1, False, False)
    clipboard.touch()
    done = desk.run(SHELL / "clean-clipboard", "tidy")
    assert (done.returncode, clipboard.read_text()) == (1, "")
    assert "there is no text on it" in done.stderr


# --- rename-screenshots --------------------------------------------------------------------


@pytest.fixture
def rename(desk: Desk) -> Any:
    """Return what renames files; the text on a picture is what is in its file."""
    desk.command("ocr", 'cat "$1"')

    def run(*words: str) -> Done:
        environment = desk.environment | {"OCR": str(desk.bin / "ocr")}
        return desk.run(SHELL / "rename-screenshots", *words, env=environment)

    return run


def test_screenshots_are_named_and_none_is_lost(desk: Desk, rename: Any) -> None:
    desk.function("screenshot-name", "../Invoice: ACME & Sons\n$(touch hacked)")
    names = [
        "Screenshot 2026-11-27 at 10.12.33.png",
        "Screen 'shot' 2026-11-27 at 10.12.33.png",
        "Bild\nschirm 7.jpg",
        "-n 8.png",
        "none",
    ]
    for name in names:
        (desk.folder / name).write_text(f"{NASTY} {name}")
    tried = rename("-n", *names)
    assert sorted(desk.files()) == sorted(names)
    done = rename("./-n 8.png", *names[:3], names[4])
    assert (done.returncode, tried.stdout.count("->"), done.stdout.count("->")) == (0, 5, 5)
    said = "Invoice-ACME-Sons-touch-hacked"
    assert desk.files() == {
        f"{said} 2026-11-27 at 10.12.33.png": f"{NASTY} {names[0]}",
        f"{said} 2026-11-27 at 10.12.33 2.png": f"{NASTY} {names[1]}",
        f"{said} 7.jpg": f"{NASTY} {names[2]}",
        f"{said} 8.png": f"{NASTY} {names[3]}",
        f"{said} none": f"{NASTY} {names[4]}",
    }


def test_a_file_that_nothing_is_known_of_stays_and_the_next_is_renamed(
    desk: Desk, rename: Any
) -> None:
    desk.function("screenshot-name", "chat")
    (desk.folder / "empty 1.png").touch()
    (desk.folder / "full 2.png").write_text("text")
    done = rename("empty 1.png", "gone 3.png", "full 2.png")
    assert (done.returncode, sorted(desk.files())) == (1, ["chat 2.png", "empty 1.png"])
    assert done.stderr == "empty 1.png stays as it is\ngone 3.png stays as it is\n"
    store.remove("screenshot-name")
    assert rename("chat 2.png").returncode == 1
    desk.function("screenshot-name", "* é")
    assert rename("chat 2.png").returncode == 1
    assert sorted(desk.files()) == ["chat 2.png", "empty 1.png"]


# --- labels.mk -----------------------------------------------------------------------------


def test_make_labels_what_has_changed_and_nothing_else(desk: Desk) -> None:
    desk.function("email-triage", "wait")
    inbox = desk.folder / "inbox"
    inbox.mkdir()
    (inbox / "a.txt").write_text(NASTY)
    (inbox / "ü-2.txt").write_text("")
    for name in ("b c.txt", "x;touch hacked;.txt", "$(touch hacked).txt", "it's.txt"):
        (inbox / name).write_text("left out")
    make = ["make", "-f", SHELL / "labels.mk"]
    assert desk.run(*make, "-n").stdout.count("paw-mlx run") == 2
    done = desk.run(*make)
    assert (done.returncode, done.stderr.count("left out: inbox/")) == (0, 4)
    table = sorted((desk.folder / "labels.tsv").read_text().splitlines())
    assert table == ["inbox/a.txt\twait", "inbox/ü-2.txt\twait"]
    assert "up to date" in desk.run(*make).stdout

    desk.function("email-triage", "immediate")
    os.utime(inbox / "a.txt", (2e9, 2e9))
    assert desk.run(*make).stdout.count("paw-mlx run") == 1
    assert (inbox / "a.label").read_text() == "immediate\n"
    store.remove("email-triage")
    os.utime(inbox / "ü-2.txt", (2e9, 2e9))
    done = desk.run(*make)
    assert (done.returncode, (inbox / "ü-2.label").read_text()) == (2, "wait\n")
    assert "no program 'email-triage'" in done.stderr


# --- mail-rule.applescript -----------------------------------------------------------------


def test_the_rule_hands_a_message_on_as_it_is(desk: Desk) -> None:
    text = (SHELL / "mail-rule.applescript").read_text()
    desk.function("email-triage", "immediate")
    values = dict(re.findall(r'^property (\w+) : "(.*)"$', text, re.MULTILINE))
    values |= {"theText": NASTY, "pawMLX": str(desk.bin / "paw-mlx")}
    (expression,) = re.findall(r"do shell script (.*)$", text, re.MULTILINE)
    script = ""
    for part in re.findall(r'"[^"]*"|quoted form of \w+', expression):
        script += part[1:-1] if part[0] == '"' else shlex.quote(values[part.split()[-1]])
    done = desk.run("/bin/sh", "-c", script)
    assert (done.stdout, desk.heard.read_text()) == (f"{values['urgentLabel']}\n", NASTY)


def test_the_rule_closes_what_it_opens_and_sets_flags_alone() -> None:
    text = (SHELL / "mail-rule.applescript").read_text()
    code = re.sub(r"^--.*\n", "", text, flags=re.MULTILINE)
    opened, lines = [], [line.strip() for line in code.splitlines()]
    for line in lines:
        if line.startswith("end "):
            assert line.removeprefix("end ").startswith(opened.pop())
        elif match := re.match(r"(using terms from|repeat|try|if .* then$|on (?!error)\w+)", line):
            opened.append(match[1].removeprefix("on ").split()[0])
    assert opened == []
    told = [line for line in lines if "application" in line]
    assert all("set flag index" in line or "set theText" in line for line in told[1:])
