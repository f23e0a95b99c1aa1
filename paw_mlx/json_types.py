"""Python's types in JSON: the schema of a type, and its values made of JSON's.

    type                          JSON                                 value
    str, int, float, bool, None   string, integer, number, …           the same
    date                          a string, 2024-02-29                 a date
    Literal, an Enum              one of its values                    the value, the member
    list, tuple, dict[str, …]     array, array, object                 the same
    a dataclass, a TypedDict      an object of its fields, no others   the same
    A | B                         either                               the first that fits
    a model of pydantic's         as it says, but closed               the model
    Any                           anything                             as JSON has it

All others JSON could say in several ways, or in none: they are refused. pydantic's models are known
by what they can do, and pydantic is not imported.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from enum import EnumMeta
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import OptionError, OutputError
from .output import Build, Schema

_SCALARS: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    types.NoneType: "null",
}
_LEAP = "(0[48]|[2468][048]|[13579][26])"  # a leap year's last two digits, or its first before 00
# The days that there are, 0001-01-01 to 9999-12-31.
_DATE = (
    "^((000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-("
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    f"02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{{2}}{_LEAP}|{_LEAP}00)-02-29)$"
)


def read_type(given: Any) -> Schema:
    """Return the JSON of a type; OptionError for what has no one JSON, by its name and field."""
    name, reader = named(given), _Reader()
    try:
        form = reader.read(given, name)
    except RecursionError:
        raise OptionError(f"{name} has no end: an alias holds itself") from None
    schema = form.schema | ({"$defs": reader.definitions} if reader.definitions else {})

    def build(value: Any) -> Any:
        try:
            return form.build(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise OutputError(f"the output is no {name}: {_line(error)}") from error

    return Schema.of(schema, build)


def is_choice(given: Any) -> bool:
    """Whether a type is a Literal or an Enum."""
    return isinstance(given, EnumMeta) or get_origin(_bare(given)) is Literal


def choices_of(given: Any, where: str) -> list[tuple[str | int | float | bool | None, Any]]:
    """Return the values of a Literal or an Enum, in JSON and in Python, in order."""
    members = list(given) if isinstance(given, EnumMeta) else get_args(_bare(given))
    if not members:
        raise OptionError(f"{where} has no values")
    return [(_plain(member, where), member) for member in members]


def named(given: Any) -> str:
    """Return what a type is called in a message."""
    if isinstance(given, type) and get_origin(given) is None:
        return given.__qualname__.rpartition("<locals>.")[2]
    text = repr(given).replace("typing.", "")
    return text if len(text) <= 80 else f"{text[:80]}…"


@dataclasses.dataclass(frozen=True)
class _Form:
    """What a type is in JSON. `build` makes its value of JSON's; ValueError for another type's."""

    schema: dict[str, Any]
    build: Build


class _Reader:
    """Types read into forms; `definitions` are of those that hold themselves, and models' own."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._reading: list[type] = []  # from the outermost to the one that is being read
        self._names: dict[type, str] = {}  # of those that were found within themselves
        self._forms: dict[type, _Form] = {}

    def read(self, given: Any, where: str) -> _Form:
        """Return a type's form; `where` says what field it is of."""
        given = _bare(given)
        kind, arguments = get_origin(given) or given, get_args(given)
        if given is Any:
            return _Form({}, lambda value: value)
        if given in (*_SCALARS, None):
            return _scalar(given)
        if given is date:
            return _Form({"type": "string", "pattern": _DATE}, date.fromisoformat)
        if is_choice(given):
            return _choice(choices_of(given, where))
        if kind in (Union, types.UnionType):
            return _either([self.read(argument, where) for argument in arguments])
        if kind in (list, Sequence):
            return self._list(arguments, where)
        if kind is tuple:
            return self._tuple(arguments, where)
        if kind in (dict, Mapping):
            return self._dict(arguments, where)
        if hasattr(given, "model_json_schema") and hasattr(given, "model_validate_json"):
            return self._model(given, where)
        if isinstance(given, type) and (dataclasses.is_dataclass(given) or _is_typed_dict(given)):
            return self._object(given, where)
        _refuse(given, where)

    def _list(self, arguments: tuple[Any, ...], where: str) -> _Form:
        item = self.read(arguments[0] if arguments else Any, f"{where}[]")
        schema = {"type": "array", "items": item.schema}
        return _Form(schema, lambda value: [item.build(one) for one in _fit(value, list)])

    def _tuple(self, arguments: tuple[Any, ...], where: str) -> _Form:
        if not arguments or arguments[1:] == (...,):
            items = self._list(arguments[:1], where)
            return _Form(items.schema, lambda value: tuple(items.build(value)))
        forms = [self.read(one, f"{where}[{place}]") for place, one in enumerate(arguments)]
        schema = {"type": "array", "prefixItems": [form.schema for form in forms], "items": False}

        def build(value: Any) -> tuple[Any, ...]:
            pairs = zip(forms, _fit(value, list), strict=True)
            return tuple(form.build(one) for form, one in pairs)

        return _Form(schema | {"minItems": len(forms), "maxItems": len(forms)}, build)

    def _dict(self, arguments: tuple[Any, ...], where: str) -> _Form:
        key, item = arguments or (str, Any)
        if _bare(key) is not str:
            raise OptionError(f"{where} has keys of the type {named(key)}, and JSON's are str")
        form = self.read(item, f"{where}[…]")
        return _Form(
            {"type": "object", "additionalProperties": form.schema},
            lambda value: {key: form.build(one) for key, one in _fit(value, dict).items()},
        )

    def _object(self, cls: type, where: str) -> _Form:
        """Read a dataclass or a TypedDict; one that holds itself becomes a definition."""
        if cls in self._reading:
            name = self._names.setdefault(cls, f"{cls.__name__}{len(self._names) or ''}")
            return _Form({"$ref": f"#/$defs/{name}"}, lambda value: self._forms[cls].build(value))
        self._reading.append(cls)
        found = {name: (hint, needed) for name, hint, needed in _fields(cls, where)}
        forms = {name: self.read(hint, f"{where}.{name}") for name, (hint, _) in found.items()}
        self._reading.pop()
        required = [name for name, (_, needed) in found.items() if needed]
        schema = {
            "type": "object",
            "properties": {name: form.schema for name, form in forms.items()},
            "required": required,
            "additionalProperties": False,
        }

        def build(value: Any) -> Any:
            names, needed = {*_fit(value, dict)}, {*required}
            odd = (needed - names) | (names - forms.keys())
            if odd:
                raise ValueError(f"{sorted(odd)} are missing from {cls.__name__}, or too many")
            return cls(**{name: forms[name].build(part) for name, part in value.items()})

        self._forms[cls] = _Form(schema, build)
        if cls not in self._names:
            return self._forms[cls]
        self._define(self._names[cls], schema, where)
        return _Form({"$ref": f"#/$defs/{self._names[cls]}"}, build)

    def _model(self, model: Any, where: str) -> _Form:
        """Read a model of pydantic's; objects that it does not call open are closed."""
        try:
            schema = model.model_json_schema()
        except Exception as error:  # which pydantic's are no one kind of
            raise OptionError(f"{where} has no JSON schema: {_line(error)}") from error
        for name, definition in schema.pop("$defs", {}).items():
            self._define(name, _closed(definition), where)
        return _Form(_closed(schema), lambda value: model.model_validate_json(json.dumps(value)))

    def _define(self, name: str, schema: object, where: str) -> None:
        if self.definitions.setdefault(name, schema) != schema:
            raise OptionError(f"{where} and what stands before it hold two types named {name}")


