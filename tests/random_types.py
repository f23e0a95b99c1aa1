"""Random types of outputs, and whether a text has its type: jsonschema and re are the judges."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema

from paw_mlx import Labels, Regex, Schema

Type = Labels | Regex | Schema

WORDS = ["red", "green", "a b", "Grüße", "u\u0308ber", "<|im_end|>", 'say "hi"', "a\\b", "x\ny", ""]
NAMES = ["id", "name", "due date", "größe", "a/b", 'q"', "kind"]
PIECES = ["[a-c]{1,4}", r"\d{2,3}", "[^a-z]", "(yes|no|maybe)", "é?", r"\.", "[A-F0-9]+", "(ab)*"]
MORE = {"additionalProperties": False, "description": "what is kept of a row"}


def make_type(chance: random.Random) -> Type:
    """Return a schema, labels, or a regex that Python has, too."""
    kind = chance.random()
    if kind < 0.6:
        return Schema.of(make_schema(chance))
    if kind < 0.7:
        numbers = chance.sample(range(200), chance.randint(2, 60))
        return Labels(tuple(f"label {number}" for number in numbers))
    pieces = [chance.choice(PIECES) for _ in range(chance.randint(1, 4))]
    return Regex("".join(pieces) if chance.random() < 0.5 else "x" + "|y".join(pieces))


def make_schema(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """Return a schema whose outputs are bounded, most of them short."""
    low = chance.randint(0, 2)
    kind = chance.choice(["object", "object", "array", "any of"]) if depth else "leaf"
    if kind == "object":
        names = chance.sample(NAMES, 2)
        properties = {name: make_schema(chance, depth - 1) for name in names}
        required = [name for name in names if chance.random() < 0.7]
        return {"type": "object", "properties": properties, "required": required, **MORE}
    if kind == "array":
        items = make_schema(chance, depth - 1)
        return {"type": "array", "items": items, "minItems": low, "maxItems": low + 1}
    if kind == "any of":
        return {"anyOf": [make_schema(chance, depth - 1), make_schema(chance, depth - 1)]}
    return make_leaf(chance, low)


def make_leaf(chance: random.Random, low: int) -> dict[str, Any]:
    """Return a schema of one value."""
    return chance.choice(
        [
            {"enum": chance.sample([*WORDS, 1, -2.5, None, True, [1, "a"], {"k": 1}], 3)},
            {"const": chance.choice(WORDS)},
            {"type": ["null", "boolean"]},
            {"type": "integer", "minimum": -low, "maximum": chance.choice([0, 7, 5000])},
            {"type": "string", "minLength": low, "maxLength": low + 3},
            {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"},
            {"type": "string", "format": chance.choice(["ipv4", "uuid"])},
        ]
    )


def check(output: Type, text: str) -> None:
    """Raise unless a text is of a type."""
    if isinstance(output, Labels):
        assert text in output.labels
        return
    if isinstance(output, Regex):
        assert re.fullmatch(output.pattern, text), (output.pattern, text)
        return
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(json.loads(output.text), format_checker=checker)
    validator.validate(json.loads(text))
