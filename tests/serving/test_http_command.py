"""`paw-mlx serve` as a shell sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx
import pytest
from shell import start

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
