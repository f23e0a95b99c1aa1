"""What shells complete: real bash, zsh and fish, where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from shell import Paw

from paw_mlx import store
from paw_mlx.cli import COMMANDS
from paw_mlx.errors import DiskError

# What a shell does when it starts: complete, and show the line on Ctrl-T.
BASH = """eval "$(paw-mlx completion bash)"
show() { echo "<<$READLINE_LINE>>"; }; bind -x '"\\C-t": show'; bind 'set bell-style none'
"""
ZSH = """autoload -Uz compinit; compinit -D; eval "$(paw-mlx completion zsh)"; unsetopt beep
show() { print -r -- "<<$BUFFER>>" }; zle -N show; bindkey '^T' show; bindkey '^U' kill-whole-line
"""
SHELLS = {
    "bash": (["bash", "--noprofile", "--rcfile"], "start", BASH),
    "zsh": (["zsh", "-d", "-i"], ".zshrc", ZSH),
}
# The line, and what Tab makes of it: alone what there is, or as far as all agree.
COMPLETED = {
    "paw-mlx roll": "paw-mlx rollback ",
    "paw-mlx run mai": "paw-mlx run mail ",
    'paw-mlx run "mai': 'paw-mlx run "mail" ',
    "true; paw-mlx tune me/l": "true; paw-mlx tune me/log-triage ",
    "paw-mlx diff mail mail@": "paw-mlx diff mail mail@v1 ",
    "paw-mlx run a": r"paw-mlx run a\ b\'s.paw ",
    "paw-mlx run 'a b": "paw-mlx run 'a b'\\''s.paw' ",
    "paw-mlx run su": r"paw-mlx run sub\ dir/",
    r"paw-mlx run sub\ dir/": r"paw-mlx run sub\ dir/inner.paw ",
    "paw-mlx map mail ro": "paw-mlx map mail rows.txt ",
    "paw-mlx inspect ro": "paw-mlx inspect rows.txt ",
    "paw-mlx run ro": "paw-mlx run ro",  # for rows.txt is no program
    "paw-mlx tune a": "paw-mlx tune a",  # which takes no file
    "paw-mlx map mail --bits 1": "paw-mlx map mail --bits 16 ",
    "paw-mlx map mail --bits=1": "paw-mlx map mail --bits=16 ",
    "paw-mlx run --labe": "paw-mlx run --labels ",
    "paw-mlx case imp": "paw-mlx case import ",
}

OF_ZSH = {  # which closes no quote behind one that it wrote, and shows all files rather than none
    "paw-mlx run 'a b": "paw-mlx run 'a b'\\''s.paw",
    "paw-mlx run ro": "paw-mlx run rows.txt ",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files, a store with names, and `paw-mlx` on the PATH."""
    for name in ("mail", "me/log-triage"):
        store.add(tiny.program("llama"), name, profile=tiny.profile("llama"))
    files = tmp_path / "files"
    (files / "sub dir").mkdir(parents=True)
    for name in ("a b's.paw", "rows.txt", "sub dir/inner.paw", "sub dir/rows.txt"):
        (files / name).touch()
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "paw-mlx"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m paw_mlx "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return files


class Terminal:
    """A shell at a terminal."""

    def __init__(self, name: str, folder: Path) -> None:
        words, file, text = SHELLS[name]
        start = folder.parent / file
        start.write_text(text)
        environment = os.environ | {
            "ZDOTDIR": str(folder.parent),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
        }
        words = [*words, str(start), "-i"] if name == "bash" else words
        self.expected = COMPLETED | (OF_ZSH if name == "zsh" else {})
        self._end, inner = pty.openpty()
        self._shell = subprocess.Popen(
            words, cwd=folder, env=environment, stdin=inner, stdout=inner, stderr=inner,
            start_new_session=True,
        )  # fmt: skip
        os.close(inner)

    def complete(self, line: str) -> str:
        """Type a line and Tab, and return the line that is there then."""
        os.write(self._end, line.encode() + b"\t\x14")
        heard = b""
        while not (shown := re.search(rb"<<(.*?)>>", heard)):
            assert select.select([self._end], [], [], 60)[0], heard
            heard += os.read(self._end, 65536)
        os.write(self._end, b"\x05\x15")  # to the end, and clear it
        return shown[1].decode()

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._end)


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, folder: Path) -> Iterator[Terminal]:
    if not shutil.which(request.param):
        pytest.skip(f"there is no {request.param} here")
    if request.param == "bash" and sys.platform == "darwin":
        pytest.skip("a Mac's bash 3.2 quotes in another way")
    terminal = Terminal(request.param, folder)
    yield terminal
    terminal.close()


def test_tab_completes_commands_names_files_and_values(terminal: Terminal) -> None:
    assert {line: terminal.complete(line) for line in COMPLETED} == terminal.expected


def test_fish_offers_the_same_with_what_they_are(folder: Path) -> None:
    fish = shutil.which("fish")
    if not fish:
        pytest.skip("there is no fish here")

    def offered(line: str) -> list[list[str]]:
        script = 'paw-mlx completion fish | source; complete --do-complete "$argv[1]"'
        done = subprocess.run(
            [fish, "--no-config", "-c", script, line],
            cwd=folder, stdout=subprocess.PIPE, text=True, check=True, timeout=60,
        )  # fmt: skip
        return [line.split("\t") for line in done.stdout.splitlines()]

    assert ["rollback", COMMANDS["rollback"]] in offered("paw-mlx roll")
    assert offered("paw-mlx tune ") == [["mail", "v1"], ["me/log-triage", "v1"]]
    assert offered("paw-mlx tune mail@") == [["mail@v1", "current"]]
    assert offered("paw-mlx run a")[0][0] == "a b's.paw"
    assert offered("paw-mlx map mail --bits=1") == [["--bits=16"]]


def test_nothing_is_said_where_nothing_can_be_read(
    call: Paw, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    assert call("completion", "answer", "tune", "ma").stdout == b"word\tma\nplain\tmail\tv1\n"

    def refuse(folder: Path) -> list[int]:
        raise DiskError("cannot read it")

    monkeypatch.setattr("paw_mlx.cli.references.versions_in", refuse)
    assert call("completion", "answer", "tune", "ma").stdout == b"word\tma\n"
    monkeypatch.setenv("PAW_MLX_HOME", "/nowhere")
    assert call("completion", "answer", "--line", "paw-mlx tune ").stdout == b"word\t\n"


def test_completing_a_name_imports_nothing_that_computes(folder: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = ['completion', 'answer', 'run', 'ma']\n"
        "from paw_mlx.__main__ import main\n"
        "try: main()\n"
        "finally: print({'numpy', 'mlx', 'gguf', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "word\tma\nplain\tmail\tv1\nfile\t*.paw\tma\nset()\n", done.stderr
