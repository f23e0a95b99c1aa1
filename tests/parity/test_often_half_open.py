"""10,000 connections that say half of what they want: calls are answered, and memory is bounded."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from half_open import half_open
from http_servers import http_process, store_functions, write_base
from leftovers import rss

pytestmark = pytest.mark.slow

NUMBER = 10_000
ONE = {"input": "x", "options": {"max_tokens": 1}}


def test_ten_thousand_half_open_connections_keep_nobody_out(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NUMBER + 200:
        pytest.skip(f"a process may open {hard:,} files at most")
    store_functions(write_base(tmp_path))
    with http_process() as (server, process):
        assert server.post("/paw/v1/run/words", ONE).is_success
        before = _resident_bytes(process.pid)
        with half_open(server.port, NUMBER):
            for _ in range(10):
                begin = time.monotonic()
                assert server.post("/paw/v1/run/words", ONE).is_success
                assert time.monotonic() - begin < 5
            assert server.number("paw_connections_open") <= 2048
            assert _resident_bytes(process.pid) - before < 256 << 20
        assert server.post("/paw/v1/run/words", ONE).is_success


def _resident_bytes(pid: int) -> int:
    """Return the memory a process holds; 0 where the system does not tell it in /proc."""
    return rss(pid) if Path("/proc").exists() else 0
