"""Limits for tests that would wait for good."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Have the test fail that is not done in so many seconds."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for good"))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
