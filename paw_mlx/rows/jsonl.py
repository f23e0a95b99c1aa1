"""JSON lines: an object with the input in one field, or a string; blank lines are skipped."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from copy import copy
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..errors import FormatError, NotFound, PawError, listed
from ..output import Schema
from ..runner import Result
from .row import INPUT, Added, Reader, Row, choose_field, find_field, free_name, whole_lines
from .source import Input, Lines, decode_line
from .target import Seal

_AHEAD = 64  # rows that are searched for one that is sound


class JsonlReader:
    """An object a line, or a string, which stands for {"input": string}."""

    def __init__(self, source: Input, name: str | None) -> None:
        self._name, self.num_rows = name, 0
        self.columns: list[str] = []
        ahead: list[bytes] = []
        found = (line for line in source.lines if line and line.strip())
        for line in islice(found, _AHEAD):
            ahead.append(line)
            text, fields, fault = _parse_row(line)
            self.columns = list(fields)
            if fault:
                continue
            if text.startswith("{"):
                self._name = choose_field(name, self.columns)
            break
        self._lines: Lines = chain(ahead, source.lines)

    def read_on(self, source: Input) -> JsonlReader:
        """Return what reads another source with the same field, whatever its first row has."""
        reader = copy(self)
        reader.num_rows, reader._lines = 0, source.lines
        return reader

    def __iter__(self) -> Iterator[Row | None]:
        for line in self._lines:
            if line is None:
                yield None
            elif line.strip():
                self.num_rows += 1
                yield self._row(self.num_rows, line)

    def _row(self, number: int, line: bytes) -> Row:
        text, fields, fault = _parse_row(line)
        if fault or not text.startswith("{"):
            return Row(number, fields[INPUT], fault, fields, dumps(fields))
        name = find_field(self._name, [*fields])
        if name and isinstance(fields[name], str):
            return Row(number, fields[name], None, fields, text)
        if name:
            fault = FormatError(f"the field {name!r} is no text")
        else:
            have = listed([*fields]) or "none"
            fault = FormatError(f"there is no field {self._name or INPUT!r}: the row has {have}")
        return Row(number, "", fault, fields, text)


class JsonlWriter:
    """Objects: own fields, then the output or an error {"code", "message"}.

    An output is text, JSON of its own if its type is a schema, or null where a label was too
    unlikely to be said. One that was cut before its end has "finish_reason": "length" beside it.
    """

    head = b""

    def __init__(self, source: Reader, added: Added) -> None:
        self.copies, self._added = isinstance(source, JsonlReader), added
        self.seal: Seal | None = None

    def row(self, row: Row, answer: Result | PawError) -> bytes:
        """Write an object; its own fields as they stand, if they are JSON."""
        added: dict[str, Any] = {}
        if isinstance(answer, PawError):
            name = free_name("error", row.fields, self._added.output)
            added[name] = answer.record(hints=False)
        else:
            added = self._gain(row, answer)
        if self._added.file:
            added[self._added.file] = row.file
        if self._added.row:
            added[self._added.row] = row.number
        own = (row.raw if self.copies else dumps(row.fields))[:-1].rstrip()
        comma = "" if own == "{" else ", "
        return f"{own}{comma}{dumps(added)[1:]}\n".encode()

    def _gain(self, row: Row, answer: Result) -> dict[str, Any]:
        """Return what a row gains by its output."""
        added: dict[str, Any] = {self._added.output: said(answer)}
        if not answer.is_whole:
            name = free_name("finish_reason", row.fields, self._added.output)
            added[name] = answer.finish_reason
        if answer.decision and self._added.probability:
            added[self._added.probability] = answer.decision.probability
        if answer.decision and self._added.decided:
            name = free_name("decision", row.fields, self._added.output)
            added[name] = answer.decision.record()
        return added

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Find the lines that have an end; unordered rows say their numbers."""
        for number, line in whole_lines(lines):
            yield len(line), json.loads(line)[self._added.row] if self._added.row else number


def read_jsonl(path: Path, what: str) -> Iterator[tuple[int, Any]]:
    """Read a JSONL file of `what`: the number and the value of each line that is not blank.

    NotFound, or FormatError, which names a line that is no JSON.
    """
    for number, line in numbered_lines(path, what):
        yield number, json_line(path, number, line)


def numbered_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """Read the lines of a text file that are not blank; NotFound, or FormatError for none.

    A byte order mark begins a line where files were joined, and is no part of it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {path} as UTF-8 text: {error}") from error
    lines = [line.removeprefix("\ufeff") for line in lines]
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise FormatError(f"{path} holds no {what}")
    return numbered


def json_line(path: Path, number: int, line: str) -> Any:
    """Return the value of one line of a JSONL file; FormatError names the line."""
    return _parse(line, f"{path}, line {number}: ")


class JsonText(str):
    """A value that is written already, as JSON."""

    __slots__ = ()


def said(answer: Result) -> str | JsonText | None:
    """Return an output as `dumps` takes it: JSON if its type is a schema, None if none was said."""
    if answer.decision and answer.decision.abstained and not answer.text:
        return None
    whole = isinstance(answer.output, Schema) and answer.is_whole
    return JsonText(answer.text) if whole else answer.text


def dumps(fields: Mapping[str, Any]) -> str:
    """Return an object as JSON that people read; `JsonText` in it stays as it is."""
    members = (f"{_dump(name)}: {_dump(value)}" for name, value in fields.items())
    return "{" + ", ".join(members) + "}"


def as_base64(data: bytes) -> str:
    """Return bytes as a format of text has them."""
    return b64encode(data).decode()


def _dump(value: Any) -> str:
    """Return JSON as people read it; escaped where it holds half a character."""
    if isinstance(value, JsonText):
        return value
    text = json.dumps(as_base64(value) if isinstance(value, bytes) else value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _parse(text: str, where: str = "") -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}no valid JSON ({error})") from error


def _parse_row(line: bytes) -> tuple[str, dict[str, Any], FormatError | None]:
    """Return a line's text and its fields; if it is no row, also what is wrong with it."""
    text, fault = decode_line(line)
    text = text.strip()
    whole = {INPUT: text}
    if fault:
        return text, whole, fault
    try:
        value = _parse(text)
    except FormatError as error:
        return text, whole, error.with_traceback(None)
    if isinstance(value, dict):
        return text, value, None
    if isinstance(value, str):
        return text, {INPUT: value}, None
    return text, whole, FormatError("neither an object nor a string")
