"""The short way of `paw-mlx run`: a running daemon is asked, without click, numpy or MLX.

What it does not understand, and all where no daemon runs, is left to the long way (`cli`), which
says the same. What it understands it takes as the long way does; a test holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import program_names, settings
from .client.places import absolute
from .client.stamps import file_key, read_file
from .client.wire import Wire, find_wanted
from .errors import PawError
from .files import exists
from .rows.pipes import decode, read_all
from .streams import encodable
from .words import harmless

_FLAGS = {"--json", "--offline", "--strict"}
_VALUES = {
    "--max-tokens": int,
    "--temperature": float,
    "--seed": int,
    "--overflow": str,
    "--interpreter": str,
}


class Asked(NamedTuple):
    """A call as it was asked for; `input` None is read from standard input."""

    program: str
    input: str | None
    options: dict[str, Any]
    base: dict[str, Any]
    as_json: bool


def run(words: Sequence[str]) -> int | None:
    """Do `run` with these arguments; return its exit code, or None to have it done the long way.

    Errors, and a daemon that goes away in the middle, leave it to the long way, too, with what was
    read of standard input: nothing is printed yet.
    """
    try:
        asked = parse(words)
        path = asked and _find(asked.program)
        wire = path and find_wanted()
    except PawError:
        return None
    if not (asked and path and wire):
        return None
    data = None
    try:
        if (text := asked.input) is None:
            data = read_all(sys.stdin.fileno())
            text = decode(data, "standard input")
        answer = _ask(wire, path, asked, text) if text or data is None else {}
    except PawError:
        answer = {}
    finally:
        wire.close()
    if answer.get("op") != "result" or answer["warnings"]:
        from .cli import run_words

        return run_words(["run", *words], data)
    try:
        _print(answer, asked)
    except PawError as error:  # standard output takes no more
        from .cli.command import Failure

        Failure(error, asked.as_json, among_rows=False).show()
        return 1
    return 0


def parse(words: Sequence[str]) -> Asked | None:
    """Read the arguments of `run`; None for what only the long way understands."""
    options, flags, places, rest = dict[str, Any](), set[str](), list[str](), [*words]
    while rest:
        word = rest.pop(0)
        if word == "--":
            places += rest
            break
        name, equals, value = word.partition("=")
        if name in _VALUES and (equals or rest):
            try:
                options[name[2:].replace("-", "_")] = _VALUES[name](
                    value if equals else rest.pop(0)
                )
            except ValueError:
                return None
        elif word in _FLAGS:
            flags.add(word[2:])
        elif word.startswith("-") and word != "-":
            return None
        else:
            places.append(word)
    text = places[1] if len(places) == 2 and places[1] != "-" else None
    if not 1 <= len(places) <= 2 or (len(places) == 1 and sys.stdin.isatty()):
        return None
    base: dict[str, Any] = {name: True for name in ("offline", "strict") if name in flags}
    if settings.offline():
        base["offline"] = True
    if reference := options.pop("interpreter", None):
        base["interpreter"] = absolute(reference)
    return Asked(places[0], text, options, base, "json" in flags)


def _find(reference: str) -> Path | None:
    """Return a program's file, by its name in the store or its path; None if it is elsewhere."""
    if program_names.is_reference(reference) and (stored := program_names.find_file(reference)):
        return stored
    path = Path(reference)
    return path if path.suffix == ".paw" and exists(path) and path.is_file() else None


def _ask(wire: Wire, path: Path, asked: Asked, text: str) -> dict[str, Any]:
    """Return the daemon's answer; the program's bytes are sent if it lacks them."""
    key = file_key(path)
    request = {
        "id": 1,
        "op": "run",
        "program": {"key": key} | asked.base,
        "input": text,
        "options": asked.options,
    }
    wire.send(request)
    answer = wire.receive()
    if answer["op"] == "unknown":
        wire.send({"id": 2, "op": "put", "key": key}, read_file(path, key))
        wire.send(request)
        answer = wire.receive()
    return answer


def _print(answer: dict[str, Any], asked: Asked) -> None:
    record = answer["record"]
    text = record["text"]
    if asked.as_json:
        text = encodable(record | {"program_id": answer["program_id"]}, sys.stdout.encoding)
    sys.stdout.write(f"{harmless(text) if sys.stdout.isatty() else text}\n")
    sys.stdout.flush()
    whole = record["finish_reason"] != "length" and not record["cut_tokens"]
    if not whole or record.get("abstained"):
        from .cli.run import say_cut, say_doubts

        say_cut(record["cut_tokens"])
        if not asked.as_json:
            say_doubts(record, answer["threshold"], asked.options.get("max_tokens"))
