"""Texts of cases as XML and HTML may hold them."""

from __future__ import annotations

import re

# What XML 1.0 has no characters for, and HTML none that may stand there.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def legal(text: str) -> str:
    """Return a text with every control character, surrogate and the like escaped, as \\u001b."""
    return _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def clipped(text: str, limit: int) -> str:
    """Return the first `limit` characters of a text, and say how many it has if it has more."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
