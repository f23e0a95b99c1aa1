"""`paw-mlx serve` as a shell sees it."""

from __future__ import annotations

import html
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from shell import ending, start

_WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
sys.argv[1:] = ["serve"]
from paw_mlx.__main__ import main
main()
"""


def test_it_says_where_it_serves_and_ends_without_a_word() -> None:
    process = start("serve", "--port", 0)
    try:
        line = process.stderr.readline().decode()
        told = re.fullmatch(r"serving at (\S+), workbench at (\S+) \(Control-C ends it\)\n", line)
        assert told, line
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"{told[1]}/health").json()["status"] == "ok"
            assert client.get(told[2]).headers["content-type"].startswith("text/html")
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        stdout, stderr = process.communicate()
    assert (stdout, stderr) == (b"", b"")


@contextmanager
def open_workbench(tmp_path: Path, **variables: str) -> Iterator[tuple[str, str]]:
    """Serve with --open; yield the workbench's address, and what a browser was told to open."""
    told, tools, temporary = (tmp_path / name for name in ("told", "tools", "temporary"))
    for folder in (tools, temporary):
        folder.mkdir()
    for name in ("xdg-open", "open"):
        (tools / name).write_text(f'#!/bin/sh\necho "$*" > {told}.new && mv {told}.new {told}\n')
        (tools / name).chmod(0o755)
    variables |= {"PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(temporary)}
    process = start("serve", "--open", "--port", 0, "--json", env=os.environ | variables)
    with ending(process):
        url = json.loads(process.stdout.readline())["url"]
        end = time.monotonic() + 20
        while not told.exists() and time.monotonic() < end:
            time.sleep(0.02)
        yield f"{url}/workbench/", told.read_text().strip()
    assert not [*temporary.iterdir()]


def test_a_browser_is_told_the_token_in_a_file_of_this_users_alone(tmp_path: Path) -> None:
    token = "0123 <&\"'%#456789abcdef"
    with open_workbench(tmp_path, PAW_SERVE_TOKEN=token) as (workbench, told):
        assert "0123" not in told
        page = Path(told)
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
        found = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', page.read_text())
        assert found
        address, _, fragment = html.unescape(found[1]).partition("#token=")
        assert (address, unquote(fragment)) == (workbench, token)
        assert "&" not in fragment


def test_without_a_token_a_browser_is_told_the_workbench_itself(tmp_path: Path) -> None:
    with open_workbench(tmp_path) as (workbench, told):
        assert told == workbench


def test_a_token_is_in_no_output_that_is_kept() -> None:
    token = "0123456789abcdef"
    environment = os.environ | {"PAW_SERVE_TOKEN": token}
    process = start("serve", "--host", "0.0.0.0", "--port", 0, env=environment)
    try:
        line = process.stderr.readline().decode()
        assert " and all other addresses of this machine, workbench at http://127.0.0.1:" in line
        assert token not in line
    finally:
        process.kill()
        stdout, stderr = process.communicate()
    assert token not in (stdout + stderr).decode()


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_package_that_is_missing_is_named_with_its_extra(package: str) -> None:
    command = [sys.executable, "-c", _WITHOUT, package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: serving over HTTP needs the package {package}\n"
        "hint: `pip install 'paw-mlx[serve]'` brings it.\n"
    )
