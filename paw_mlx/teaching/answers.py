"""What a teacher's answer holds, as far as it is well formed.

A list, an object around one, an object a line, prose or a code fence about them, an end that is
missing: each pair that is whole is taken, and the others are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_CHARS = 1 << 18  # of an answer; what is beyond them is not read
_DECODER = json.JSONDecoder(strict=False)  # lets a line break stand in a string
_MAX_FAULTS = 1000  # after which nothing more is looked for
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*\n(.*?)\n?```", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")


def read_pairs(text: str) -> tuple[list[tuple[str, str]], int]:
    """Return the pairs (input, output) in an answer, and how many were malformed.

    An output that is JSON of its own is written as json.dumps does.
    """
    pairs: list[tuple[str, str]] = []
    malformed = 0
    for value in _objects(_spoken(text)):
        if isinstance(value, dict):
            for row in _rows(value):
                pair = _texts(row)
                malformed += pair is None
                pairs += [pair] if pair else []
        else:
            malformed += '"input"' in value
    return pairs, malformed


def read_strings(text: str) -> list[str]:
    """Return the texts of a JSON list, or else the lines of an answer, without their bullets."""
    text = _spoken(text)
    start = text.find("[")
    try:
        found = _DECODER.raw_decode(text, start)[0] if start >= 0 else []
    except (ValueError, RecursionError):
        found = []
    texts = [each for each in found if isinstance(each, str)]
    return texts or [_BULLET.sub("", line).strip(' "[],') for line in text.splitlines()]


def read_output(text: str) -> str:
    """Return the output that an answer to one question is: no thoughts, no fence, no quotes."""
    text = _spoken(text).strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1].strip()
    text = text.removeprefix("Output:").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    return text


def _spoken(text: str) -> str:
    return _THOUGHT.sub("", text[:MAX_CHARS])


def _objects(text: str) -> Iterator[dict[str, Any] | str]:
    """Yield the objects that stand in a text, outermost; for what is none, its beginning."""
    place, faults = text.find("{"), 0
    while place >= 0 and faults < _MAX_FAULTS:
        try:
            value, end = _DECODER.raw_decode(text, place)
            yield value
        except (ValueError, RecursionError):
            faults += 1
            end = place + 1
            after = text.find("{", end)
            yield text[place : after if after >= 0 else len(text)]
        place = text.find("{", end)


def _rows(value: dict[str, Any]) -> list[Any]:
    """Return the pairs that an object is or holds in a list of its own; none, if it is another."""
    if "input" in value:
        return [value]
    lists = [each for each in value.values() if isinstance(each, list)]
    return [row for each in lists for row in each if isinstance(row, dict)]


def _texts(row: dict[str, Any]) -> tuple[str, str] | None:
    text, output = row.get("input"), row.get("output")
    if not isinstance(text, str) or output is None:
        return None
    if not isinstance(output, str):
        output = json.dumps(output, ensure_ascii=False)
    try:
        (text + output).encode()
    except UnicodeEncodeError:  # half a character
        return None
    return text.strip(), output.strip()
