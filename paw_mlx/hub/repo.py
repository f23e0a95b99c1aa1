"""A place on the Hugging Face hub, and which of its files a base, an adapter or a compiler takes.

Code and other pickles than a compiler's mapper and an adapter's weights are never asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import exists, find_files, read_errors

_REPO = re.compile(r"(?P<id>\w[^/@\s]*/[^/@\s]+)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>[^@]+))?")


@dataclass(frozen=True)
class Repo:
    """A place on the Hugging Face hub, as its reference names it."""

    id: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, reference: str) -> Repo | None:
        """Return the repo, or the file in one, that a reference names; None if it names none."""
        match = _REPO.fullmatch(reference)
        return cls(**match.groupdict()) if match else None

    @property
    def is_gguf(self) -> bool:
        """Whether one GGUF file is meant, going by the names."""
        return self.file is not None or "gguf" in self.id.lower()

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.id}{at}" + (f"/{self.file}" if self.file else "")


@dataclass(frozen=True)
class Wanted:
    """Which of a repo's files are asked for, and how to tell which of them a folder lacks."""

    what: str
    patterns: tuple[str, ...]
    ignored: tuple[str, ...]
    lacking: Callable[[Path], list[str]]
    folder: str = ""  # in the repo, where all of it lies, if not at its top

    def below(self, folder: str) -> Wanted:
        """Return the same, wanted of a folder in a repo."""
        patterns = tuple(f"{folder}/{pattern}" for pattern in self.patterns)

        def lacking(top: Path) -> list[str]:
            return [f"{folder}/{name}" for name in self.lacking(top / folder)]

        return Wanted(self.what, patterns, (), lacking, folder)


def _lacking(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not exists(folder / name)]


def _lacking_weights(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not any(path.exists() for path in find_files(folder, "*.safetensors")):
        return ["*.safetensors"]
    if not exists(index):
        return []
    try:
        with read_errors(index):
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return ["a readable model.safetensors.index.json"]
    return _lacking(folder, sorted(str(name) for name in shards))


def _lacking_base(folder: Path) -> list[str]:
    return [*_lacking(folder, ("config.json", "tokenizer.json")), *_lacking_weights(folder)]


def _lacking_adapter(folder: Path) -> list[str]:
    has_weights = any(exists(folder / name) for name in _ADAPTERS)
    return _lacking(folder, ["adapter_config.json"]) + ([] if has_weights else [_ADAPTERS[0]])


def _lacking_compiler(folder: Path) -> list[str]:
    lacking = _lacking(folder, ["meta.json"])
    lacking += [f"compiler/{name}" for name in _lacking_base(folder / "compiler")]
    if not exists(folder / "mapper.safetensors"):
        lacking += _lacking(folder, ["lora_mapper.pt"])
    return lacking


_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")
_TEXTS = ("*.json", "*.jinja", "merges.txt")
_WEIGHTS = "*.safetensors"
# Adapters and Mistral's own copy of the weights beside a base are no part of it.
_BESIDES = (*_ADAPTERS, "*_adapters.safetensors", "consolidated*.safetensors")
BASE = Wanted("base", (*_TEXTS, _WEIGHTS), ("*/*", *_BESIDES), _lacking_base)
GGUF = Wanted("GGUF base", ("*.gguf",), ("*/*",), _lacking_base)
ADAPTER = Wanted(
    "adapter",
    ("adapter_config.json", *_ADAPTERS),
    ("*/*",),
    _lacking_adapter,
)
_ENCODER = tuple(f"compiler/{pattern}" for pattern in (*_TEXTS, _WEIGHTS))
COMPILER = Wanted(
    "compiler",
    ("meta.json", "lora_mapper.pt", "mapper.safetensors", *_ENCODER),
    (),
    _lacking_compiler,
)