def _scalar(given: Any) -> _Form:
    kind = types.NoneType if given is None else given
    kinds = (int, float) if kind is float else (kind,)

    def build(value: Any) -> Any:
        if type(value) not in kinds:  # a bool is an int, too
            raise ValueError(f"{value!r} is no {_SCALARS[kind]}")
        return float(value) if kind is float else value

    return _Form({"type": _SCALARS[kind]}, build)


def _choice(choices: Sequence[tuple[Any, Any]]) -> _Form:
    members = {(type(value), value): member for value, member in choices}  # for 1 == True == 1.0

    def build(value: Any) -> Any:
        if isinstance(value, list | dict) or (type(value), value) not in members:
            raise ValueError(f"{value!r} is none of its values")
        return members[type(value), value]

    return _Form({"enum": [value for value, _ in choices]}, build)


def _either(forms: Sequence[_Form]) -> _Form:
    def build(value: Any) -> Any:
        for form in forms:
            try:
                return form.build(value)
            except (ValueError, TypeError):
                continue
        raise ValueError(f"{value!r} is of none of its types")

    return _Form({"anyOf": [form.schema for form in forms]}, build)


def _bare(given: Any) -> Any:
    """Return the type that an alias, a NewType, Annotated or the like stands for."""
    if get_origin(given) in (Annotated, Required, NotRequired):
        return _bare(get_args(given)[0])
    if hasattr(given, "__supertype__"):
        return _bare(given.__supertype__)
    if type(given).__name__ == "TypeAliasType":
        return _bare(given.__value__)
    return given


def _plain(member: Any, where: str) -> str | int | float | bool | None:
    """Return the value of a Literal or of an Enum's member as JSON has it."""
    value = member.value if isinstance(type(member), EnumMeta) else member
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # not a subclass of it
    if value is not None:
        raise OptionError(f"{where} has the value {value!r}, which JSON cannot say")
    return None


def _fields(cls: Any, where: str) -> Iterator[tuple[str, Any, bool]]:
    """Yield the fields of a dataclass or a TypedDict: name, type, whether it has to be there."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{where} has a type that cannot be read: {_line(error)}",
            hint="Classes within a function are not found by name: define them in a module.",
        ) from error
    if _is_typed_dict(cls):
        for name, hint in hints.items():
            asked = get_origin(hint) if get_origin(hint) in (Required, NotRequired) else None
            yield name, hint, asked is Required or (not asked and name in cls.__required_keys__)
        return
    for field in dataclasses.fields(cls):
        if field.init:
            defaults = field.default, field.default_factory
            yield field.name, hints[field.name], defaults == (dataclasses.MISSING,) * 2


def _is_typed_dict(given: Any) -> bool:
    return issubclass(given, dict) and hasattr(given, "__required_keys__")


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have no properties but those that it names.

    What a schema says of other properties stays; so does `allOf`, whose parts do not know of
    each other.
    """
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for key in ("properties", "$defs"):
        if key in made:
            made[key] = {name: _closed(part) for name, part in made[key].items()}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if key in made:
            made[key] = [_closed(part) for part in made[key]]
    for key in ("items", "additionalProperties"):
        if key in made:
            made[key] = _closed(made[key])
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def _fit(value: Any, kinds: Any) -> Any:
    if not isinstance(value, kinds):
        raise ValueError(f"{value!r} is of another type")
    return value


def _refuse(given: Any, where: str) -> NoReturn:
    raise OptionError(
        f"{where} is of the type {named(given)}, which has no one form in JSON",
        hint="Known are str, int, float, bool, None, date, Literal, Enum, list, tuple, dict, "
        "dataclasses, TypedDict, unions of them, and pydantic's models.",
    )


def _line(error: Exception) -> str:
    """Return what an error says, in a line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
