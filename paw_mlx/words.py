"""Numbers as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 row`, `1,234 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def megabytes(size: int) -> str:
    """Return a size: `22.7 MB`, at least `0.1 MB` for what is not empty."""
    return f"{max(size / 1e6, 0.1 if size else 0):,.1f} MB"
