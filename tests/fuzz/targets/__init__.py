"""The targets, by name; each is made when it is fuzzed, with a folder of its own to write to."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ..target import Target

_TESTS = Path(__file__).parents[2]
for _beside in ("", "convert"):  # where what other tests share can be imported from
    sys.path.append(str(_TESTS / _beside))

# Name -> the module beside this one that makes it.
TARGETS: Mapping[str, str] = {
    "paw": "containers",
    "folder": "containers",
    "paw-v2": "containers",
    "meta": "containers",
    "gguf": "adapters",
    "safetensors": "adapters",
    "peft-config": "adapters",
    "mlx-config": "adapters",
    "receipt": "adapters",
    "pickle": "torch_files",
    "torch-zip": "torch_files",
    "compiler": "torch_files",
    "gguf-file": "bases",
    "gguf-base": "bases",
    "base": "bases",
    "base-config": "bases",
    "tokenizer": "bases",
    "spec": "outputs",
    "schema": "outputs",
    "regex": "outputs",
    "gate": "outputs",
    "cases": "outputs",
    "records": "records",
    "checkpoint": "records",
    "csv": "rows",
    "jsonl": "rows",
    "lines": "rows",
    "packed-rows": "rows",
    "parquet": "rows",
    "sqlite": "rows",
    "frames": "daemon",
    "session": "daemon",
    "http": "http",
    "mcp-lines": "agent_tools",
    "mcp-tools": "agent_tools",
    **({"mcp": "agents"} if find_spec("mcp") else {}),  # no test needs that package
}


def make(name: str, sandbox: Path) -> Target:
    """Make a target, its seeds written by our own writers."""
    module = import_module(f".{TARGETS.get(name, name)}", __name__)
    made: Target = getattr(module, name.replace("-", "_"))(sandbox)
    assert made.name == name
    return made
