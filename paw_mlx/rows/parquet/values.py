"""Values of Arrow as JSON has them: every type that a Parquet file may hold, none refused.

type                        JSON
null, truth, integer        the same
float                       the same; NaN is null, an infinity text
text                        text; what is not UTF-8 in it is replaced
binary                      bytes, which each format writes its way; base64 within others
decimal                     its digits, as text
date, time, timestamp       text of ISO 8601, in its zone and to its last digit
duration                    text of ISO 8601, in seconds
list, struct                a list, an object
map                         an object, or pairs where its keys are no text
dictionary, extension       what it stands for
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyarrow import types

from ..jsonl import as_base64

Convert = Callable[[Any], Any]  # of a scalar

_EPOCH = datetime(1970, 1, 1)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def converter(kind: Any) -> Convert:
    """Return what makes a JSON value, or bytes, of a scalar of an Arrow type."""
    convert = _converter(kind)
    return lambda scalar: convert(scalar) if scalar.is_valid else None


def _converter(kind: Any) -> Convert:
    """Return a converter for scalars that are not null."""
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return lambda scalar: str(UUID(bytes=scalar.value.as_py()))
        return _unwrapped(converter(kind.storage_type))
    if types.is_dictionary(kind):
        return _unwrapped(converter(kind.value_type))
    if types.is_map(kind):
        return _map(_inner(kind.key_type), _inner(kind.item_type))
    if types.is_struct(kind):
        return _struct({kind.field(i).name: _inner(kind.field(i).type) for i in range(len(kind))})
    if types.is_nested(kind) and hasattr(kind, "value_type"):
        value = _inner(kind.value_type)
        return lambda scalar: [value(each) for each in scalar.values]
    if types.is_timestamp(kind):
        return _timestamp(kind)
    if types.is_time(kind):
        return lambda scalar: _moment(scalar.value, kind.unit).partition("T")[2]
    if types.is_duration(kind):
        return _duration(kind)
    return _float if types.is_floating(kind) else _plain


def _inner(kind: Any) -> Convert:
    """Return a converter for what stands within another value: bytes as text."""
    convert = converter(kind)

    def inner(scalar: Any) -> Any:
        value = convert(scalar)
        return as_base64(value) if isinstance(value, bytes) else value

    return inner


def _unwrapped(convert: Convert) -> Convert:
    return lambda scalar: convert(scalar.value)


def _map(key: Convert, value: Convert) -> Convert:
    def pairs(scalar: Any) -> Any:
        found = [[key(each[0]), value(each[1])] for each in scalar.values]
        return dict(found) if all(isinstance(one, str) for one, _ in found) else found

    return pairs


def _struct(converts: dict[str, Convert]) -> Convert:
    # By number: two fields may have one name.
    return lambda scalar: {
        name: convert(scalar[index]) for index, (name, convert) in enumerate(converts.items())
    }


def _float(scalar: Any) -> float | str | None:
    value = float(scalar.as_py())  # older ones give numpy's of 16 bits
    return None if math.isnan(value) else value if math.isfinite(value) else str(value)


def _plain(scalar: Any) -> Any:
    try:
        value = scalar.as_py()
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")
    except (ValueError, OverflowError):  # a date beyond Python's years
        return str(scalar.value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value if isinstance(value, str | bytes | int) else str(value)


def _duration(kind: Any) -> Convert:
    def text(scalar: Any) -> str:
        seconds = Decimal(scalar.value) / _PER_SECOND[kind.unit]
        return f"{'-' if seconds < 0 else ''}PT{abs(seconds):f}S"

    return text


def _timestamp(kind: Any) -> Convert:
    zone = _zone(kind.tz) if kind.tz else None
    return lambda scalar: _moment(scalar.value, kind.unit, zone)


def _zone(name: str) -> tzinfo:
    """Return a time zone; UTC, in which the moment is the same, for one that is not known here."""
    try:
        return pa.lib.string_to_tzinfo(name)
    except (pa.ArrowException, LookupError):
        return UTC


def _moment(value: int, unit: str, zone: tzinfo | None = None) -> str:
    """Return a moment since 1970; no digit is lost, whatever Python's own have room for."""
    per_second = _PER_SECOND[unit]
    seconds, rest = divmod(value, per_second)
    digits = f".{rest:0{len(str(per_second)) - 1}}".rstrip("0") if rest else ""
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
        if zone:
            moment = moment.replace(tzinfo=UTC).astimezone(zone)
    except OverflowError:  # beyond Python's years
        return f"{value} {unit}"
    text = moment.isoformat()
    return text[:19] + digits + text[19:]
