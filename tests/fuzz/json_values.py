"""Mutations of JSON: values in places of others, missing, twice, odd; or its bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from .mutate import EDGES, ODD_TEXTS, mutate_bytes, mutate_text, text_mutation

ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    *(
        0,
        1,
        -1,
        2,
        3,
        63,
        64,
        65,
        255,
        1 << 16,
        1 << 24,
        1 << 31,
        1 << 63,
        -(1 << 63),
        10**30,
        10**400,
    ),
    *(0.0, -0.0, 0.5, 1e-320, 1e38, 1e39, 1e308),
    *([], {}, [[]], [None], {"": None}, [[[[]]]], {"a": {"b": {}}}, [0] * 100),
]
_RAW = [
    b"NaN",
    b"Infinity",
    b"1e999",
    b'"\\ud800"',
    b"\xff",
    b"\xef\xbb\xbf",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
    b",",
    b"}",
    b"\0",
]


def mutate_value(value: Any, chance: Random) -> Any:
    """Change some places of a JSON value; it is changed in place."""
    holder = [value]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(holder))
        where, key = chance.choice(places)
        _change(where, key, chance, places)
    return holder[0]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """List where values stand: a container and a key of it."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level and len(found) < 4000:
        inner = level.pop()
        if isinstance(inner, dict | list):
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            found += [(inner, key) for key in keys]
            level += [inner[key] for key in keys]
    return found


def _change(where: Any, key: Any, chance: Random, places: Sequence[tuple[Any, Any]]) -> None:
    old, (other, its) = where[key], chance.choice(places)
    match chance.randrange(9):
        case 0 | 1:
            where[key] = _copied(chance.choice(ODD_VALUES))
        case 2:
            where[key] = chance.choice(ODD_TEXTS)
        case 3:
            if isinstance(old, str):
                where[key] = mutate_text(old, chance)
            elif isinstance(old, int | float):
                where[key] = chance.choice(
                    [old + 1, -old, old - 1, chance.choice(EDGES), str(old)[:100]]
                )
            elif isinstance(old, list) and old:
                where[key] = old * chance.choice((0, 2, 2, 40)) if len(old) < 1000 else old[:1]
            elif isinstance(old, dict):
                old[chance.choice(ODD_TEXTS)] = chance.choice(ODD_VALUES)
        case 4:
            del where[key]
        case 5:
            where[key] = _copied(other[its])
        case 6:
            if isinstance(where, dict):
                where[mutate_text(key, chance)] = where.pop(key)
            else:
                where.insert(key, _copied(old))
        case 7:
            where[key] = chance.choice(([old], {"": old}, [old, old], str(old)[:1000]))
        case 8:
            where[key], other[its] = _copied(other[its]), _copied(old)


def _copied(value: Any) -> Any:
    """Return a copy that shares nothing; of what holds itself, or is too large, nothing."""
    try:
        text = json.dumps(value)
        return json.loads(text) if len(text) < 200_000 else None
    except (ValueError, RecursionError):
        return None


def json_mutation(data: bytes, chance: Random) -> bytes:
    """Change JSON as a value, or its bytes."""
    if chance.random() < 0.8:
        try:
            value = mutate_value(json.loads(data), chance)
            made = json.dumps(value, ensure_ascii=chance.random() < 0.5)
            return made.encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError, IndexError):
            pass
    if chance.random() < 0.5:
        at = chance.randint(0, len(data))
        return data[:at] + chance.choice(_RAW) + data[at + chance.choice((0, 1, 4)) :]
    return mutate_bytes(data, chance)


def lines_mutation(data: bytes, chance: Random) -> bytes:
    """Change lines: their order, their ends, and one of them as JSON or text."""
    lines = data.splitlines(keepends=True)
    if not lines or chance.random() < 0.2:
        return mutate_bytes(data, chance)
    at = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0 | 1:
            lines[at] = json_mutation(lines[at], chance) + b"\n"
        case 2:
            lines[at] = text_mutation(lines[at], chance)
        case 3:
            lines[at] = lines[at].rstrip(b"\n") + chance.choice(
                (b"", b"\r\n", b"\r", b"\n\n", b"\0\n")
            )
        case 4:
            lines[at:at] = [lines[chance.randrange(len(lines))]] * chance.choice((1, 1, 200))
        case 5:
            del lines[at]
    return b"".join(lines)
