"""What agents are shown of programs that nobody vouches for, and what they hand to tools."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from paw_mlx.errors import PawError
from paw_mlx.formats.untrusted import json_object
from paw_mlx.output import read_record
from paw_mlx.serving.mcp import lines
from paw_mlx.serving.mcp.actions import COMPILE, FIX, TEST
from paw_mlx.serving.mcp.arguments import check_arguments
from paw_mlx.serving.mcp.catalog import Offer
from paw_mlx.serving.mcp.tools import MAX_NAME_CHARS, Tool, function_tools, visible
from paw_mlx.store import StoredVersion

from ..json_values import json_mutation, lines_mutation
from ..target import Target, check_sentence

_LINE_BYTES = 4096  # here, in the place of 16 MiB
_ACTIONS = {tool.name: tool for tool in (COMPILE, TEST, FIX)}
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}}")


def mcp_lines(sandbox: Path) -> Target:
    """Standard input: each line as it is, for one that is too long an empty one."""
    lines.MAX_LINE_BYTES = _LINE_BYTES

    def fits(line: bytes) -> bool:
        return len(line) < _LINE_BYTES or (len(line) == _LINE_BYTES and line.endswith(b"\n"))

    def read(data: bytes) -> None:
        file = io.BytesIO(data)
        found = [*iter(lambda: lines._read_line(file), b"")]
        assert found == [line if fits(line) else b"\n" for line in io.BytesIO(data)]

    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode() + b"\n"
    seeds = [3 * line, line + b"x" * (_LINE_BYTES - 1) + b"\n" + line, b"y" * 3 * _LINE_BYTES]
    return Target("mcp-lines", seeds, read, lines_mutation)


def mcp_tools(sandbox: Path) -> Target:
    """Functions as tools, and arguments for each of them."""

    def read(data: bytes) -> None:
        given = json_object(data, "the input")
        tools = function_tools(_offers(given.get("functions")), _ACTIONS)
        for name, (tool, _) in tools.items():
            assert name == tool.name not in _ACTIONS
            _check_tool(tool)
        for tool in [*(tool for tool, _ in tools.values()), *_ACTIONS.values()]:
            _check_arguments(tool, given.get("arguments"))

    return Target("mcp-tools", _seeds(), read, json_mutation)


def _offers(given: Any) -> list[Offer]:
    """Return what a store of such programs would offer: their names are a store's."""
    found = {}
    for number, one in enumerate(given[:8] if isinstance(given, list) else []):
        if isinstance(one, dict) and isinstance(one.get("spec"), str):
            stored = StoredVersion(f"one/{number}", 1, 1, Path("x"), 0.0, True, 0)
            reference = re.sub(r"[^a-z0-9._/@-]", "-", str(one.get("reference")))[:200] or "x"
            output = read_record(one.get("output"))
            found[reference] = Offer(reference, stored, one["spec"], output, "x", "0" * 32)
    return [*found.values()]


def _check_tool(tool: Tool) -> None:
    """Assert that clients take a tool, and that their models read what people see."""
    assert _NAME.fullmatch(tool.name), f"a name that some clients refuse: {tool.name!r}"
    assert len(tool.description) <= 2000
    assert visible(tool.description) == tool.description
    told = [tool.title, tool.description, tool.input_schema, tool.output_schema]
    json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    if tool.output_schema is not None:
        assert tool.output_schema["type"] == "object"


def _check_arguments(tool: Tool, given: Any) -> None:
    try:
        check_arguments(tool.input_schema, given if isinstance(given, dict) else None)
    except PawError as error:
        check_sentence(error)


def _seeds() -> list[bytes]:
    schema = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/word"}]}}
    schema |= {"$defs": {"word": {"type": "string", "enum": ["$ref", "b"]}}}
    outputs = [
        None,
        {"type": "labels", "labels": ["ALERT", "QUIET"], "threshold": 0.9, "otherwise": "unsure"},
        {"type": "schema", "schema": schema},
        {"type": "schema", "schema": {"type": "object", "properties": {"a": {"const": 1}}}},
        {"type": "regex", "regex": "[a-z]{1,3}"},
    ]
    functions = [
        {"reference": name, "spec": "Is the disk full? é\u200b " * size, "output": output}
        for name, size, output in zip(
            ("mail", "me/mail", "me.mail", "mail@v1", "compile_function"),
            (1, 3, 200, 1, 1),
            outputs,
            strict=True,
        )
    ]
    arguments = [
        {"input": "the disk"},
        {"function": "mail", "input": "the disk", "expected": "ALERT"},
        {"spec": "Is the disk full?", "name": "me/disk", "labels": ["yes", "no"]},
    ]
    said = [{"functions": functions, "arguments": one} for one in arguments]
    said += [{"functions": functions[at : at + 2], "arguments": {}} for at in range(4)]
    return [json.dumps(one).encode() for one in said]
