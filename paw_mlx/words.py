"""Numbers and texts as people read them."""

from __future__ import annotations

import json
import re

OBEYED = re.compile(  # controls, marks of direction, tags, halves of a character
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]|\r(?!\n)"
)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 row`, `1,234 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def megabytes(size: int) -> str:
    """Return a size: `22.7 MB`, at least `0.1 MB` for what is not empty."""
    return f"{max(size / 1e6, 0.1 if size else 0):,.1f} MB"


def harmless(text: str) -> str:
    """Return a text with what a terminal would obey, or hide, escaped as JSON escapes it.

    Lines, tabs and what scripts are written with stay; JSON stays the same JSON.
    """
    return OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], text)
