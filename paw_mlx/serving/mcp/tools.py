"""How an agent sees a function: a tool's name, description and schemas, and what it answers.

Names are those that every client takes: letters, digits, `_` and `-`, at most 48, which leaves
room for the prefix that clients put before them (`mcp__paw-mlx__`). Descriptions share a budget:
all of them stand in the agent's context in every conversation.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...output import Labels, Output, Regex, Schema
from ...runner import Result
from .catalog import Offer

MAX_CHARS = 1_000_000  # of any text that an agent hands over
MAX_NAME_CHARS = 48
_ALL_DESCRIPTIONS = 40_000  # characters, shared by all functions
_MOST, _LEAST = 2000, 200  # of one description; clients cut at 2 kB
_MAX_SCHEMA_CHARS = 16_000  # beyond that an output's schema is left out
_MAX_LABELS = 100  # beyond that a schema and a description do not list them
_VALUES = ("enum", "const", "default", "examples")  # of a schema's words: what is no schema


@dataclass(frozen=True)
class Tool:
    """A tool as the protocol has it. Without `reads`, it changes what is stored.

    `replaces`: it may put something else in the place of what was there.
    """

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    reads: bool = True
    replaces: bool = False
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a tool answers: a JSON object or a text; a note to the agent after it."""

    value: dict[str, Any] | str
    note: str | None = None

    @property
    def text(self) -> str:
        """The answer as text; an object as its JSON."""
        is_text = isinstance(self.value, str)
        return str(self.value) if is_text else json.dumps(self.value, ensure_ascii=False)


def function_tools(
    offers: Sequence[Offer], reserved: Collection[str] = ()
) -> dict[str, tuple[Tool, Offer]]:
    """Return a tool for each function by its name, which is none of those reserved."""
    names = tool_names([offer.reference for offer in offers], reserved)
    limit = max(_LEAST, min(_MOST, _ALL_DESCRIPTIONS // max(len(offers), 1)))
    return {
        name: (function_tool(name, offer, limit), offer)
        for name, offer in zip(names, offers, strict=True)
    }


def function_tool(name: str, offer: Offer, limit: int = _MOST) -> Tool:
    """Return the tool of a function, described in so many characters at most."""
    text = {"type": "string", "maxLength": MAX_CHARS}
    return Tool(
        name,
        offer.reference,
        describe(offer.spec, offer.output, limit) or f"The function {offer.reference}.",
        object_schema({"input": text}),
        output_schema(offer.output),
        meta={
            "paw-mlx/version": offer.stored.version,
            "paw-mlx/program_id": offer.program_id,
            "paw-mlx/interpreter": offer.interpreter,
        },
    )


def tool_names(references: Sequence[str], reserved: Collection[str] = ()) -> list[str]:
    """Return a name for each reference that every client takes, none of them twice.

    What cannot be kept of a reference becomes `_`. Where two would be called alike, the one that
    is called so keeps the name, and of the others a hash tells which is which.
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", one)[:MAX_NAME_CHARS] for one in references]
    names = []
    for reference, name in zip(references, plain, strict=True):
        is_own = name == reference or plain.count(name) == 1
        if name in reserved or not is_own:
            digest = hashlib.sha256(reference.encode()).hexdigest()[:8]
            name = f"{name[: MAX_NAME_CHARS - 9]}_{digest}"
        names.append(name)
    return names


def describe(spec: str, output: Output, limit: int) -> str:
    """Return a spec as a tool's description, cut at a word, and what it returns if it may not say.

    Clients show models the description, and mostly no output schema.
    """
    spec, returns = visible(spec).strip(), ""
    if isinstance(output, Labels) and len(output.labels) <= _MAX_LABELS:
        if len(spec) <= limit and all(label in spec for label in output.labels):
            return spec
        returns = f"\n\nReturns one of: {', '.join(output.labels)}."
    elif isinstance(output, Schema):
        returns = "\n\nReturns JSON."
    elif isinstance(output, Regex):
        returns = f"\n\nReturns text that matches {output.pattern}"
    if len(returns) > limit // 2:
        returns = ""
    return cut(spec, limit - len(returns)) + visible(returns)


def visible(text: str) -> str:
    """Return a text without what nobody sees, but a model reads: control and format characters."""
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co"))
    return "".join(kept)


def cut(text: str, limit: int) -> str:
    """Return a text of at most so many characters, cut at a blank, and `…` where it was."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    return f"{head.rsplit(maxsplit=1)[0] if ' ' in head else head}…"


def object_schema(properties: Mapping[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return the schema of an object with these properties and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def output_schema(output: Output) -> dict[str, Any] | None:
    """Return the schema of what `answer` gives for an output's type; None for text."""
    if isinstance(output, Labels):
        return _labels_schema(output)
    if not isinstance(output, Schema) or len(output.text) > _MAX_SCHEMA_CHARS:
        return None
    schema = json.loads(output.text)
    return schema if _is_object(output) else object_schema({"value": _moved(schema)})


def answer(result: Result) -> Answer:
    """Return a result as an agent gets it; OutputError for one that was cut and has no value."""
    if decision := result.decision:
        assert isinstance(result.output, Labels)
        told = {
            "label": decision.text or None,
            "probability": round(decision.probability, 4),
            "in_scope": round(decision.in_scope, 4),
        }
        if result.output.threshold is not None:
            told["abstained"] = decision.abstained
        return Answer(told)
    if isinstance(result.output, Schema):
        value = result.value
        return Answer(value if _is_object(result.output) else {"value": value})
    note = None
    if not result.is_whole:
        note = f"The output was cut after {result.output_tokens:,} tokens."
    return Answer(result.text, note)


def _labels_schema(output: Labels) -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    said: list[str | None] = [*output.labels]
    if output.threshold is not None and output.otherwise not in said:
        said.append(output.otherwise or None)
    label: dict[str, Any] = {"type": ["string", "null"] if None in said else "string"}
    size = sum(len(one or "") for one in said)
    if len(said) <= _MAX_LABELS and size <= _MAX_SCHEMA_CHARS:
        label["enum"] = said
    told = {"label": label, "probability": share, "in_scope": share}
    if output.threshold is not None:
        told["abstained"] = {"type": "boolean"}
    return object_schema(told)


def _is_object(output: Schema) -> bool:
    """Whether every value of a schema is an object, and the schema says so at its top."""
    schema = json.loads(output.text)
    return isinstance(schema, dict) and schema.get("type") == "object"


def _moved(schema: Any) -> Any:
    """Return a schema as it stands under `value`: what refers to its root follows it there."""
    if isinstance(schema, list):
        return [_moved(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: one if key in _VALUES else _moved(one) for key, one in schema.items()}
    to = schema.get("$ref")
    if isinstance(to, str) and (to == "#" or to.startswith("#/")):
        moved["$ref"] = f"#/properties/value{to[1:]}"
    return moved
