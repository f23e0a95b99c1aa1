"""What an agent hands to a tool, checked against the tool's own schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import OptionError, listed

MAX_ITEMS = 1000  # of a list


def check_arguments(schema: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments; OptionError says which is missing, unknown, too long or no text.

    `schema` is an object's, of texts and lists of texts.
    """
    known, found = schema["properties"], dict(given or {})
    hint = f"Its arguments: {listed([*known], 10)}."
    if missing := [name for name in schema["required"] if name not in found]:
        raise OptionError(f"{listed(missing)} is missing", hint=hint)
    if unknown := sorted({*found} - {*known}):
        raise OptionError(
            f"there is no argument {listed([one[:80] for one in unknown])}", hint=hint
        )
    for name, value in found.items():
        if known[name]["type"] == "string":
            _check_text(name, value, known[name]["maxLength"])
            continue
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise OptionError(f"{name} is to be a list of at most {MAX_ITEMS:,} texts")
        for number, item in enumerate(value, 1):
            _check_text(f"{name}, item {number},", item, known[name]["items"]["maxLength"])
    return found


def _check_text(name: str, value: Any, limit: int) -> None:
    if not isinstance(value, str):
        raise OptionError(f"{name} is to be text, not {json.dumps(value)[:80]}")
    if len(value) > limit:
        raise OptionError(f"{name} has {len(value):,} characters (limit {limit:,})")
