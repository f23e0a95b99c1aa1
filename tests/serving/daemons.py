"""A daemon of its own for a test module: a home with a tiny base and programs, and its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
from shell import SCRIPT, Done, ending, paw

from paw_mlx import Labels, formats
from paw_mlx.output import TEXT

LABELS = ("disk", "server", "picnic")


class Place:
    """A home: `base`, and the programs one, two, and (of labels) labels, by path and by name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, folder / "base"
        self.environment = os.environ | {"PAW_MLX_HOME": str(folder / "home"), "PAW_OFFLINE": "1"}
        tiny.write_base(self.base, "llama")
        for name, seed, output in (
            ("one", 1, TEXT),
            ("two", 2, TEXT),
            ("labels", 1, Labels(LABELS)),
        ):
            program = replace(tiny.program("llama", seed), output=output)
            path = folder / f"{name}.paw"
            formats.save(program, path, dtype="f32", profile=tiny.profile("llama"))
            assert self.paw("pull", path, "--as", name).returncode == 0

    def paw(self, *words: object, **options: Any) -> Done:
        """Run a command in this home."""
        options["env"] = self.environment | options.pop("env", {})
        return paw(*words, **options)

    def call(self, command: str, *words: object, **options: Any) -> Done:
        """Run a command of a program on the tiny base, of 8 tokens at most."""
        base = ("--interpreter", self.base)
        return self.paw(command, *words, *base, **options)

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself."""
        return json.loads(self.paw("daemon", "status", "--json").stdout)

    def kill(self) -> int:
        """Kill the daemon at once; return its process's id."""
        pid = int(self.status()["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def daemon(self, *words: object) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run a daemon of this home during the block, as a child of this process."""
        return running_daemon(self.environment, *words)


@contextmanager
def running_daemon(
    environment: Mapping[str, str], *words: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon in these variables during the block, as a child of this process."""
    command = [*SCRIPT, "daemon", "run", *map(str, words)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    with ending(process):
        deadline = time.monotonic() + 60
        while paw("daemon", "status", env=environment).returncode and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
        yield process
