"""`paw-mlx daemon logs`: the end of a log, and what comes, also after it was begun anew."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from shell import SCRIPT, paw

from paw_mlx.client.places import log_path, make_folder


def test_the_last_lines_are_shown() -> None:
    assert "there is no log yet" in paw("daemon", "logs").stderr
    make_folder()
    log_path().write_text("".join(f"{number}\n" for number in range(9)))
    assert paw("daemon", "logs", "-n", 2).stdout == b"7\n8\n"


def test_a_log_is_followed_into_the_file_that_comes_after_it() -> None:
    make_folder()
    path: Path = log_path()
    path.write_text("first\n")
    command = [*SCRIPT, "daemon", "logs", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reading:
        late = threading.Timer(60, reading.kill)  # or a line that never comes is waited for
        late.start()
        try:
            assert reading.stdout
            assert reading.stdout.readline() == "first\n"
            with path.open("a") as file:
                file.write("second\n")
            assert reading.stdout.readline() == "second\n"
            path.rename(path.with_suffix(".log.1"))  # as the daemon does
            path.write_text("third\n")
            assert reading.stdout.readline() == "third\n"
        finally:
            late.cancel()
            reading.kill()
            reading.communicate()
