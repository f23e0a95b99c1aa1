"""A daemon that answers oddly, or cannot have a program: who waits hears of it, and no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

from paw_mlx import formats
from paw_mlx.client import protocol
from paw_mlx.client.contents import Contents
from paw_mlx.client.link import Link
from paw_mlx.client.runner import DaemonRunner
from paw_mlx.client.wire import Wire
from paw_mlx.errors import FormatError
from paw_mlx.runner import Options


@contextmanager
def linked() -> Iterator[tuple[Link, Wire]]:
    """A link, and the daemon's end of it."""
    mine, theirs = map(Wire, socket.socketpair())
    link = Link(mine)
    try:
        yield link, theirs
    finally:
        theirs.close()
        link.close()


def test_an_answer_that_is_none_fails_its_call_and_no_other() -> None:
    with linked() as (link, daemon):
        runner, program = DaemonRunner(link, {}), tiny.program("llama")
        odd = (
            {"op": "error", "error": 5},
            {"op": "result", "record": {}},
            {"op": "result", "record": None},
        )
        for answer in odd:
            future = runner.submit(program, "disk", Options())
            daemon.send({"id": daemon.receive()["id"], **answer})
            assert isinstance(future.exception(timeout=10), AttributeError | KeyError | TypeError)
        future = runner.submit(program, "disk", Options())
        error = {"code": "FormatError", "message": "as ever"}
        daemon.send({"id": daemon.receive()["id"], "op": "error", "error": error})
        with pytest.raises(FormatError, match="as ever"):
            future.result(timeout=10)


def test_a_program_that_no_message_holds_is_said_to_be_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_BODY_BYTES", 100)
    program, path = tiny.program("llama"), tmp_path / "program.paw"
    formats.save(program, path, dtype="f32", profile=tiny.profile("llama"))
    with linked() as (link, daemon):
        link.keep(program, Contents.of_file(path))
        future = DaemonRunner(link, {}).submit(program, "disk", Options())
        daemon.send({"id": daemon.receive()["id"], "op": "unknown"})
        with pytest.raises(FormatError, match="and may have 100"):
            future.result(timeout=10)
        assert link.lost is None


def test_threads_may_ask_for_programs_that_are_new_at_once() -> None:
    programs = [tiny.program("llama", seed) for seed in range(8)]
    with linked() as (link, _), ThreadPoolExecutor(8) as pool:
        asked = pool.map(lambda seed: link.request("run", programs[seed % 8], {}), range(400))
        assert len([*asked]) == 400
