"""What `labels=`, `schema=` and `regex=` may be, made the type of an output."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from .errors import OptionError
from .json_types import choices_of, is_choice, named, read_type
from .output import Labels, Output, Regex, Schema
from .program import Program


def retype(
    program: Program,
    output: Output | None,
    threshold: float | None = None,
    otherwise: str | None = None,
) -> Program:
    """Return a program with outputs of another type, if one is given, decided by a threshold.

    OptionError for a threshold, or what is said otherwise, where outputs are no labels.
    """
    typed = program.typed(output)
    wishes = {"threshold": threshold, "otherwise": otherwise}
    changes: dict[str, Any] = {key: wish for key, wish in wishes.items() if wish is not None}
    if not changes:
        return typed
    if not isinstance(typed.output, Labels):
        raise OptionError(
            f"{' and '.join(changes)} would be of labels, and the output is {typed.output.kind}",
            hint='Say which labels: labels=["ALERT", "QUIET"].',
        )
    return typed.typed(dataclasses.replace(typed.output, **changes))


def output_of(
    labels: object = None,
    schema: object = None,
    regex: str | re.Pattern[str] | Regex | None = None,
) -> Output | None:
    """Return the type of outputs that one of these says; None if none is given.

    `labels` are texts in order, a Literal, an Enum whose values are texts, or `Labels`; `schema` is
    a JSON schema, a type of `json_types`, or a `Schema`; `regex` a pattern of the whole output. A
    `schema` that is a Literal or an Enum of texts makes labels, said without JSON's quotes.
    OptionError for more than one, and for what has no one meaning, which it names.
    """
    given = {"labels": labels, "schema": schema, "regex": regex}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise OptionError(f"an output is of one type, not of {len(names)}: {', '.join(names)}")
    if labels is not None:
        return _labels(labels)
    if schema is not None:
        return _schema(schema)
    return None if regex is None else _regex(regex)


def _labels(given: Any) -> Labels:
    if isinstance(given, Labels):
        return given
    if is_choice(given):
        return _choose(choices_of(given, named(given)), named(given))
    if isinstance(given, str | bytes | Mapping | Set | type) or not isinstance(given, Iterable):
        raise OptionError(
            f"labels are texts in order, a Literal or an Enum, and not {named(given)}",
            hint='For example labels=["ALERT", "QUIET"].',
        )
    return Labels(tuple(given))


def _schema(given: Any) -> Output:
    if isinstance(given, Schema):
        return given
    if isinstance(given, Mapping):
        return Schema.of(dict(given))
    if isinstance(given, str | bytes):
        raise OptionError(
            f"a schema is a dict or a type, and not {named(given)}",
            hint="json.loads makes a dict of JSON's text.",
        )
    if is_choice(given):
        choices = choices_of(given, named(given))
        if all(isinstance(value, str) for value, _ in choices):
            return _choose(choices, named(given))
    return read_type(given)


def _regex(given: Any) -> Regex:
    if isinstance(given, Regex):
        return given
    if isinstance(given, re.Pattern) and given.flags == re.UNICODE:
        given = given.pattern
    if not isinstance(given, str):
        raise OptionError(
            f"a regex is a text, and not {named(given)}", hint='Flags go into it: "(?i)…".'
        )
    return Regex(given)


def _choose(choices: Sequence[tuple[object, object]], name: str) -> Labels:
    """Make labels of texts, and of a Literal's integers as their digits."""
    built = {}
    for value, member in choices:
        is_digits = type(value) is int and value is member
        if not isinstance(value, str) and not is_digits:
            raise OptionError(
                f"a label is a text, and {name} has {member!r}",
                hint="Give an Enum's members texts for values.",
            )
        built[str(value)] = member
    return Labels(tuple(built), build=built.__getitem__)
