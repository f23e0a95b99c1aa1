"""The man page says what the commands say, and those who show man pages can read it."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest

from paw_mlx.cli import cli
from paw_mlx.cli.man import PAGE, page


def shown(*words: str) -> str:
    """Return what a formatter makes of the page, as plain text."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(".\b", "", done.stdout)


def test_the_page_is_what_the_commands_say_now() -> None:
    assert PAGE.read_text(encoding="ascii") == page(), "run `python -m paw_mlx.cli.man`"


def test_every_command_option_and_variable_is_in_it() -> None:
    text = PAGE.read_text(encoding="ascii").replace("\\-", "-")
    for name in cli.list_commands(click.Context(cli)):
        assert f'.SS "paw-mlx {name}"' in text
    assert '.SS "paw-mlx case add"' in text
    assert "jobs run" not in text  # which is for nobody to call
    for said in ("--min-probability", "PAW_MLX_HOME", "--gate", "ALERT", ".TP\n\\fB130\\fR"):
        assert said in text


@pytest.mark.skipif(not shutil.which("mandoc"), reason="there is no mandoc here")
def test_mandoc_finds_nothing_wrong() -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", str(PAGE)], capture_output=True, text=True, timeout=60
    )
    found = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert found == []  # a date would change with every day that it is written


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here")
def test_groff_shows_it() -> None:
    text = shown("groff", "-man", "-ww", "-Tutf8", "-P-cbou", str(PAGE))
    text = " ".join(text.replace("‐\n", "").split())
    assert "paw-mlx - run fuzzy functions" in text
    assert "--labels A,B,… Outputs are one of these" in text
    assert 'paw-mlx run log-triage "raid: disk 3 failed"' in text
    assert not re.search(r"\\f[BIR]|\\-|`", text)
