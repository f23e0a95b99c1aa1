"""What a request asks for, and what it is answered: nothing here waits for a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from ...client.protocol import BASE
from ...errors import FormatError, OptionError
from ...functions import Function
from ...interpreter.drift import drift_warnings
from ...output import Labels
from ...program import Program
from ...runner import Options, Result
from ..residents import ResidentBase, Residents
from ..room import Room
from .log import Log
from .programs import Programs
from .threads import Threads

Message = dict[str, Any]
_MAX_KEY_CHARS = 200


@dataclass
class House:
    """What all sessions share: `room` for their calls, one for whose programs are `put`.

    `threads` load and tokenize, `few` what is long, `streams` wait for pieces.
    """

    residents: Residents
    programs: Programs
    threads: Threads
    few: Threads
    streams: Threads
    room: Room
    log: Log
    status: Callable[[], Message]
    stop: Callable[[], None]
    num_calls: int = 0
    putting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    doubts: WeakKeyDictionary[Program, dict[ResidentBase, list[str]]] = field(
        default_factory=WeakKeyDictionary
    )


def key_of(message: Message) -> str:
    """Return the key that a message names; FormatError for what is none."""
    key = message.get("key")
    if not isinstance(key, str) or not key.isascii() or len(key) > _MAX_KEY_CHARS:
        raise FormatError("a program's key is no short text")
    return key


def find_function(house: House, asked: Message) -> Function | None:
    """Return a program on the base that a request names, checked; None if it was not put."""
    program = house.programs.get(key_of(asked), asked.get("output"))
    if program is None:
        return None
    base = {name: asked[name] for name in BASE if asked.get(name) is not None}
    for name, value in base.items():
        if type(value) is not BASE[name]:
            raise FormatError(f"a request's {name} is no {BASE[name].__name__}")
    function = house.residents.function(program, **base)
    told = house.doubts.setdefault(program, {})
    if function.runner not in told:
        assert isinstance(function.runner, ResidentBase)
        with function.runner.held() as interpreter:
            told[function.runner] = drift_warnings(program, interpreter.base)
    return function


def read_call(message: Message) -> tuple[str, Options]:
    """Return a request's input and options. FormatError or OptionError for what is none."""
    text, options = message.get("input"), message.get("options")
    if not isinstance(text, str) or not isinstance(options, dict):
        raise FormatError("a request has no input, or no options")
    try:
        return text, Options(**options)
    except TypeError as error:
        raise OptionError(f"a request's options are wrong: {error}") from error


def answer_of(house: House, number: int, function: Function, result: Result) -> Message:
    """Return what is answered to a call; the threshold is what its labels carry."""
    output = result.output
    return {
        "id": number,
        "op": "result",
        "record": result.record(),
        "program_id": function.program.id,
        "threshold": output.threshold if isinstance(output, Labels) else None,
        "warnings": doubts_of(house, function),
    }


def doubts_of(house: House, function: Function) -> list[str]:
    """Return what is to be said of a program on its base."""
    assert isinstance(function.runner, ResidentBase)
    return house.doubts[function.program][function.runner]
