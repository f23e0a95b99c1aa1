"""Functions for servers: a daemon that hangs is not waited for by every request."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import tiny

from paw_mlx.client import places, wire
from paw_mlx.serving.source import Source


def test_a_daemon_that_hangs_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_HELLO_S", 1.0)
    base, program = str(tiny.write_base(tmp_path / "base", "llama")), tiny.program("llama")
    places.make_folder()
    source, seconds = Source(), list[float]()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(places.socket_path()))
        silent.listen(8)
        try:
            for _ in range(3):
                begin = time.monotonic()
                assert source.function(program, interpreter=base).run("disk", max_tokens=2).text
                seconds.append(time.monotonic() - begin)
        finally:
            source.close()
    assert seconds[0] > 1 > max(seconds[1:])
