"""What a request says, checked: a JSON object, its fields, a call's options."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from ...errors import OptionError
from ...runner import Options
from .errors import Refused

_OPTIONS: dict[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "seed": int,
    "timeout_s": float,
    "overflow": str,
    "threshold": float,
    "otherwise": str,
}
_NAMES = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request's body is; Refused (400) for another one."""
    data = await request.body()
    try:
        found = json.loads(data or b"{}")
        if b"\\u" in data:  # half of a character (a lone surrogate) is no text
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, "bad_json", f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, "bad_json", "the body is JSON, but no object")
    return found


def check_known(found: Mapping[str, Any], *known: str) -> None:
    """Raise Refused (400) for a field that is none of these: it would say something unheard."""
    if more := [name for name in found if name not in known]:
        raise Refused(
            400,
            "unknown_field",
            f"nothing here is called {more[0][:100]!r}",
            hint=f"Known: {', '.join(known)}.",
            param=more[0][:100],
        )


def take(found: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """Return a field that is of a kind; the default where it is not there or null.

    Refused (400) for another kind, for a number that is not finite, and where it is missing and
    the default is `...`.
    """
    value: Any = found.get(name)
    if value is None and default is not ...:
        return default
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        missing = "is missing" if value is None else f"must be {_NAMES[kind]}"
        raise Refused(400, "bad_field", f"the field {name!r} {missing}", param=name)
    if kind is not float:
        return value
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        told = "is no number" if math.isnan(number) else "is too large"
        raise Refused(400, "bad_field", f"the field {name!r} {told}", param=name)
    return number


def text_of(found: Mapping[str, Any], name: str = "input") -> str:
    """Return a field that has to be there and be text."""
    text: str = take(found, name, str, ...)
    return text


def options_of(found: Mapping[str, Any]) -> Options:
    """Return a call's options as JSON has them; what is null is as if it were not there.

    Refused (400) for what is none, OptionError for a value out of range.
    """
    check_known(found, *_OPTIONS)
    given = {name: take(found, name, kind) for name, kind in _OPTIONS.items()}
    return Options(**{name: value for name, value in given.items() if value is not None})


def options_in(query: Mapping[str, str]) -> Options:
    """Return a call's options as a query string has them; errors as those of `options_of`."""
    check_known(query, *_OPTIONS)
    given: dict[str, Any] = {}
    for name, text in query.items():
        try:
            given[name] = _OPTIONS[name](text)
        except ValueError:
            raise OptionError(f"{name} is {text[:100]!r}, and no number") from None
    return options_of(given)
