"""Program and Template: pure data, no input or output.

A program is a prompt and a LoRA. `formats.load` and `formats.save` move it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .adapter import Adapter
from .errors import FormatError
from .output import TEXT, Output, override

PLACEHOLDER = "{INPUT_PLACEHOLDER}"
_SHOWN = 80  # characters of a text in a repr


@dataclass(frozen=True)
class Template:
    """The rendered prompt around the input: `prefix`, the input, `suffix`."""

    prefix: str
    suffix: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Split a template at its one placeholder; FormatError for none or several."""
        parts = text.split(PLACEHOLDER)
        if len(parts) != 2:
            raise FormatError(
                f"a template needs exactly one {PLACEHOLDER}, and this has {len(parts) - 1}"
            )
        return cls(*parts)

    @property
    def text(self) -> str:
        """The template as a file holds it."""
        return f"{self.prefix}{PLACEHOLDER}{self.suffix}"

    def render(self, text: str) -> str:
        """Return the whole prompt for one input."""
        return f"{self.prefix}{text}{self.suffix}"


@dataclass(frozen=True, eq=False)
class Program:
    """A fuzzy function, compiled: pure data.

    `interpreter` names the base it was made for, as its file does (`Qwen/Qwen3-0.6B`).
    `adapter` is None for a program that is a prompt alone. `meta` is the container's own
    record (`meta.json`), kept as read so that nothing is lost on the way through. `output` is
    the type of its outputs.
    """

    template: Template
    adapter: Adapter | None
    interpreter: str
    spec: str = ""
    pseudo_program: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    output: Output = TEXT

    def __repr__(self) -> str:
        spec = " ".join(self.spec.split())
        told = repr(spec if len(spec) <= _SHOWN else f"{spec[:_SHOWN]}…")
        return f"<Program for {self.interpreter[:_SHOWN]!r}: {told}, {self.adapter!r}>"

    @property
    def id(self) -> str:
        """The program's id: the recorded one, or a hash of prompt and adapter (32 hex)."""
        return str(self.meta.get("program_id") or self.digest())

    def typed(self, output: Output | None) -> Program:
        """Return the program with outputs of another type (None: its own), as `override` has it."""
        made = self.output if output is None else override(self.output, output)
        alike = made == self.output and made.build is self.output.build
        return self if alike else replace(self, output=made)

    def is_typed(self, other: Program) -> bool:
        """Return whether another program is this one, but for the type of its outputs."""
        return (
            self.adapter is other.adapter
            and (
                (self.template, self.interpreter, self.spec)
                == (other.template, other.interpreter, other.spec)
            )
            and self.meta == other.meta
        )

    def digest(self, *, typed: bool = True) -> str:
        """Hash what the program computes: interpreter, template, adapter, output (32 hex).

        Not `typed`, without the type of its outputs: what a forward pass depends on.
        """
        if not typed or self.output == TEXT:
            return self._digest
        record = json.dumps(self.output.record(), sort_keys=True)
        return hashlib.sha256(f"{self._digest} {record}".encode()).hexdigest()[:32]

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.interpreter}\0{self.template.text}\0".encode())
        for site, lora in sorted(self.adapter.sites.items()) if self.adapter else ():
            digest.update(f"{site} {lora.A.dtype} {lora.B.dtype} {lora.alpha!r}\0".encode())
            digest.update(lora.A.data.tobytes())
            digest.update(lora.B.data.tobytes())
        return digest.hexdigest()[:32]
